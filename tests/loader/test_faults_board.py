"""What a worker notes of itself can be read back, and changes with every step."""

from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.loader.make import NO_ROW
from lightning_fastdata.loader.ring.board import Board


@given(chunks=st.lists(st.lists(st.integers(0, 5), unique=True), max_size=5))
def test_each_step_can_be_read_and_told_from_the_one_before(chunks: list[list[int]]) -> None:
    board = Board()
    seen = [board.beats]

    for number, rows in enumerate(chunks, 1):
        board.takes_chunk()
        assert (board.chunks, board.row) == (number, NO_ROW)
        seen.append(board.beats)
        for row in rows:
            board.at_row(row)
            assert (board.chunks, board.row) == (number, row)
            seen.append(board.beats)
        if rows:
            board.at_row(NO_ROW)
            assert (board.chunks, board.row) == (number, NO_ROW)

    assert len(set(seen)) == len(seen)
