"""How much faster than torch's loader does the ring feed a loop, with the same workers?

Run ``python tests/benchmarks/bench_feed.py [--json FILE] [--only PART_OF_A_NAME]``. Both loaders
get the same dataset, whose ``__getitem__`` gives one sample at a time, the same order, and the same
two persistent workers; an epoch is a turn, and its start is part of it. ``drawing`` datasets draw
from all three generators for each sample: the ring seeds them each time, torch never does.

    <work>              the feed alone: a loop that does nothing with a batch
    <work>, added up    a loop that reads every byte of each batch
    JPEG                our ImageFolder through the ring and through the torch engine
    first batch         from a new loader to its first batch, starting the processes included
    parent CPU          samples for each CPU second of the training process, all its threads
    busy loop           8 ms of pure Python between two batches against 8 ms of sleep
    in flight           the ring with 2, 4 and 6 batches ahead of each worker, tokens
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from feed_sets import Drawing, Records, Rows, Tokens, add_up, same
from harness import Variant, arguments, report, take_turns, write
from torch.utils.data import DataLoader

from lightning_fastdata import FastDataLoader, ImageFolder

SAMPLE = Path(__file__).resolve().parents[2].parent / "shared/data/imagenet-sample"
BATCH_SIZE, WORKERS = 64, 2
STEP_S = 0.008  # a worker makes its batch of decoded pictures in 2 ms, even on one core
HOW: dict[str, Any] = {"batch_size": BATCH_SIZE, "num_workers": WORKERS}
HOW |= {"persistent_workers": True, "multiprocessing_context": "fork"}


def main() -> None:
    parser = arguments((__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=SAMPLE, help="an image folder")
    parser.add_argument("--only", default="", help="part of the names of what is to be measured")
    parsed = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, measure in works(Path(folder), parsed.data).items():
            if parsed.only in name:
                rows += measure(name, parsed)
    if parsed.json is not None:
        write(rows, parsed.json)


def works(folder: Path, pictures: Path) -> dict[str, Callable[..., list[dict[str, Any]]]]:
    """What is measured, by name."""
    sets: dict[str, tuple[Callable[[], Any], float, float]] = {
        "uint8 rows": (lambda: Rows(torch.uint8, 4), 4.0, 3.0),
        "float32 rows": (lambda: Rows(torch.float32, 2), 3.5, 3.0),
        "tokens": (lambda: Tokens(folder), 3.5, 1.6),
        "nested dict": (Records, 2.3, 1.8),
    }
    found: dict[str, Callable[..., list[dict[str, Any]]]] = {}
    for name, (make, wanted, drawing) in sets.items():
        found[name] = partial(measure_feed, make, wanted)
        found[f"{name}, drawing"] = partial(measure_feed, partial(_drawing, make), drawing)
    found["JPEG"] = partial(measure_jpeg, pictures)
    found["first batch"] = partial(measure_first_batch, pictures)
    found["parent CPU"] = measure_parent
    found["busy loop"] = measure_busy_loop
    found["in flight"] = partial(measure_in_flight, folder)
    return found


def _drawing(make: Callable[[], Any]) -> Any:
    return Drawing(make())


def measure_feed(
    make: Callable[[], Any], wanted: float, name: str, parsed: argparse.Namespace
) -> list[dict[str, Any]]:
    ring, stock = both(make())
    variants: dict[str, Variant] = {}
    for use, consume in (("", ignore), (", added up", add_up)):
        variants[f"ring{use}"] = partial(loop, ring, consume)
        variants[f"torch{use}"] = partial(loop, stock, consume)
    claims = {
        f"{name}: at least {wanted:g} x torch": ("ring", "torch", wanted),
        f"{name}, added up: more than torch": ("ring, added up", "torch, added up", 1.0),
    }
    return measured(name, variants, claims, parsed, ring)


def measure_jpeg(data: Path, name: str, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    pictures = ImageFolder(data, train=True)
    loaders = {engine: FastDataLoader(pictures, engine=engine, **HOW) for engine in ENGINES}
    for one, other in zip(*loaders.values(), strict=True):
        assert same(one, other), "never time a wrong answer"
    variants: dict[str, Variant] = {
        engine: partial(loop, loader, ignore) for engine, loader in loaders.items()
    }
    claims = {f"{name}: no slower than the torch engine": ("ring", "torch", 1.0)}
    return measured(name, variants, claims, parsed, *loaders.values())


ENGINES: tuple[Any, ...] = ("ring", "torch")


def measure_first_batch(data: Path, name: str, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    pictures = ImageFolder(data, train=True)
    makers = {
        "ring": lambda: FastDataLoader(pictures, engine="ring", **HOW),
        "torch": lambda: DataLoader(pictures, **HOW),
    }
    rates: dict[str, list[float]] = {maker: [] for maker in makers}
    for _ in range(parsed.rounds):
        for maker, make in makers.items():
            start_ns = time.perf_counter_ns()
            batches = iter(make())
            samples = len(next(batches)[1])
            rates[maker].append(samples / (time.perf_counter_ns() - start_ns) * 1e9)
            del batches  # the processes end here, which is not what is asked
    claims = {f"{name}: in at most 0.6 of torch's time": ("ring", "torch", 1 / 0.6)}
    return report("feed", rates, claims, None, work=name, batch_size=BATCH_SIZE)


def measure_parent(name: str, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    ring, stock = both(Rows(torch.uint8, 4))
    variants: dict[str, Variant] = {
        "ring": partial(loop, ring, ignore),
        "torch": partial(loop, stock, ignore),
    }
    claims = {f"{name}: a quarter of torch's main and pin threads": ("ring", "torch", 4.0)}
    return measured(name, variants, claims, parsed, ring, clock_ns=time.process_time_ns)


def measure_busy_loop(name: str, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    ring, stock = both(Rows(torch.uint8, 1))
    variants: dict[str, Variant] = {}
    for use, consume in (("idle", sleep), ("busy", spin)):
        variants[f"ring, {use}"] = partial(loop, ring, consume)
        variants[f"torch, {use}"] = partial(loop, stock, consume)
    claims = {f"{name}: at most 10 % slower than idle": ("ring, busy", "ring, idle", 0.9)}
    return measured(name, variants, claims, parsed, ring)


def measure_in_flight(folder: Path, name: str, parsed: argparse.Namespace) -> list[dict[str, Any]]:
    tokens = Tokens(folder)
    loaders = {
        f"{ahead} each": FastDataLoader(tokens, engine="ring", prefetch_factor=ahead, **HOW)
        for ahead in (2, 4, 6)
    }
    for batches in zip(*loaders.values(), strict=True):
        assert all(same(batch, batches[0]) for batch in batches), "never time a wrong answer"
    variants: dict[str, Variant] = {
        ahead: partial(loop, loader, ignore) for ahead, loader in loaders.items()
    }
    claims = {f"{name}: 4 a worker are faster than 2": ("4 each", "2 each", 1.0)}
    claims[f"{name}: 6 are little faster than 4"] = ("4 each", "6 each", 0.9)
    return measured(name, variants, claims, parsed, *loaders.values())


def both(dataset: Any) -> tuple[Any, Any]:
    """The ring and torch's loader, alike but for who makes the batches, found to be equal."""
    ring, stock = FastDataLoader(dataset, engine="ring", **HOW), DataLoader(dataset, **HOW)
    for one, other in zip(ring, stock, strict=True):
        if isinstance(dataset, Drawing):  # what is drawn differs: torch does not seed it
            one, other = one[0], other[0]
        assert same(one, other), "never time a wrong answer"
    return ring, stock


def loop(loader: Any, consume: Callable[[Any], None]) -> int:
    for batch in loader:
        consume(batch)
    return len(loader.dataset)


def ignore(batch: Any) -> None:
    pass


def sleep(batch: Any) -> None:
    time.sleep(STEP_S)


def spin(batch: Any) -> None:
    end_s = time.perf_counter() + STEP_S
    while time.perf_counter() < end_s:
        pass


def measured(
    name: str,
    variants: dict[str, Variant],
    claims: dict[str, tuple[str, str, float]],
    parsed: argparse.Namespace,
    *loaders: Any,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> list[dict[str, Any]]:
    """Let the variants take turns, print what came of it, and end the loaders."""
    rates = take_turns(variants, parsed.rounds, clock_ns)
    for loader in loaders:
        loader.close()
    details = {"work": name, "batch_size": BATCH_SIZE, "num_workers": WORKERS}
    if clock_ns is time.process_time_ns:
        details["per_s"] = "of CPU time of the training process"
    return report("feed", rates, claims, None, **details)


if __name__ == "__main__":
    main()
