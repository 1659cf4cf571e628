"""``with stage(...)``: what a dataset's author may write, and what a worker then knows."""

import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.trace.stages import MOST_NAMES, OTHER_STAGES, StageTimes, stage


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def times(clock: FakeClock) -> Iterator[StageTimes]:
    """A chunk that this thread is making."""
    times = StageTimes(clock)
    times.begin()
    yield times
    times.take()


def test_the_time_of_a_block_counts_for_its_name(times: StageTimes, clock: FakeClock) -> None:
    with stage("read"):
        clock.now_ns += 5
    clock.now_ns += 100
    for _ in range(2):
        with stage("decode"):
            clock.now_ns += 7

    assert times.take() == (("read", 5), ("decode", 14))


def test_the_time_of_an_inner_block_is_left_out_of_the_outer_one(
    times: StageTimes, clock: FakeClock
) -> None:
    with stage("decode"):
        clock.now_ns += 1
        with stage("transform"):
            clock.now_ns += 10
        clock.now_ns += 2

    assert dict(times.take()) == {"decode": 3, "transform": 10}


def test_one_object_may_stand_inside_itself(times: StageTimes, clock: FakeClock) -> None:
    decode = stage("decode")

    with decode:
        clock.now_ns += 1
        with decode:
            clock.now_ns += 2
        clock.now_ns += 4
    clock.now_ns += 8

    assert times.take() == (("decode", 7),)


def test_a_block_that_raises_counts_and_the_error_passes(
    times: StageTimes, clock: FakeClock
) -> None:
    def read() -> None:
        with stage("read"):
            clock.now_ns += 5
            raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        read()
    clock.now_ns += 5

    assert times.take() == (("read", 5),)


def test_a_chunk_has_its_own_times_only(times: StageTimes, clock: FakeClock) -> None:
    with stage("read"):
        clock.now_ns += 5
    times.take()

    times.begin()
    with stage("decode"):
        clock.now_ns += 3

    assert times.take() == (("decode", 3),)


def test_what_a_chunk_that_failed_has_left_is_forgotten(
    times: StageTimes, clock: FakeClock
) -> None:
    stage("read").__enter__()
    clock.now_ns += 5

    times.begin()
    clock.now_ns += 5

    assert times.take() == ()


def test_another_thread_counts_nowhere(times: StageTimes, clock: FakeClock) -> None:
    def helper() -> None:
        with stage("read"):
            clock.now_ns += 5

    with stage("decode"):
        thread = threading.Thread(target=helper)
        thread.start()
        thread.join()

    assert times.take() == (("decode", 5),)


def test_nothing_counts_outside_a_chunk(clock: FakeClock) -> None:
    times = StageTimes(clock)
    with stage("before"):
        clock.now_ns += 5
    times.begin()
    times.take()

    with stage("after"):
        clock.now_ns += 5

    assert times.take() == ()


def test_a_chunk_made_while_another_is_made_gives_the_thread_back(
    times: StageTimes, clock: FakeClock
) -> None:
    """A dataset may load by a loader of ours, in this process."""
    inner = StageTimes(clock)
    inner.begin()
    with stage("inner"):
        clock.now_ns += 5
    taken = inner.take()

    with stage("outer"):
        clock.now_ns += 3

    assert taken == (("inner", 5),)
    assert times.take() == (("outer", 3),)


def records(clock: FakeClock) -> Generator[None, None, None]:
    with stage("read"):
        clock.now_ns += 5
        yield
        clock.now_ns += 50


def test_a_generator_left_half_way_counts_until_the_end_of_its_chunk(
    times: StageTimes, clock: FakeClock
) -> None:
    generator = records(clock)
    next(generator)
    clock.now_ns += 1
    first = times.take()

    times.begin()
    clock.now_ns += 100
    with stage("decode"):
        generator.close()
        clock.now_ns += 2

    assert first == (("read", 6),)
    assert times.take() == (("decode", 2),)


def test_a_generator_left_half_way_inside_a_block_ends_with_it(
    times: StageTimes, clock: FakeClock
) -> None:
    with stage("outer"):
        generator = records(clock)
        next(generator)
    clock.now_ns += 100
    generator.close()

    assert times.take() == (("read", 5),)


def test_after_64_names_all_others_are_summed(times: StageTimes, clock: FakeClock) -> None:
    for chunk in range(2):
        times.begin()
        for number in range(MOST_NAMES):
            with stage(f"{chunk}.{number}"):
                clock.now_ns += 1
        taken = times.take()

    assert taken == ((OTHER_STAGES, MOST_NAMES),)


@pytest.mark.parametrize("name", ["", None, 3, b"read", ["read"]])
def test_what_is_no_name_is_refused_at_once(name: object) -> None:
    with pytest.raises(SettingsError, match=r"^stage\(.*\): wanted a name"):
        stage(name)  # type: ignore[arg-type]  # the mistake that is tested


@pytest.mark.parametrize(("ending", "mode"), [("jpg", "RGB"), ("png", "RGBA")])
@pytest.mark.parametrize("has_transform", [False, True])
def test_an_image_folder_tells_reading_decoding_and_transforming_apart(
    tmp_path: Path, ending: str, mode: str, has_transform: bool
) -> None:
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    Image.new(mode, (40, 30)).save(tmp_path / "pictures" / "cat" / f"1.{ending}")
    transform = (lambda picture: torch.zeros(picture.size)) if has_transform else None
    dataset = ImageFolder(tmp_path / "pictures", size=8, transform=transform, cache_dir=tmp_path)
    times = StageTimes()

    times.begin()
    dataset[0]

    assert [name for name, _ in times.take()] == ["read", "decode", "transform"]
