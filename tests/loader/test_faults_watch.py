"""Who counts as stuck: judged by what workers note and what the kernel says of them."""

from collections import deque
from types import SimpleNamespace
from typing import Any

from lightning_fastdata.loader.make import NO_ROW
from lightning_fastdata.loader.ring.messages import Chunk
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.watch import Watch
from lightning_fastdata.trace.work import ChunkTimes

LIMIT_S = 10.0


def chunk_of(samples: int) -> Chunk:
    return Chunk(number=0, mode="whole", epoch=0, seeds=bytes(8 * samples))


class Worker:
    """What a watch sees of one."""

    def __init__(
        self, pid: int = 1, *, row: int = 0, samples: int = 1, has_work: bool = True
    ) -> None:
        chunk = chunk_of(samples)
        self.pid, self.answered = pid, 1
        self.board = SimpleNamespace(beats=0, row=row)
        self.queued = deque([chunk] if has_work else [])
        self.current: Any = chunk if has_work else None
        self.stuck: Any = None
        self.state = "S"


class Scene:
    """A watch over workers whose time, CPU seconds and bytes read a test sets."""

    def __init__(self, *workers: Worker, limit_s: float | None = LIMIT_S, follows: bool = False):
        self.workers = workers
        self.used = {worker.pid: (0.0, 0) for worker in workers}
        self.watch = Watch(
            RingSettings(num_workers=1, sample_timeout_s=limit_s, timeout_follows=follows),
            lambda pid: self.used[pid],
            lambda pid: next(worker.state for worker in workers if worker.pid == pid),
        )
        self.now_s = 1000.0
        self.overdue()

    def looked(self) -> list[tuple[Any, float]]:
        workers: Any = self.workers
        return self.watch.overdue(workers, self.now_s)

    def overdue(self) -> list[int]:
        return [worker.pid for worker, _ in self.looked()]

    def after(self, seconds: float) -> list[int]:
        """Look every half second, and give who is overdue in the end."""
        end_s = self.now_s + seconds
        found = self.overdue()
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 0.5)
            found = self.overdue()
        return found

    def nothing_moves(self) -> bool:
        workers: Any = self.workers
        return self.watch.nothing_moves(workers, self.now_s) is not None


def times_of(seconds: float, samples: int) -> ChunkTimes:
    numbers: dict[str, Any] = dict.fromkeys(ChunkTimes._fields, 0)
    return ChunkTimes(**numbers | {"ended_ns": int(seconds * 1e9), "samples": samples})


def test_a_worker_is_overdue_once_its_sample_takes_longer_than_the_limit() -> None:
    scene = Scene(Worker())

    assert scene.after(LIMIT_S) == []
    assert scene.after(0.5) == [1]


def test_the_time_that_it_stood_still_is_told() -> None:
    scene = Scene(Worker())
    scene.after(LIMIT_S + 2.5)

    ((_, waited_s),) = scene.looked()

    assert waited_s == LIMIT_S + 2.5


def test_a_worker_that_gets_on_is_never_overdue() -> None:
    scene = Scene(Worker())

    for _ in range(20):
        assert scene.after(LIMIT_S - 1) == []
        scene.workers[0].board.beats += 1


def test_a_worker_without_work_is_never_overdue() -> None:
    assert Scene(Worker(has_work=False)).after(10 * LIMIT_S) == []


def test_a_worker_is_asked_for_its_stacks_once() -> None:
    scene = Scene(Worker())
    scene.after(LIMIT_S + 1)
    scene.workers[0].stuck = object()

    assert scene.after(10 * LIMIT_S) == []


def test_what_is_done_with_a_batch_at_one_go_may_take_as_long_as_all_its_samples() -> None:
    scene = Scene(Worker(row=NO_ROW, samples=4))

    assert scene.after(4 * LIMIT_S) == []
    assert scene.after(0.5) == [1]


def test_without_a_limit_nobody_is_overdue() -> None:
    scene = Scene(Worker(), limit_s=None)

    assert scene.after(5000) == []
    assert not scene.nothing_moves()


def test_of_two_workers_only_the_stuck_one_is_overdue() -> None:
    scene = Scene(Worker(1), Worker(2))
    scene.after(LIMIT_S - 1)
    scene.workers[0].board.beats += 1

    assert scene.after(2) == [2]


