"""The list of bad samples: in memory, and in a file that people and the next run read."""

import json
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from lightning_fastdata.errors import BadSampleWarning, SettingsError

_REFUSED, _REPEATS = ".refused", ".repeats"  # files beside the list, which no start reads
_LONGEST_ERROR = 300  # characters kept of an error: enough to see what it is about


@dataclass(frozen=True, kw_only=True, slots=True)
class BadSample:
    """A sample that could not be made."""

    index: Any
    """In the dataset that views and splits finally read from: a whole number, or the sampler's own
    key."""
    path: str | None
    """Its file, where the dataset can name it (``sample_path``)."""
    error: str
    """What it raised, in one line."""
    time: str
    """When it was found (ISO 8601, UTC)."""
    rank: int
    """The process of a distributed run that found it."""

    @classmethod
    def of(cls, index: Any, path: str | None, error: Exception, rank: int) -> "BadSample":
        """Describe a sample by what it raised, now."""
        return cls(
            index=index,
            path=path,
            error=_in_one_line(error),
            time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            rank=rank,
        )


class Quarantine:
    """All bad samples that are known of one dataset.

    The file holds one JSON object a line, a bad sample each: ``index``, ``path``, ``error``,
    ``time``, ``rank``, and ``dataset`` and ``length`` to know its dataset again. Every rank writes
    a file of its own and reads those of all ranks when it starts. Delete a line, or the file, to
    have samples tried again. What took the place of each, in each epoch, stands in a second file
    that nobody reads at a start: ``skipped``, ``repeated``, ``epoch``.

    Args:
        path: The file of rank 0; ``None`` keeps the list in memory only.
        kind: The dataset's class, by name.
        length: Its length.
        rank: This process's.
    """

    def __init__(self, path: Path | None, kind: str, length: int, rank: int) -> None:
        self.path = None if path is None else _of_rank(path, rank)
        self.rank = rank
        self.strangers = 0
        """Lines about another dataset, or that are no records; they are left alone."""
        self._kind, self._length = kind, length
        self._bad: dict[Any, BadSample] = {}
        self._found: list[BadSample] = []
        self._has_disowned = False
        if path is not None and self.path is not None:
            refuse_folder(path)
            _refuse_unwritable(self.path)
            others = path.parent.glob(f"{escape(path.stem)}.rank*{escape(path.suffix)}")
            for file in sorted({path, *others}):
                if not file.stem.endswith((_REFUSED, _REPEATS)):
                    self._read(file)

    def __len__(self) -> int:
        return len(self._bad)

    def __iter__(self) -> Iterator[BadSample]:
        return iter(self._bad.values())

    def __contains__(self, index: Any) -> bool:
        return index in self._bad

    def add(self, bad: BadSample) -> None:
        """Note a bad sample, at once and for good."""
        self._bad[bad.index] = bad
        self._found.append(bad)
        record = {"index": bad.index, "path": bad.path, "error": bad.error, "time": bad.time}
        record |= {"rank": bad.rank, "dataset": self._kind, "length": self._length}
        _append(self.path, [record], lasts=True)

    def note_repeats(self, epoch: int, pairs: list[tuple[Any, Any]]) -> None:
        """Note which samples a batch had in the place of bad ones."""
        records = [
            {"skipped": skipped, "repeated": other, "epoch": epoch} for skipped, other in pairs
        ]
        if self.path is not None:
            _append(self.path.with_name(f"{self.path.stem}{_REPEATS}{self.path.suffix}"), records)

    def disown(self) -> Path | None:
        """Set aside what this process has found, so that no later run believes it.

        Returns:
            The file that it is kept in.
        """
        if self.path is None or not self._found:
            return None
        aside = self.path.with_name(f"{self.path.stem}{_REFUSED}{self.path.suffix}")
        found = {bad.index for bad in self._found}
        text = self.path.read_text(encoding="utf-8", errors="replace")
        stay: list[str] = []
        gone: list[str] = []
        for line in text.splitlines(keepends=True):
            (gone if self._index_of(_parsed(line)) in found else stay).append(line)
        with open(aside, "a" if self._has_disowned else "w", encoding="utf-8") as file:
            file.write("".join(gone))  # batches under way may find more after the first time
        self._has_disowned = True
        self.path.write_text("".join(stay), encoding="utf-8")
        return aside

    def _read(self, file: Path) -> None:
        try:
            with open(file, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    self._take(_parsed(line))
        except FileNotFoundError:
            return
        except OSError as error:
            raise SettingsError(
                f"quarantine={str(file)!r} cannot be read ({error}), wanted a file of JSON lines "
                "or none yet. Pass another path."
            ) from error

    def _take(self, record: Mapping[str, Any]) -> None:
        index = self._index_of(record)
        if index is _NOTHING:
            self.strangers += 1
            return
        self._bad[index] = BadSample(
            index=index,
            path=record.get("path"),
            error=str(record.get("error", "")),
            time=str(record.get("time", "")),
            rank=record["rank"] if isinstance(record.get("rank"), int) else 0,
        )

    def _index_of(self, record: Mapping[str, Any]) -> Any:
        """The sample of this dataset that a record is about, if it is."""
        index = record.get("index")
        is_key = isinstance(index, (int, str)) and not isinstance(index, bool)
        is_ours = (record.get("dataset"), record.get("length")) == (self._kind, self._length)
        return index if is_key and is_ours else _NOTHING


_NOTHING = object()


def _in_one_line(error: Exception) -> str:
    """An error's first line, and the place where a worker's stacks begin."""
    first, _, rest = str(error).strip().partition("\n")
    place = re.search(r'File "(.+)", line (\d+)', rest)
    line = f"{type(error).__name__}: {' '.join(first.split())}"
    if len(line) > _LONGEST_ERROR:
        line = f"{line[:_LONGEST_ERROR]} ..."
    return line if place is None else f"{line} ({place[1]}:{place[2]})"


def _of_rank(path: Path, rank: int) -> Path:
    return path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def _append(path: Path | None, records: list[dict[str, Any]], *, lasts: bool = False) -> None:
    """Write records behind what is there; ``lasts`` waits until the disk has them."""
    if path is None:
        return
    lines = "".join(json.dumps(record, default=repr) + "\n" for record in records)
    try:
        _append_lines(path, lines, lasts=lasts)
    except OSError as error:  # a full disk: training needs the list less than it needs to go on
        warnings.warn(
            f"{path} cannot be written ({error}): {len(records)} lines about bad samples are lost. "
            "Make room on its disk.",
            BadSampleWarning,
            stacklevel=2,
        )


def _append_lines(path: Path, lines: str, *, lasts: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        if file.tell() and not _ends_a_line(path):  # a run was killed while it wrote
            lines = "\n" + lines
        file.write(lines.encode())
        if lasts:
            file.flush()
            os.fsync(file.fileno())


def _parsed(line: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:  # half a line, of a run that was killed while it wrote
        return {}
    return record if isinstance(record, dict) else {}


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _refuse_unwritable(path: Path) -> None:
    """Try now what would else fail at the first bad sample, perhaps after days."""
    is_new, folder_is_new = not path.exists(), not path.parent.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab"):
            pass
    except OSError as error:
        raise SettingsError(
            f"quarantine={str(path)!r} cannot be written ({error}), wanted a file in a folder of "
            "yours. Pass another path."
        ) from error
    if is_new:
        path.unlink(missing_ok=True)
    if folder_is_new:
        with suppress(OSError):  # another rank has begun its list there
            path.parent.rmdir()


def refuse_folder(path: Path) -> None:
    """Refuse a path that cannot become a file.

    Raises:
        SettingsError: If it is a folder.
    """
    if path.is_dir():
        raise SettingsError(
            f"quarantine={str(path)!r} is a folder, wanted a file. Pass for example "
            f"{str(path / 'bad_samples.jsonl')!r}."
        )
