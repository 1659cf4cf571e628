"""Where a loader stands in its epoch: the one thing that is saved and resumed."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lightning_fastdata.errors import ResumeError
from lightning_fastdata.order import EpochKey

_VERSION = 1
_REMEMBERED = 8  # Lightning fetches one batch ahead of an unsized loader; more is never asked for


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far the training loop has got, in batches that it was given, not that were fetched."""

    seed: int
    epoch: int
    cycle: int
    samples: int
    """Positions of the epoch consumed, over all ranks together."""
    batches: int
    """Batches that this rank was given in the epoch."""
    length: int | None
    """Samples in the dataset; ``None`` for a stream."""
    finished: bool
    """Whether the epoch's data has been used up."""

    @property
    def key(self) -> EpochKey:
        """The pass that this is a position of."""
        return EpochKey(seed=self.seed, epoch=self.epoch, cycle=self.cycle)


def position_to_state(position: Position) -> dict[str, Any]:
    """Give plain values that any checkpoint can hold."""
    return {"version": _VERSION, **asdict(position)}


def position_from_state(state: Mapping[str, Any], length: int | None) -> Position:
    """Read a saved position back.

    Args:
        state: What ``position_to_state`` gave, perhaps in another run.
        length: Samples in the dataset that it is to be used with; ``None`` for a stream.

    Raises:
        ResumeError: If it was saved in another format, or with a dataset of another length.
    """
    if state.get("version") != _VERSION:
        raise ResumeError(
            f"the saved loader position has version {state.get('version')!r}, wanted {_VERSION}. "
            "Resume with the release of lightning-fastdata that wrote it, or from an epoch's end."
        )
    position = Position(**{name: value for name, value in state.items() if name != "version"})
    if position.length != length:
        raise ResumeError(
            f"the checkpoint was saved {position.samples} samples into an epoch of a dataset of "
            f"{position.length} samples, but this dataset has {length}. Resume with the same data, "
            "or from a checkpoint of an epoch's end."
        )
    return position


class Course:
    """How far one pass has got; its own, so that a second pass at the same time changes nothing.

    Args:
        position: Where the pass begins.
    """

    def __init__(self, position: Position) -> None:
        self._began = position
        self._samples, self._batches = position.samples, position.batches
        self._finished = position.finished
        self._earlier: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    @property
    def position(self) -> Position:
        """Where the pass stands."""
        return self._at(self._samples, self._batches, finished=self._finished)

    @property
    def given(self) -> int:
        """Batches that this pass has given."""
        return self._batches - self._began.batches

    def advance(self, samples: int) -> None:
        """Count one more batch, of ``samples`` positions over all ranks, as given to the loop."""
        self._earlier.append((self._samples, self._batches))
        self._samples += samples
        self._batches += 1

    def finish(self) -> None:
        """Note that the epoch's data has been used up."""
        self._finished = True

    def before(self, unused_batches: int) -> Position:
        """The position when the newest ``unused_batches`` had not been given yet."""
        if unused_batches and len(self._earlier) >= unused_batches:
            samples, batches = self._earlier[-unused_batches]
            return self._at(samples, batches, finished=False)
        return self.position

    def _at(self, samples: int, batches: int, *, finished: bool) -> Position:
        return replace(self._began, samples=samples, batches=batches, finished=finished)


class Progress:
    """Owns a loader's position: where the current pass is, and where the next one begins.

    The position is that of the pass that gave a batch last; but once a look at some batches, taken
    while a longer pass goes on, has been dropped, it is that of the longer pass again.

    Args:
        length: Samples in the dataset; ``None`` for a stream.
        repeats_differ: Whether going over an epoch's data once more gives another order.
    """

    def __init__(self, length: int | None, *, repeats_differ: bool) -> None:
        self._length, self._repeats_differ = length, repeats_differ
        self._current: Course | None = None
        self._going_on: list[Course] = []
        self.resumed: Position | None = None
        """A position that was loaded and that no pass has begun from yet."""

    def next_epoch(self) -> int:
        """The epoch that comes next where nobody says which."""
        if self.resumed is not None:
            return self.resumed.epoch + self.resumed.finished
        return 0 if self._current is None else self._current.position.epoch + 1

    def begin(self, epoch: int, new_seed: Callable[[], int]) -> Course:
        """Begin a pass: at the loaded position where it is of this epoch, else at the beginning."""
        course = Course(self._first_position(epoch, new_seed))
        self.resumed = None
        self._going_on.append(course)
        if len(self._going_on) == 1:
            self._current = course
        return course

    def advance(self, course: Course, samples: int) -> None:
        """Count one more batch of a pass, of ``samples`` positions over all ranks."""
        course.advance(samples)
        self._current = course

    def end(self, course: Course, failed: bool) -> None:
        """Note that a pass goes on no more, finished or left half way."""
        if course in self._going_on:
            self._going_on.remove(course)
        if course is self._current and not course.position.finished:
            longer = [other for other in self._going_on if other.given >= course.given]
            self._current = longer[-1] if longer else course

    def state(self, seed: int, unused_batches: int) -> dict[str, Any]:
        """Give the position as plain values; before the first pass, that of epoch 0's beginning.

        Args:
            seed: The loader's, for a position of no pass yet.
            unused_batches: The newest batches given to the loop that it has not trained on yet.
        """
        if self.resumed is not None:
            return position_to_state(self.resumed)
        if self._current is None:
            return position_to_state(self._beginning(EpochKey(seed=seed, epoch=0)))
        return position_to_state(self._current.before(unused_batches))

    def load(self, state: Mapping[str, Any]) -> Position:
        """Let the next pass of the saved position's epoch begin there."""
        self.resumed = position_from_state(state, self._length)
        self._going_on.clear()
        return self.resumed

    def renumber(self, batches: int) -> None:
        """Count the loaded position in batches of another size, or for another number of ranks."""
        assert self.resumed is not None, "only a loaded position is renumbered"
        self.resumed = replace(self.resumed, batches=batches)

    def _first_position(self, epoch: int, new_seed: Callable[[], int]) -> Position:
        resumed = self.resumed
        if resumed is not None and resumed.epoch == epoch:
            if self._length is not None or not resumed.finished:
                return resumed
            epoch += 1  # an empty pass of a loader without a length would end Lightning's whole fit
        last = None if self._current is None else self._current.position
        repeated = last is not None and last.epoch == epoch and last.finished
        cycle = last.cycle + 1 if last is not None and repeated and self._repeats_differ else 0
        return self._beginning(EpochKey(seed=new_seed(), epoch=epoch, cycle=cycle))

    def _beginning(self, key: EpochKey) -> Position:
        return Position(
            seed=key.seed,
            epoch=key.epoch,
            cycle=key.cycle,
            samples=0,
            batches=0,
            length=self._length,
            finished=False,
        )
