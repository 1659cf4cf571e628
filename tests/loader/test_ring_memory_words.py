"""What the ring says: of samples that do not fit, of places where it cannot serve, of copies."""

import gc
import os
import warnings
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from ring_tools import answers, engine_of
from sample_sets import Numbers, Stream, loader_of
from torch.utils.data import Dataset, default_collate

from lightning_fastdata.errors import BatchShapeError, SettingsError
from lightning_fastdata.loader import measure
from lightning_fastdata.loader.ring import failures, growth, nursery
from lightning_fastdata.loader.ring.messages import MemoryGrew
from lightning_fastdata.loader.ring.process import fork_into
from lightning_fastdata.loader.ring.wire import Channel, pair

SAMPLES = 20  # a batch: with chunks of 7, the last has 6
LARGE = 2**20  # bytes of copies that these tests care about


class OneUnlike(Dataset[Any]):
    """All samples are alike but one."""

    def __init__(self, place: int, alike: Any, unlike: Any) -> None:
        self.place, self.alike, self.unlike = place, alike, unlike

    def __len__(self) -> int:
        return 3 * SAMPLES

    def __getitem__(self, index: int) -> Any:
        return self.unlike if index == self.place else self.alike


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("chunk_samples", [None, 1, 7])
@pytest.mark.parametrize("row", [1, 6, 7, 19])
def test_a_sample_of_another_shape_is_named(
    row: int, chunk_samples: int | None, num_workers: int
) -> None:
    data = OneUnlike(SAMPLES + row, torch.zeros(3, 4), torch.zeros(3, 5))
    engine = engine_of(data, None, num_workers=num_workers, chunk_samples=chunk_samples)

    with pytest.raises(
        BatchShapeError,
        match=rf"^sample {SAMPLES + row} is \(3, 5\) float32, but sample {SAMPLES} of the same "
        r"batch is \(3, 4\) float32. Make samples equal in the dataset \(resize or pad\), or pass ",
    ):
        list(answers(engine, 3, SAMPLES))
    engine.close()


@pytest.mark.parametrize("chunk_samples", [None, 1, 7])
def test_where_the_first_sample_is_unlike_the_rest_the_second_is_named(
    chunk_samples: int | None,
) -> None:
    engine = engine_of(OneUnlike(0, np.zeros(4), np.zeros(5)), None, chunk_samples=chunk_samples)

    with pytest.raises(
        BatchShapeError, match=r"^sample 1 is \(4,\) float64, but sample 0 of .* is \(5,\) float64"
    ):
        list(answers(engine, 3, SAMPLES))
    engine.close()


UNLIKE = {
    "a number less": ((1, 2.0), (1,)),
    "another key": ({"a": 1}, {"b": 1}),
    "none": (torch.zeros(2), None),
    "text": (1.0, "one"),
    "a tensor less": ({"x": (torch.zeros(2), 1)}, {"x": (torch.zeros(3), 1)}),
}


@pytest.mark.parametrize("chunk_samples", [None, 1, 7])
@pytest.mark.parametrize("row", [6, 7])
@pytest.mark.parametrize("kind", UNLIKE)
def test_a_sample_of_another_structure_is_named(
    kind: str, row: int, chunk_samples: int | None
) -> None:
    data = OneUnlike(row, *UNLIKE[kind])
    engine = engine_of(data, None, chunk_samples=chunk_samples)

    with pytest.raises(BatchShapeError, match=rf"^sample {row} is .* or pass "):
        list(answers(engine, 3, SAMPLES))
    engine.close()


@pytest.mark.parametrize("chunk_samples", [None, 7])
@pytest.mark.parametrize("row", [0, 6, 7])
@pytest.mark.parametrize(
    ("alike", "unlike"),
    [
        (torch.ones(2), torch.full((2,), 1 / 3, dtype=torch.float64)),
        (torch.ones(2, dtype=torch.int64), torch.full((2,), 0.5)),
        (np.ones(2, np.uint8), np.full(2, 0.5, np.float32)),
        (1, 0.5),
        (0.5, 1),
        (True, 7),
    ],
    ids=str,
)
def test_a_sample_of_another_dtype_gives_what_torch_makes_of_it(
    alike: Any, unlike: Any, row: int, chunk_samples: int | None
) -> None:
    data = OneUnlike(row, alike, unlike)
    engine = engine_of(data, None, chunk_samples=chunk_samples)
    try:
        wanted: Any = default_collate([data[index] for index in range(SAMPLES)])
    except (TypeError, RuntimeError) as error:
        wanted = error

    try:
        if isinstance(wanted, Exception):
            with pytest.raises(type(wanted)):
                next(answers(engine, 1, SAMPLES))
        else:
            made = next(answers(engine, 1, SAMPLES)).data
            assert made.dtype == wanted.dtype
            assert torch.equal(made, wanted)
    finally:
        engine.close()


