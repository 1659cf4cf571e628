"""How much longer does a training step take while it is measured?

Run ``python tests/benchmarks/bench_profiler.py [--rounds 9] [--steps 300] [--accelerator gpu]``; it
prints one JSON line a variant and loader. Every variant trains the same model, which computes next
to nothing, on the same tensors, for the same number of steps; a callback that all of them carry
notes when a step ended. A fit is timed from its 20th step on, so that neither starting nor the
report counts, and the variants take turns.

    none        no profiler
    callback    an empty callback: what Lightning itself takes to call its hooks
    fastdata    DataStallProfiler, with nothing logged and no report
    simple      Lightning's SimpleProfiler
    advanced    Lightning's AdvancedProfiler
    traceml     TraceML's callback, where it is installed

``added`` is the step's time less that of ``none`` in the same turn. Wanted: under 50 microseconds.
``added_cpu`` is the same in time of this process on a core, threads included; ``added_typical``
goes by the median step of a fit: without what comes now and then, less changed by others' work.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from harness import WARMUP, arguments, write
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import AdvancedProfiler, SimpleProfiler
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastdata import FastDataLoader
from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.machine import facts, read_machine

WANTED_US = 50.0
SKIPPED_STEPS = 20
BATCH = 8


class Nothing(LightningModule):
    """A step that costs Lightning's own loop and little else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class StepEnds(Callback):
    def __init__(self) -> None:
        self.ended_ns: list[tuple[int, int]] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended_ns.append((time.perf_counter_ns(), time.process_time_ns()))


Extras = Callable[[], dict[str, Any]]


def variants() -> Iterator[tuple[str, Extras]]:
    yield "none", dict
    yield "callback", lambda: {"callbacks": [Callback()]}
    yield "fastdata", lambda: {"callbacks": [DataStallProfiler(reports=(), log_every_n_steps=0)]}
    yield "simple", lambda: {"profiler": SimpleProfiler()}
    yield "advanced", lambda: {"profiler": AdvancedProfiler()}
    try:
        from traceml.integrations.lightning import TraceMLCallback
    except ImportError:
        return
    yield "traceml", lambda: {"callbacks": [TraceMLCallback()]}


def loaders(samples: int) -> dict[str, Callable[[], Any]]:
    data = TensorDataset(torch.randn(samples, 4))
    return {
        "FastDataLoader": lambda: FastDataLoader(data, batch_size=BATCH, num_workers=0),
        "DataLoader": lambda: DataLoader(data, batch_size=BATCH, num_workers=0),
    }


def step_us(
    make_loader: Callable[[], Any], extras: dict[str, Any], settings: Any
) -> tuple[float, float, float]:
    """Microseconds of a step, from one fit: on the wall, on a core, and of the median step."""
    ends = StepEnds()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[*extras.pop("callbacks", []), ends],
            **extras,
        )
        trainer.fit(Nothing(), make_loader())
    assert len(ends.ended_ns) == settings.steps, "never time a run that did something else"
    timed = ends.ended_ns[SKIPPED_STEPS:]
    wall_ns, cpu_ns = (last - first for first, last in zip(timed[0], timed[-1], strict=True))
    median_ns = statistics.median(after[0] - before[0] for before, after in pairwise(timed))
    return wall_ns / (len(timed) - 1) / 1e3, cpu_ns / (len(timed) - 1) / 1e3, median_ns / 1e3


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, median, high = (round(value, 1) for value in statistics.quantiles(values, n=4))
    return low, median, high


def measure(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    machine = facts(read_machine(os.environ))
    for loader, make_loader in loaders(settings.steps * BATCH).items():
        times_us: dict[str, list[tuple[float, float, float]]] = {name: [] for name, _ in variants()}
        for turn in range(WARMUP + settings.rounds):
            for name, extras in variants():
                spent_us = step_us(make_loader, extras(), settings)
                if turn >= WARMUP:
                    times_us[name].append(spent_us)
        for name, each_us in times_us.items():
            pairs = list(zip(each_us, times_us["none"], strict=True))
            added = {
                name: quartiles([one[place] - other[place] for one, other in pairs])
                for place, name in enumerate(("added_us", "added_cpu_us", "added_typical_us"))
            }
            yield {
                "benchmark": "profiler",
                "variant": name,
                "loader": loader,
                "step_us_median": round(statistics.median(one[0] for one in each_us), 1),
                **{f"{name}_median": median for name, (_, median, _) in added.items()},
                **{f"{name}_quartiles": [low, high] for name, (low, _, high) in added.items()},
                "wanted_us": WANTED_US if name == "fastdata" else None,
                "steps": settings.steps,
                "rounds": settings.rounds,
                "accelerator": settings.accelerator,
                "machine": machine,
            }


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--accelerator", default="cpu")
    settings = parser.parse_args()
    warnings.simplefilter("ignore")  # Lightning's, about runs as small as these
    for namespace in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(namespace).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    rows = []
    for row in measure(settings):
        print(json.dumps(row), flush=True)
        rows.append(row)
    if settings.json is not None:
        write(rows, settings.json)


if __name__ == "__main__":
    main()
