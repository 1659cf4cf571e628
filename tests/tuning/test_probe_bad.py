"""Samples that cannot be made are left out of what is measured."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from lightning_fastdata.tuning.probe import LeftOutError, probe_batches


@pytest.mark.parametrize("reads_whole", [False, True])
def test_a_batch_counts_in_full_though_some_of_its_samples_are_bad(reads_whole: bool) -> None:
    def make(indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        good = [index for index in indices if index % 3]
        if len(good) < len(indices):
            raise LeftOutError(good)
        return np.zeros(100 * len(indices), np.uint8)

    facts = probe_batches(make, length=60, batch_size=10, reads_whole=reads_whole)

    assert facts is not None
    assert facts.batch_bytes == 1000


def test_nothing_is_known_where_no_sample_can_be_made() -> None:
    def make(indices: Sequence[int]) -> None:
        raise LeftOutError([])

    assert probe_batches(make, length=60, batch_size=10, reads_whole=False) is None
