"""What stands for the times of work that nobody did."""

from lightning_fastdata.trace.work import ChunkTimes

NO_TIMES = ChunkTimes(
    worker=0, samples=0, began_ns=0, ended_ns=0, cpu_ns=0, page_faults=0, read_bytes=0
)
"""Of a chunk that was given up."""
