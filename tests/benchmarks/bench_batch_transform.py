"""What does it save to do NumPy work once a batch (``batch_transform``) instead of once a sample?

Run ``python tests/benchmarks/bench_batch_transform.py [--json FILE]``. The work is scaling, adding
a bias and clipping of 2,048 float32 a sample, with two workers each time and batches of 256.
``in_place`` changes the batch that it is given; ``once_a_batch`` returns a new one, which the
worker has to copy into shared memory once more.
"""

import numpy as np
import torch
from harness import Variant, arguments, report, take_turns
from torch.utils.data import Dataset

from lightning_fastdata import FastDataLoader

SAMPLES, WIDTH, BATCH_SIZE, WORKERS = 8_192, 2_048, 256, 2


def work(values: np.ndarray) -> np.ndarray:
    return np.clip(values * np.float32(1.7) + np.float32(0.3), -1, 1)


def work_on_batch(batch: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(work(batch.numpy()))


def work_in_place(batch: torch.Tensor) -> torch.Tensor:
    values = batch.numpy()
    values *= np.float32(1.7)
    values += np.float32(0.3)
    np.clip(values, -1, 1, out=values)
    return batch


class Rows(Dataset):
    """Rows of an array, worked on one by one or not at all."""

    def __init__(self, rows: np.ndarray, *, each: bool) -> None:
        self.rows, self.each = rows, each

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        row = self.rows[index]
        return torch.from_numpy(work(row) if self.each else row)


def main() -> None:
    parsed = arguments(__doc__.splitlines()[0]).parse_args()
    rows = np.random.default_rng(0).standard_normal((SAMPLES, WIDTH), dtype=np.float32)
    plain = Rows(rows, each=False)
    loaders = {
        "in_place": FastDataLoader(
            plain, BATCH_SIZE, num_workers=WORKERS, batch_transform=work_in_place
        ),
        "once_a_batch": FastDataLoader(
            plain, BATCH_SIZE, num_workers=WORKERS, batch_transform=work_on_batch
        ),
        "once_a_sample": FastDataLoader(Rows(rows, each=True), BATCH_SIZE, num_workers=WORKERS),
    }
    answers = [torch.cat(list(loader)) for loader in loaders.values()]
    for answer in answers:
        assert torch.equal(answer, answers[0]), "never time a wrong answer"
    variants: dict[str, Variant] = {
        name: lambda loader=loader: sum(len(batch) for batch in loader)
        for name, loader in loaders.items()
    }

    rates = take_turns(variants, parsed.rounds)
    claims = {
        "in place, faster than once a sample": ("in_place", "once_a_sample", 1.0),
        "with a new batch, faster than once a sample": ("once_a_batch", "once_a_sample", 1.0),
    }
    report(
        "batch_transform", rates, claims, parsed.json, batch_size=BATCH_SIZE, num_workers=WORKERS
    )


if __name__ == "__main__":
    main()
