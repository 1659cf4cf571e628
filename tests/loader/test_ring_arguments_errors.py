"""What goes wrong in a ring's workers is said in the loop, as torch says it, and in its turn."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sample_sets import Numbers, loader_of
from torch.utils.data import IterableDataset, get_worker_info

from lightning_fastdata.errors import WorkerError, WorkerWarning

RING: dict[str, Any] = {"engine": "ring", "num_workers": 2}


class OtherArgumentsError(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"code {code}: {reason}")


class KeepingError(ValueError):
    """Keeps what cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.kept = lambda: text


def raising(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


class Failing(Numbers):
    """Sample 5 does something else; sample 0 waits for a file, where there is one to wait for."""

    def __init__(self, act: Callable[[], None], made: Path | None = None) -> None:
        super().__init__(24)
        self.act, self.made = act, made

    def __getitem__(self, index: int) -> int:
        if index == 5:
            if self.made is not None:
                self.made.touch()
            self.act()
        while index == 0 and self.made is not None and not self.made.exists():
            pass
        return index


class FailingStream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        yield from range(6)
        raise KeyError("the stream broke")


class SoonFailingStream(IterableDataset[int]):
    """Worker 1 raises at once, worker 0 gives its first sample only after that."""

    def __init__(self, raised: Path) -> None:
        self.raised = raised

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        assert info is not None
        if info.id == 1:
            self.raised.touch()
            raise KeyError("the stream broke")
        while not self.raised.exists():
            pass
        yield from range(4)


def taken_before_the_error(batches: Iterator[Any]) -> tuple[list[Any], Exception]:
    taken = []
    try:
        for batch in batches:
            taken.append(batch.tolist())
    except Exception as error:
        return taken, error
    raise AssertionError("there was no error")


@pytest.mark.parametrize("collate_fn", [None, list])
@pytest.mark.parametrize(
    "error", [KeyError("a key"), ValueError("a value"), OSError(2, "no file"), StopIteration("x")]
)
def test_what_a_sample_raises_is_raised_with_its_text_index_and_traceback(
    error: Exception, collate_fn: Any
) -> None:
    loader = loader_of(Failing(raising(error)), collate_fn=collate_fn, **RING)

    with pytest.raises(Exception, match=r".") as caught:
        list(loader)

    if not isinstance(error, StopIteration):  # a generator, as ours is, must not raise that one
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)
    told = str(caught.value.__cause__)
    assert "in run" in told
    assert "This was sample 5 of the Failing" in told


@pytest.mark.parametrize("error", [OtherArgumentsError(3, "why"), KeepingError("why")])
def test_an_error_that_cannot_be_sent_is_told_by_its_name_and_traceback(error: Exception) -> None:
    loader = loader_of(Failing(raising(error)), **RING)

    with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
        list(loader)

    assert "why" in str(caught.value)
    assert "in run" in str(caught.value)


def test_batches_before_the_one_that_failed_are_given_first(tmp_path: Path) -> None:
    dataset = Failing(raising(ValueError("five")), tmp_path / "failed")
    loader = loader_of(dataset, batch_size=2, **RING)

    taken, error = taken_before_the_error(iter(loader))

    assert taken == [[0, 1], [2, 3]]
    assert str(error) == "five"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_batches_of_a_stream_before_its_error_are_given_first(num_workers: int) -> None:
    engine = {"engine": "ring"} if num_workers else {}
    loader = loader_of(FailingStream(), batch_size=2, num_workers=num_workers, **engine)

    taken, error = taken_before_the_error(iter(loader))
    loader.close()

    assert taken == [[0, 1], [2, 3], [4, 5]]
    assert isinstance(error, KeyError)


def test_an_error_of_a_stream_comes_when_it_is_its_workers_turn(tmp_path: Path) -> None:
    loader = loader_of(SoonFailingStream(tmp_path / "raised"), batch_size=2, **RING)

    taken, error = taken_before_the_error(iter(loader))
    loader.close()

    assert taken == [[0, 1]]
    assert isinstance(error, KeyError)


def test_a_loader_goes_over_its_data_again_after_an_error() -> None:
    loader = loader_of(Failing(raising(ValueError("five"))), batch_size=5, shuffle=False, **RING)

    for _ in range(2):
        batches = iter(loader)
        assert next(batches).tolist() == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="five"):
            next(batches)
    loader.close()


@pytest.mark.parametrize("collate_fn", [None, list])
def test_what_worker_init_fn_raises_is_raised(collate_fn: Any) -> None:
    def start(number: int) -> None:
        raise LookupError("cannot begin")

    loader = loader_of(Numbers(9), worker_init_fn=start, collate_fn=collate_fn, **RING)

    with pytest.raises(LookupError, match="cannot begin"):
        list(loader)


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_worker_that_exits_is_named_with_its_status(status: int, at_once: bool) -> None:
    def leave() -> None:
        if at_once:
            os._exit(status)
        raise SystemExit(status)

    loader = loader_of(Failing(leave), **RING)

    wanted = r"^worker \d \(process \d+\) (ended|was)"
    with (
        pytest.warns(WorkerWarning, match=wanted),
        pytest.raises(WorkerError, match=wanted) as caught,
    ):
        list(loader)

    assert f"ended with status {status if at_once else 1} " in str(caught.value)


def test_samples_of_other_shapes_are_an_error_that_names_one() -> None:
    class Ragged(Numbers):
        def __getitem__(self, index: int) -> Any:
            return [0.0] * (2 + (index == 7))

    loader = loader_of(Ragged(12), **RING)

    with pytest.raises(ValueError, match=r"^sample 7 is"):
        list(loader)


def test_a_batch_that_cannot_be_pickled_is_an_error() -> None:
    loader = loader_of(Numbers(4), collate_fn=lambda samples: lambda: samples, **RING)

    with pytest.raises(Exception, match="pickle"):
        list(loader)


class Dying(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        assert info is not None
        yield info.id
        if info.id == 1:
            os._exit(4)


def test_a_worker_of_a_stream_that_exits_is_named() -> None:
    loader = loader_of(Dying(), batch_size=1, **RING)

    wanted = r"^worker 1 \(process \d+\) ended with status 4"
    with pytest.warns(WorkerWarning, match=wanted), pytest.raises(WorkerError, match=wanted):
        list(loader)
