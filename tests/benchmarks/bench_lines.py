"""What does it cost a worker that its stack is looked at, and that its stages are timed?

Run ``python tests/benchmarks/bench_lines.py [--rounds 30] [--clock wall] [--json FILE]``; it
prints one JSON line per variant and claim. The default clock is the CPU time of all threads of the
process, since the cores are shared and the claim is finer than their noise; it leaves out how long
a thread waits to be given the interpreter's lock back. The same work is done with and without, turn
by turn:

    python          a loop in Python that releases the interpreter's lock only when asked
    decode          ImageFolder: simplejpeg and torch, which release it, 8 samples a chunk
    pillow          ImageFolder with a transform: Pillow decodes and resizes, 8 samples a chunk
    ..._sampled     the same while a LineSampler looks 50 times a second, with begin and take
    ..._staged      the same with ImageFolder's own stages collected
    stage_...       only ``with stage()``: nobody collects, somebody does, and an empty ``with``

A row for each kind of work says what a look takes of the sampling thread's own CPU time.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import harness
import torch

from lightning_fastdata.dataset.image_folder import ImageFolder
from lightning_fastdata.trace.lines import LineSampler
from lightning_fastdata.trace.stages import StageTimes, stage

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"
CHUNK = 8
TURN_S = 0.3  # guess: 15 looks a turn
ALONE = 100_000  # blocks
CLOCKS = {"cpu": time.process_time_ns, "wall": time.perf_counter_ns}


def resized(picture: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(picture.resize((224, 224)).tobytes()), dtype=torch.uint8)


def python_chunk(chunk: int) -> int:
    total = 0
    for number in range(50_000):
        total += number * chunk
    return total


def decoding(dataset: ImageFolder) -> Callable[[int], int]:
    def make(chunk: int) -> int:
        rows = [dataset[(chunk * CHUNK + row) % len(dataset)][0] for row in range(CHUNK)]
        return sum(int(row.sum()) for row in rows)

    return make


def chunks_in(make: Callable[[int], int]) -> int:
    """How many chunks fill a turn."""
    make(0)
    start_s = time.perf_counter()
    for chunk in range(3):
        make(chunk)
    return max(1, round(3 * TURN_S / (time.perf_counter() - start_s)))


def plain(make: Callable[[int], int], chunks: int) -> harness.Variant:
    return lambda: len([make(chunk) for chunk in range(chunks)])


class Watched:
    """Runs work while it is looked at, and adds up what the looks took."""

    def __init__(self, make: Callable[[int], int], chunks: int) -> None:
        self._make, self._chunks = make, chunks
        self._looks = self._looking_ns = 0

    def __call__(self) -> int:
        sampler = LineSampler(threading.get_ident(), frames=self._frames)
        sampler.start()
        for chunk in range(self._chunks):
            sampler.begin()
            self._make(chunk)
            sampler.take()
        (thread,) = (each for each in threading.enumerate() if each.name == "LineSampler")
        assert thread.ident is not None
        self._looking_ns += time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
        sampler.stop()
        assert sampler.problem is None
        return self._chunks

    def _frames(self) -> dict[int, FrameType]:
        self._looks += 1
        return sys._current_frames()

    def look_us(self) -> float:
        return round(self._looking_ns / max(1, self._looks) / 1000, 1)


def staged(make: Callable[[int], int], chunks: int) -> harness.Variant:
    times = StageTimes()

    def run() -> int:
        for chunk in range(chunks):
            times.begin()
            make(chunk)
            assert times.take()
        return chunks

    return run


def blocks(is_collected: bool, block: Callable[[], Any]) -> harness.Variant:
    times = StageTimes()

    def run() -> int:
        if is_collected:
            times.begin()
        for _ in range(ALONE):
            with block():
                pass
        times.take()
        return ALONE

    return run


def variants() -> dict[str, harness.Variant]:
    pictures = ImageFolder(SAMPLE, train=True)
    works: dict[str, Callable[[int], int]] = {
        "python": python_chunk,
        "decode": decoding(pictures),
        "pillow": decoding(ImageFolder(SAMPLE, transform=resized)),
    }
    found: dict[str, harness.Variant] = {}
    for name, make in works.items():
        chunks = chunks_in(make)
        found[name] = plain(make, chunks)
        found[f"{name}_sampled"] = Watched(make, chunks)
        if name != "python":
            found[f"{name}_staged"] = staged(make, chunks)
    shared = nullcontext()
    found["stage_none"] = blocks(False, lambda: shared)
    found["stage_uncollected"] = blocks(False, lambda: stage("decode"))
    found["stage_collected"] = blocks(True, lambda: stage("decode"))
    return found


def refuse_wrong_answers() -> None:
    make = decoding(ImageFolder(SAMPLE))
    wanted = [make(chunk) for chunk in range(3)]
    sampler, times = LineSampler(threading.get_ident()), StageTimes()
    sampler.start()
    sampler.begin()
    times.begin()
    assert [make(chunk) for chunk in range(3)] == wanted, "never time a wrong answer"
    assert {name for name, _ in times.take()} == {"read", "decode", "transform"}
    sampler.stop()
    assert sampler.take()[1], "it has looked"


def main() -> None:
    parser: argparse.ArgumentParser = harness.arguments(str(__doc__).splitlines()[0])
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    refuse_wrong_answers()
    measured = variants()
    rates = harness.take_turns(measured, settings.rounds, CLOCKS[settings.clock])
    claims = {
        f"{name} costs under 1 %": (name, name.partition("_")[0], 0.99)
        for name in rates
        if name.endswith(("_sampled", "_staged"))
    }
    details: dict[str, Any] = {"clock": settings.clock, "chunk_samples": CHUNK, "looks_per_s": 50}
    rows = harness.report("lines", rates, claims, settings.json, **details)
    for name, variant in measured.items():
        if isinstance(variant, Watched):
            look_us = variant.look_us()
            share = round(look_us * details["looks_per_s"] / 1e6, 5)
            row = {"benchmark": "lines", "variant": name, "cpu_us_a_look": look_us}
            rows.append(row | {"fraction_of_a_core_if_50_per_s": share})
            print(json.dumps(rows[-1]))
    if settings.json is not None:
        harness.write(rows, settings.json)


if __name__ == "__main__":
    main()
