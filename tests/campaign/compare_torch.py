"""What does torch's own loader do under each fault, and what does FastDataLoader do?

Run ``python tests/campaign/compare_torch.py [--json FILE] [--only PART_OF_A_NAME]``. Each fault has
a process of its own, which loads 64 samples in batches of 4 with two forked workers. What has not
ended ``--limit`` seconds after its first batch was asked for counts as hanging, and is killed.

    torch            DataLoader as it is
    torch_timeout    with timeout=5
    fastdata         FastDataLoader with sample_timeout_s=2, in place of at least a minute
    fastdata_skip    the same with on_bad_sample="skip"
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types
from fault_cases import FAULTS, Fault
from faulty_sets import AT, Numbers
from torch.utils.data import DataLoader

LIMIT_S, GONE_WITHIN_S, START_MAY_TAKE_S = 20.0, 5.0, 120.0
LOADERS: dict[str, dict[str, Any]] = {
    "torch": {},
    "torch_timeout": {"timeout": 5},
    "fastdata": {"sample_timeout_s": 2.0},
    # One sample of 64 is more than the usual limit of 1 %.
    "fastdata_skip": {"sample_timeout_s": 2.0, "on_bad_sample": "skip", "max_bad_fraction": 0.05},
}
SMALL_SHM = ["unshare", "-m", "sh", "-c"]
SMALL_SHM += ['mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]


def loader_of(name: str, dataset: Numbers, how: dict[str, Any]) -> Any:
    start: dict[str, Any] = {"multiprocessing_context": "fork"}
    how = start | {"batch_size": 4, "num_workers": 2} | how | LOADERS[name]
    if name.startswith("torch"):
        return DataLoader(dataset, **how)
    from lightning_fastdata import FastDataLoader  # here: torch's rows are torch's alone

    return FastDataLoader(dataset, **how)


def be_the_training_process(fault: Fault, loader_name: str, folder: str) -> None:
    """Load as a script would, and tell on standard output how that went."""
    dataset = fault.make(folder)
    print("begun", flush=True)
    begun_s = time.monotonic()

    def tell(values: list[int] | None, error: str | None) -> None:
        told: dict[str, Any] = {"values": values, "error": error}
        told["time_s"] = round(time.monotonic() - begun_s, 2)
        told["warnings"] = sorted(
            {f"{each.category.__name__}: {shortened(str(each.message))}" for each in heard}
        )
        print(json.dumps(told).replace(f"{folder}/", ""), flush=True)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            loader = loader_of(loader_name, dataset, fault.how)
            tell(fault.run(loader, dataset), None)
        except Exception as error:  # told before the pass is cleaned up, which may take for ever
            notes = getattr(error, "__notes__", [])
            tell(None, "\n".join([f"{type(error).__name__}: {error}", *notes]))


def observe(fault: Fault, loader_name: str, limit_s: float) -> dict[str, Any]:
    """Run one fault in a process of its own, and leave nothing of it."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as tell:
        said, groaned = Path(tell, "said"), Path(tell, "groaned")
        command = [sys.executable, __file__, "--child", fault.name, "--folder", folder]
        command = [*(SMALL_SHM if fault.small_shm else []), *command, "--loaders", loader_name]
        with said.open("w") as out, groaned.open("w") as err:
            child = psutil.Popen(command, stdout=out, stderr=err, start_new_session=True)
        try:
            ready = Path(folder, "once") if fault.kills_parent else said
            if not wait_until(lambda: is_ready(ready) or child.poll() is not None):
                raise RuntimeError(f"{fault.name} with {loader_name} did not start")
            if fault.kills_parent:
                return after_its_death(child)
            hangs = not wait_until(lambda: child.poll() is not None, limit_s)
            lines = said.read_text().splitlines()
            told = json.loads(lines[1]) if len(lines) > 1 else None
            row: dict[str, Any] = {"verdict": "hangs", "limit_s": limit_s}
            if told is not None or not hangs:
                row = judged(fault, told)
            if told is None and not hangs:
                row |= {"exit": child.returncode, "error": groaned.read_text()[-2000:]}
            if told is not None and hangs:
                row["verdict"] += ", but the process does not end"
            return row | {"left_processes": len(left_of(session_of(child)))}
        finally:
            end(child)


def is_ready(path: Path) -> bool:
    return path.exists() and (path.name == "once" or path.stat().st_size > 0)


