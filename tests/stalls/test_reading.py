"""What speaks for storage: reads in the chunks that waited, and not those of a program's start."""

import pytest

from lightning_fastdata.stalls.reading import reading
from lightning_fastdata.stalls.thresholds import FindingThresholds
from lightning_fastdata.trace import BatchTimes, ChunkTimes, WorkTotals

WAITED_NS = 30_000_000


def totals_of(*read: tuple[int, int]) -> WorkTotals:
    """Sums of chunks of four samples that only waited, by the bytes and the pages each read."""
    totals = WorkTotals()
    for read_bytes, major_faults in read:
        chunk = ChunkTimes(
            worker=0,
            samples=4,
            began_ns=0,
            ended_ns=WAITED_NS,
            cpu_ns=0,
            page_faults=0,
            read_bytes=read_bytes,
            major_faults=major_faults,
        )
        totals.add(BatchTimes(0, 0, 0, WAITED_NS, 0, WAITED_NS, None, (chunk,)))
    return totals


@pytest.mark.parametrize("read", [(200_000, 0), (0, 3)])
def test_reads_all_along_speak_for_storage(read: tuple[int, int]) -> None:
    assert reading(totals_of(*[read] * 60), FindingThresholds()).evidence


@pytest.mark.parametrize("read", [(50_000_000, 0), (0, 400)])
def test_a_program_that_reads_its_libraries_at_the_start_waits_for_no_storage(
    read: tuple[int, int],
) -> None:
    assert reading(totals_of(read, *[(0, 0)] * 59), FindingThresholds()).evidence == ()