def test_a_limit_of_its_own_is_long_until_a_sample_has_been_made() -> None:
    scene = Scene(Worker(), limit_s=60.0, follows=True)

    assert scene.after(600) == []
    assert scene.after(0.5) == [1]


def test_a_limit_of_its_own_grows_with_the_slowest_sample() -> None:
    scene = Scene(Worker(), limit_s=60.0, follows=True)
    scene.watch.saw(times_of(4.0, samples=2))

    assert scene.after(200) == []
    assert scene.after(0.5) == [1]


def test_a_limit_of_its_own_is_long_for_each_workers_own_first_samples() -> None:
    """They are cold, whatever others have done."""
    worker = Worker()
    worker.answered = 0
    scene = Scene(worker, limit_s=60.0, follows=True)
    scene.watch.saw(times_of(0.001, samples=1))

    assert scene.after(600) == []
    assert scene.after(0.5) == [1]


def test_a_limit_of_its_own_is_never_below_its_floor() -> None:
    scene = Scene(Worker(), limit_s=60.0, follows=True)
    scene.watch.saw(times_of(0.001, samples=1))

    assert scene.after(60) == []
    assert scene.after(0.5) == [1]


def test_a_number_of_the_users_is_kept_whatever_samples_take() -> None:
    scene = Scene(Worker())
    scene.watch.saw(times_of(50.0, samples=1))

    assert scene.after(LIMIT_S + 0.5) == [1]


def test_a_pause_of_the_whole_machine_is_held_against_nobody() -> None:
    scene = Scene(Worker())
    scene.after(LIMIT_S - 1)

    scene.now_s += 3600
    assert scene.overdue() == []
    assert scene.after(0.5) == []
    assert scene.after(1) == [1]


def test_what_is_done_before_the_first_sample_may_take_long() -> None:
    """A ``worker_init_fn`` may load a model; it is no sample."""
    worker = Worker()
    worker.answered, worker.current = 0, None

    assert Scene(worker).after(60 * LIMIT_S) == []


def test_a_worker_stopped_before_its_first_sample_is_overdue_as_any() -> None:
    worker = Worker()
    worker.answered, worker.current, worker.state = 0, None, "T"

    assert Scene(worker).after(LIMIT_S + 0.5) == [1]


def test_workers_that_use_no_core_and_read_no_byte_do_not_move() -> None:
    scene = Scene(Worker(1), Worker(2))
    scene.after(LIMIT_S + 1)

    assert scene.nothing_moves()


def test_a_worker_that_uses_its_core_moves() -> None:
    scene = Scene(Worker(1), Worker(2))
    for _ in range(30):
        scene.used[2] = (scene.used[2][0] + 0.4, 0)
        scene.after(0.5)

    assert not scene.nothing_moves()


def test_a_worker_that_reads_moves() -> None:
    """A cold disk or network file system takes its time, but no core."""
    scene = Scene(Worker(1), Worker(2))
    for _ in range(30):
        scene.used[1] = (0.0, scene.used[1][1] + 4096)
        scene.after(0.5)

    assert not scene.nothing_moves()


def test_the_little_that_waiting_costs_is_no_movement() -> None:
    scene = Scene(Worker())
    for _ in range(30):
        scene.used[1] = (scene.used[1][0] + 0.002, 0)
        scene.after(0.5)

    assert scene.nothing_moves()


def test_no_movement_counts_only_beside_a_sample_that_takes_too_long() -> None:
    scene = Scene(Worker(has_work=False))
    scene.after(3 * LIMIT_S)

    assert not scene.nothing_moves()


def test_a_worker_that_gets_no_core_is_not_stuck() -> None:
    starved = Worker()
    starved.state = "R"
    scene = Scene(starved)

    overdue = [scene.after(2 * LIMIT_S), scene.after(4 * LIMIT_S)]

    assert overdue == [[], [1]]


def test_a_worker_that_uses_a_core_all_the_time_is_stuck() -> None:
    busy = Worker()
    busy.state = "R"
    scene = Scene(busy)

    scene.after(0.7 * LIMIT_S)
    scene.used[1] = (0.5 * LIMIT_S, 0)

    assert scene.after(0.4 * LIMIT_S) == [1]