def judged(fault: Fault, told: dict[str, Any] | None) -> dict[str, Any]:
    """Say what became of the pass: whether each sample came once, and with its own value."""
    if told is None:
        return {"verdict": "dies"}
    row = {key: told[key] for key in ("time_s", "error", "warnings")}
    if told["error"] is not None:
        named = re.search(r"\b(?:sample|index)\W{1,2}(\d+)", told["error"])
        row["error"] = shortened(told["error"])
        row["names_sample"] = named is not None and int(named[1]) >= AT
        return row | {"verdict": "ends with an error"}
    wanted, found = Counter(range(fault.length)), Counter(told["values"])
    lost, extra = sorted((wanted - found).elements()), sorted((found - wanted).elements())
    row |= {"lost": len(lost), "extra": len(extra), "first_lost": lost[:5]}
    if not lost and not extra:
        return row | {"verdict": "goes on, nothing lost"}
    if lost == [AT] and len(extra) == 1:
        return row | {"verdict": f"goes on, {extra[0]} in place of {AT}"}
    return row | {"verdict": f"goes on with {len(lost)} of {fault.length} samples wrong"}


def shortened(error: str) -> str:
    """Leave tracebacks out of a message: they hold the paths of this machine."""
    places = (
        '  File "',
        "    ",
        "Original Traceback",
        "Current thread",
        "Thread 0x",
        "Extension modules",
    )
    return "\n".join(line for line in error.splitlines() if line and not line.startswith(places))


def after_its_death(child: Any) -> dict[str, Any]:
    """Kill the training process, and look what is left of it."""
    family = session_of(child)
    ids = {str(process.pid) for process in family}
    child.kill()
    child.wait()
    killed_s = time.monotonic()
    is_gone = wait_until(lambda: not any(map(is_alive, family)), GONE_WITHIN_S)
    left, files = list(filter(is_alive, family)), shared_files_of(ids)
    row: dict[str, Any] = {"left_processes": len(left), "left_files": len(files)}
    row["time_s"] = round(time.monotonic() - killed_s, 2)
    if is_gone and not files:
        return row | {"verdict": "nothing left"}
    is_gone = wait_until(lambda: not any(map(is_alive, family)), LIMIT_S)
    row["time_s"] = round(time.monotonic() - killed_s, 2) if is_gone else None
    for process in filter(is_alive, family):
        process.kill()
    return row | {"verdict": f"{len(left)} processes, {len(files)} files left after 5 s"}


def shared_files_of(ids: set[str]) -> list[str]:
    """Files in /dev/shm that torch named after one of these processes."""
    names = [name for name in os.listdir("/dev/shm") if name.startswith("torch_")]
    return [name for name in names if ids & set(name.split("_"))]


def session_of(child: Any) -> list[Any]:
    """Every process that this child started, orphans as well: they keep its session."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == child.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_of(family: list[Any]) -> list[Any]:
    wait_until(lambda: not any(map(is_alive, family)), GONE_WITHIN_S)
    return list(filter(is_alive, family))


def is_alive(process: Any) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def end(child: Any) -> None:
    for process in session_of(child):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    child.wait()


def wait_until(holds: Callable[[], bool], limit_s: float = START_MAY_TAKE_S) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not (held := holds()) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return held


def why_not_run(fault: Fault) -> str | None:
    """Whether this machine lets us do it: a small /dev/shm needs a mount of our own."""
    if not fault.small_shm:
        return None
    tried = subprocess.run([*SMALL_SHM, "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--only", default="", help="part of the names of the faults to try")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds until it hangs")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        (fault,) = [fault for fault in FAULTS if fault.name == given.child]
        be_the_training_process(fault, given.loaders[0], given.folder)
        return
    from lightning_fastdata.machine import facts, read_machine

    machine = facts(read_machine(os.environ))
    rows: list[dict[str, Any]] = []
    for fault in FAULTS:
        if given.only not in fault.name:
            continue
        for loader in given.loaders:
            row: dict[str, Any] = {"fault": fault.name, "loader": loader}
            if reason := why_not_run(fault):
                row["verdict"] = f"not run: {reason}"
            else:
                row |= observe(fault, loader, given.limit)
            print(json.dumps(row), flush=True)
            rows.append(row | {"machine": machine})
    print(table_of(rows, given.loaders))
    if given.json is not None:
        given.json.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table_of(rows: list[dict[str, Any]], loaders: list[str]) -> str:
    """One line a fault and one column a loader, as Markdown."""
    told: dict[str, dict[str, str]] = {}
    for row in rows:
        words = str(row["verdict"]) + (", names the sample" if row.get("names_sample") else "")
        if any(each.startswith("HazardWarning") for each in row.get("warnings", ())):
            words += ", after a warning"
        time_s = f" ({row['time_s']:.1f} s)" if row.get("time_s") is not None else ""
        told.setdefault(row["fault"], {})[row["loader"]] = words + time_s
    lines = [["fault", *loaders], ["---"] * (len(loaders) + 1)]
    lines += [[fault, *(cells.get(name, "") for name in loaders)] for fault, cells in told.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
