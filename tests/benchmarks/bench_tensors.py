"""How fast do batches of tensors in memory come, and what does the loader cost on top of a gather?

Run ``python tests/benchmarks/bench_tensors.py [--json FILE]``. The data are 1,000 samples of
3 x 224 x 224 float32 in batches of 32, shuffled. ``gather`` is the least that can be done: one
``index_select`` a batch into buffers that are used again; ``fresh_gather`` does it into new memory.
"""

from collections.abc import Iterable

import torch
from harness import Variant, arguments, report, take_turns
from torch.utils.data import DataLoader, TensorDataset

from lightning_fastdata import FastDataLoader

SAMPLES, BATCH_SIZE, EPOCHS_A_ROUND = 1_000, 32, 2
BUFFERS = 3


def main() -> None:
    parsed = arguments(__doc__.splitlines()[0]).parse_args()
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn((SAMPLES, 3, 224, 224), generator=generator)
    dataset = TensorDataset(pictures, torch.arange(SAMPLES))
    loaders: dict[str, Iterable[list[torch.Tensor]]] = {
        "fastdata_auto": FastDataLoader(dataset, BATCH_SIZE, shuffle=True),
        "torch_0": DataLoader(dataset, BATCH_SIZE, shuffle=True),
    }
    for workers in (2, 4):
        loaders[f"torch_{workers}"] = DataLoader(
            dataset, BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=True
        )
    refuse_wrong_answers(loaders, dataset)
    variants: dict[str, Variant] = {
        name: lambda loader=loader: count(loader) for name, loader in loaders.items()
    }
    variants["gather"] = lambda: gather(dataset, reuse=True)
    variants["fresh_gather"] = lambda: gather(dataset, reuse=False)

    rates = take_turns(variants, parsed.rounds)
    best_of_torch = max(
        "torch_0", "torch_2", "torch_4", key=lambda name: sorted(rates[name])[len(rates[name]) // 2]
    )
    claims = {
        "at least 5 x torch with 4 persistent workers": ("fastdata_auto", "torch_4", 5.0),
        "at least 1.05 x torch's best of 0, 2 and 4": ("fastdata_auto", best_of_torch, 1.05),
        "at least 0.95 x a bare gather": ("fastdata_auto", "gather", 0.95),
    }
    plan = loaders["fastdata_auto"].plan
    report(
        "tensors",
        rates,
        claims,
        parsed.json,
        batch_size=BATCH_SIZE,
        samples=SAMPLES,
        fastdata_engine=plan.engine,
        fastdata_num_workers=plan.num_workers,
        best_of_torch=best_of_torch,
    )


def count(loader: Iterable[list[torch.Tensor]]) -> int:
    return sum(len(labels) for _ in range(EPOCHS_A_ROUND) for _, labels in loader)


def gather(dataset: TensorDataset, *, reuse: bool) -> int:
    buffers = (
        [
            [
                torch.empty((BATCH_SIZE, *tensor.shape[1:]), dtype=tensor.dtype)
                for tensor in dataset.tensors
            ]
            for _ in range(BUFFERS)
        ]
        if reuse
        else []
    )
    made = 0
    for _ in range(EPOCHS_A_ROUND):
        for number, rows in enumerate(torch.randperm(SAMPLES).split(BATCH_SIZE)):
            for position, tensor in enumerate(dataset.tensors):
                if reuse:
                    out = buffers[number % BUFFERS][position][: len(rows)]
                    torch.index_select(tensor, 0, rows, out=out)
                else:
                    torch.index_select(tensor, 0, rows)
            made += len(rows)
    return made


def refuse_wrong_answers(
    loaders: dict[str, Iterable[list[torch.Tensor]]], dataset: TensorDataset
) -> None:
    """Each epoch of each loader holds each row once, with its own label."""
    for name, loader in loaders.items():
        seen = []
        for pictures, labels in loader:
            assert torch.equal(pictures, dataset.tensors[0][labels]), (
                f"never time a wrong answer: {name}"
            )
            seen += labels.tolist()
        assert sorted(seen) == list(range(SAMPLES)), f"never time a wrong answer: {name}"


if __name__ == "__main__":
    main()
