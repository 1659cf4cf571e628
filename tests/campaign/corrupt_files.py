"""Picture files as they are found in the wild: broken, lying, odd, gone. Seeded, from real JPEGs.

``write_tree`` writes them among good ones, in an ImageFolder's layout, and says of each whether it
can be made into a sample.
"""

import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from corrupt_kinds import EITHER, MADE, REFUSED

GOOD = "good"
HUGE_BYTES = 64 * 2**30  # sparse: it takes no disk
Place = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Written:
    """One file of a tree."""

    path: str
    kind: str
    expected: str
    """``"made"``, ``"refused"`` or ``"either"``."""
    vanishes: bool
    """Whether ``vanish`` has to act on it once the folder has been listed."""


def put_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE_BYTES)


def put_socket(path: Path) -> None:
    """Bound by its name alone: a socket's path has room for about 100 bytes."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


# What is not a matter of bytes; all of these are refused.
PLACED: dict[str, Place] = {
    "fifo": lambda path: os.mkfifo(path),
    "socket": put_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "dangling link": lambda path: path.symlink_to("nowhere.jpg"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "64 GiB, sparse": put_huge,
}
if os.geteuid() != 0:  # a superuser may read every file
    PLACED["no permission"] = lambda path: path.touch(mode=0o000)


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


VANISHING: dict[str, Place] = {"vanished": os.unlink, "became a folder": _become_folder}
KINDS = [*MADE, *REFUSED, *EITHER, *PLACED, *VANISHING]


def write_tree(
    root: Path, sources: Sequence[Path], *, corrupt: int, good: int, seed: int
) -> list[Written]:
    """Write good and corrupt files in turn into two class folders.

    Args:
        root: Made here.
        sources: Real JPEGs to start from.
        corrupt: How many files of the kinds above; each kind at least once if that is enough.
        good: How many untouched copies.
        seed: Names every choice.

    Returns:
        The files in the order of an ImageFolder, so the index is the sample's.
    """
    rng = random.Random(seed)
    kinds = [KINDS[at % len(KINDS)] for at in range(corrupt)] + [GOOD] * good
    rng.shuffle(kinds)
    written = []
    for number, kind in enumerate(kinds):
        path = root / f"class{2 * number // len(kinds)}" / f"{number:04d} {kind}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, kind, rng.choice(sources).read_bytes(), rng)
        written.append(
            Written(
                path=str(path), kind=kind, expected=expected_of(kind), vanishes=kind in VANISHING
            )
        )
    return written


def _write(path: Path, kind: str, source: bytes, rng: random.Random) -> None:
    makers = MADE | REFUSED | EITHER
    if kind in PLACED:
        PLACED[kind](path)
    else:
        path.write_bytes(makers[kind](source, rng) if kind in makers else source)


def expected_of(kind: str) -> str:
    if kind in EITHER:
        return "either"
    return "made" if kind in MADE or kind == GOOD else "refused"


def vanish(files: Sequence[Written]) -> None:
    """Let those vanish that do so after the folder has been listed."""
    for file in files:
        if file.vanishes:
            VANISHING[file.kind](Path(file.path))
