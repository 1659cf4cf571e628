"""Reports of made-up runs, where a command finds them."""

from pathlib import Path

from lightning_fastdata.stalls import summarise
from lightning_fastdata.trace import StallTrace, StepTimes


def write_report(folder: Path, wait_ns: int = 30) -> Path:
    """Write the report of a run whose steps compute for 70 ns and wait for ``wait_ns``."""
    trace = StallTrace(clock="host", device_type="cpu")
    for _ in range(50):
        trace.steps_seen += 1
        parts_ns = (wait_ns, 0, 70, 0, 0, 0, 0)
        trace.add(StepTimes(parts_ns=parts_ns, host_wait_ns=wait_ns, samples=4))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(summarise(trace).to_json())
    return folder / "summary.json"
