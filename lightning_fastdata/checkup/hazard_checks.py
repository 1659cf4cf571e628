"""Whether a dataset can be taken over by worker processes, before one is started."""

from typing import Any

from lightning_fastdata.checkup.result import Check
from lightning_fastdata.checkup.subjects import Subject
from lightning_fastdata.checkup.user_code import one_line
from lightning_fastdata.loader.hazards.handles import Handle, find_handles
from lightning_fastdata.loader.hazards.pickling import Unpicklable, find_unpicklable

_NAMED = 3


def check_hazards(subject: Subject, start_method: str) -> list[Check]:
    """Look for what cannot be pickled, and for what is open, held or running.

    Args:
        subject: Its dataset and ``collate_fn`` are looked through; nothing of them is run.
        start_method: How workers are started.
    """
    parts = {"dataset": subject.dataset, "collate_fn": subject.collate_fn}
    found = [_unpicklable(value, name) for name, value in parts.items() if value is not None]
    handles = [each for name, value in parts.items() for each in find_handles(value, name)]
    return [
        _pickling(subject, next((one for one in found if one is not None), None), start_method),
        _handles(subject, handles, start_method),
    ]


def _unpicklable(value: Any, name: str) -> Unpicklable | None:
    try:
        return find_unpicklable(value, name)
    except Exception as error:  # from deep inside somebody's __reduce__
        return Unpicklable(path=name, kind=type(value).__name__, error=one_line(error))


def _pickling(subject: Subject, found: Unpicklable | None, start_method: str) -> Check:
    if found is None:
        return Check(
            name="pickling",
            level="ok",
            found="can be sent to new processes",
            dataset=subject.name,
        )
    return Check(
        name="pickling",
        level="note" if start_method == "fork" else "error",
        found=f"{found.path} ({found.kind}) cannot be sent to new processes: {found.error[:200]}",
        wanted="parts that can be pickled"
        if start_method != "fork"
        else "parts that can be pickled, should workers ever be started with spawn",
        remedy="Leave it out in __getstate__, or make it at the first sample.",
        dataset=subject.name,
    )


def _handles(subject: Subject, handles: list[Handle], start_method: str) -> Check:
    if not handles:
        return Check(
            name="open handles",
            level="ok",
            found="none: no open file, connection, held lock or thread",
            dataset=subject.name,
        )
    named = "; ".join(f"{one.path} is {one.kind}" for one in handles[:_NAMED])
    more = f", and {len(handles) - _NAMED} more" if len(handles) > _NAMED else ""
    first = handles[0]
    return Check(
        name="open handles",
        # Only a warning: a log file is harmless, and samples that come out wrong are told anyway.
        level="warning" if start_method == "fork" else "note",
        found=f"{named}{more}; {first.hazard}",
        wanted="what each worker has for itself",
        remedy=f"{first.remedy[0].upper()}{first.remedy[1:]}, so that each worker has its own.",
        dataset=subject.name,
    )
