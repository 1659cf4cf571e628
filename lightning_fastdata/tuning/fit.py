"""Making a plan smaller until it fits: into memory, shared memory and open files."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from lightning_fastdata.plan import EngineName
from lightning_fastdata.tuning.wording import size_words

MEMORY_FRACTION = 0.5  # of what is free, for batches in flight; the rest is other people's
FILES_FRACTION = 0.25  # of the files that may still be opened, for the same reason
TENSORS_A_BATCH = 4  # guess: torch's workers send each tensor of a batch as an open file
NO_LIMIT = 1 << 30
IN_USE = 2  # batches in the loop's hands while others are in flight


@dataclass(kw_only=True, slots=True)
class Draft:
    """A plan in the making."""

    num_workers: int
    prefetch_factor: int = 2
    reasons: dict[str, str] = field(default_factory=dict)
    shortage: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What batches in flight may take; ``None`` is not known."""

    memory_bytes: int | None
    shm_bytes: int | None
    files: int | None
    batch_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Limit:
    fits: int
    """Batches in flight."""
    why: str
    remedy: str


def fit(draft: Draft, engine: EngineName, room: Room, *, prefetch_is_fixed: bool) -> None:
    """Take batches in flight away, then workers, until what is left fits.

    A number that the user fixed is kept where it can be; but workers that cannot have a batch each
    would end in a bus error or in "too many open files".
    """
    wanted = draft.num_workers * draft.prefetch_factor
    tight = min(_limits(engine, room, wanted), key=lambda limit: limit.fits, default=None)
    if tight is None or wanted <= tight.fits:
        return
    before = f"{draft.num_workers} workers with {wanted} batches in flight"
    if not prefetch_is_fixed:
        draft.prefetch_factor = max(1, tight.fits // draft.num_workers)
        draft.reasons["prefetch_batches"] = tight.why
    if draft.num_workers * draft.prefetch_factor > tight.fits:
        draft.num_workers = max(0, tight.fits // draft.prefetch_factor)
        draft.reasons["num_workers"] = draft.reasons["engine"] = f"{tight.why}; {tight.remedy}"
    left = f"{draft.num_workers} with {draft.num_workers * draft.prefetch_factor}"
    instead = left if draft.num_workers else "none, and batches are made in this process"
    draft.shortage = f"{tight.why}: instead of {before} there are {instead}. To have all: " + (
        f"{tight.remedy}."
    )


def most_that_fit(engine: EngineName, room: Room) -> int:
    """Batches that may be in flight, 0 or more; a large number where nothing limits them."""
    return max(0, min((limit.fits for limit in _limits(engine, room, 0)), default=NO_LIMIT))


def _limits(engine: EngineName, room: Room, wanted: int) -> Iterator[_Limit]:
    size = room.batch_bytes
    needs = int((wanted + IN_USE) * (size or 0) / MEMORY_FRACTION)
    if size and room.memory_bytes is not None:
        yield _Limit(
            fits=int(room.memory_bytes * MEMORY_FRACTION // size) - 1,
            why=f"{size_words(room.memory_bytes)} of memory are free and a batch takes "
            f"{size_words(size)}",
            remedy=f"have {size_words(needs)} free, or use a smaller batch_size",
        )
    if size and room.shm_bytes is not None and engine == "torch":  # slots are not in /dev/shm
        yield _Limit(
            fits=int(room.shm_bytes * MEMORY_FRACTION // size) - 1,
            why=f"{size_words(room.shm_bytes)} of shared memory (/dev/shm) are free and a batch "
            f"takes {size_words(size)}",
            remedy=f"in Docker pass --shm-size={-(-needs // 2**20)}m",
        )
    if room.files is not None:
        each = TENSORS_A_BATCH if engine == "torch" else 1
        needs = int((wanted + IN_USE) * each / FILES_FRACTION)
        yield _Limit(
            fits=int(room.files * FILES_FRACTION) // each - IN_USE,
            why=f"{room.files} more files may be opened (ulimit -n), and batches take {each} each",
            remedy=f"raise the limit by {needs - room.files}",
        )