def no_ring() -> str:
    return "the ring needs Linux, and this is plan9"


def test_a_ring_asked_for_where_it_cannot_serve_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measure, "ring_problem", no_ring)

    with pytest.raises(
        SettingsError, match=r'^engine="ring", but the ring needs Linux, and this is plan9\. Leave '
    ):
        loader_of(Numbers(9), num_workers=1, engine="ring")


@pytest.mark.parametrize("data", [Numbers(9), Stream(9)], ids=["map", "stream"])
def test_auto_takes_torchs_workers_where_the_ring_cannot_serve_and_says_why(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "ring_problem", no_ring)

    loader = loader_of(data, num_workers=1)

    assert loader.plan.engine == "torch"
    assert loader.plan.reasons["engine"] == f"torch's own workers, because {no_ring()}"
    assert len(list(loader)) == 3


@pytest.mark.parametrize("data", [Numbers(9), Stream(9)], ids=["map", "stream"])
def test_pin_memory_without_a_device_warns_once(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    loader = loader_of(data, num_workers=1, pin_memory=True)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            assert len(list(loader)) == 3
    loader.close()

    (warning,) = caught
    assert str(warning.message).startswith("pin_memory=True, but there is no CUDA device to copy")


class Records(Dataset[Any]):
    """Reads a record of many small ones for each sample."""

    def __init__(self, records: Any) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> int:
        return len(str(self.records[index]))


def copied_in_a_worker(records: Any) -> int:
    """What a forked child has copied by the time it has read all records."""

    def read_all(channel: Channel) -> None:
        watch = growth.GrowthWatch()
        watch.copied_bytes()
        for record in records:
            assert record is not None
        channel.send(watch.copied_bytes())

    gc.collect()
    channel, end = pair()
    child = fork_into(read_all, end, dies_with_parent=False)
    copied = channel.receive(60)[0]
    channel.close()
    os.waitpid(child, 0)
    assert isinstance(copied, int)
    return copied


def test_reading_a_list_of_objects_copies_them_and_reading_an_array_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growth, "_FIRST_S", 0.0)
    objects = [f"a record of some length, number {number}" for number in range(200_000)]
    array = np.array(objects)

    of_objects, of_array = copied_in_a_worker(objects), copied_in_a_worker(array)

    assert of_objects > 10 * LARGE  # of 16 MB
    assert of_array < LARGE


def test_copies_are_worth_a_warning_from_a_share_of_memory_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    total = psutil.virtual_memory().total
    share = int(failures.WORTH_A_WARNING * total)

    assert not failures.is_worth_a_warning(MemoryGrew(share // 4 - 1, 4))
    assert failures.is_worth_a_warning(MemoryGrew(share // 4 + 1, 4))


def test_the_warning_says_how_much_was_copied_and_how_to_avoid_it() -> None:
    with pytest.warns(
        UserWarning,
        match=r"^each of the 4 workers has by now copied 250 MB of the dataset's memory "
        r"\(1e\+03 MB in all\): .* Keep long lists of .* in a NumPy array",
    ):
        failures.warn_of_copies(MemoryGrew(250_000_000, 4))


@pytest.mark.parametrize(
    ("records", "warned"),
    [
        ([f"a record of some length, number {number}" for number in range(1_000_000)], 1),
        (np.arange(1_000_000), 0),
    ],
    ids=["list", "array"],
)
def test_a_loader_warns_once_of_a_dataset_that_its_workers_copy(
    records: Any, warned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "_FIRST_S", 0.0)
    monkeypatch.setattr(nursery, "GROWTH_STEP_BYTES", 16 * LARGE)
    monkeypatch.setattr(failures, "WORTH_A_WARNING", 0.0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loader = loader_of(Records(records), 25_000, num_workers=2)
        assert len(list(loader)) == 40
        loader.close()

    assert len(caught) == warned
    assert all(str(each.message).startswith("each of the 2 workers has") for each in caught)
