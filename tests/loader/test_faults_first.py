"""Of several bad samples of a batch, the first one by its place is named, whoever is quicker."""

from lightning_fastdata.loader.ring.jobs import Jobs
from lightning_fastdata.loader.ring.messages import SEED_BYTES, Chunk, ChunkDone, Failure
from lightning_fastdata.loader.ring.times import NO_TIMES


def failed(chunk: Chunk) -> ChunkDone:
    failure = Failure(None, "ValueError", f"row {chunk.first_row}")
    return ChunkDone(chunk.number, chunk.first_row, failure, NO_TIMES, None)


def test_a_failure_waits_for_the_chunks_before_it_and_for_no_other() -> None:
    jobs = Jobs(1)
    batch = Chunk(
        number=0,
        mode="rows",
        epoch=0,
        seeds=bytes(3 * SEED_BYTES),
        indices=bytes(3 * SEED_BYTES),
        batch_size=3,
    )
    jobs.add(batch, 2)
    first, second, _ = jobs.ready
    jobs.ready.clear()

    early, answer = jobs.settle(failed(second)), jobs.settle(failed(first))

    assert early is None
    assert answer is not None
    assert isinstance(answer.result, Failure)
    assert answer.result.text == "row 0"
