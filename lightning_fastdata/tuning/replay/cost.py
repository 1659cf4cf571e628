"""What batches cost to make, sample by sample as far as that is known."""

from dataclasses import dataclass
from typing import NamedTuple

from lightning_fastdata.errors import SettingsError


class Span(NamedTuple):
    """Consecutive rows of a batch, made at one go; a slow sample is a span of one row."""

    rows: int
    time_ns: int
    """Of a worker, for all of them; a piece of the span takes its share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchCost:
    """What one batch costs to make.

    Raises:
        SettingsError: If there is no span, one has no rows, or one takes negative time.
    """

    spans: tuple[Span, ...]
    """In the order of the rows."""

    def __post_init__(self) -> None:
        if not self.spans:
            raise SettingsError(
                "a batch's cost has no spans, one or more are wanted. "
                "Leave batches out that nothing is known of."
            )
        for rows, time_ns in self.spans:
            if rows < 1 or time_ns < 0:
                raise SettingsError(
                    f"a span has {rows} rows and takes {time_ns} ns, wanted are 1 row or more and "
                    "0 ns or more. Leave out spans without rows."
                )

    @property
    def rows(self) -> int:
        """How many samples."""
        return sum(span.rows for span in self.spans)

    @property
    def time_ns(self) -> int:
        """Of one worker that makes all of it."""
        return sum(span.time_ns for span in self.spans)


def chunk_times_ns(cost: BatchCost, rows: int) -> list[int]:
    """The time of each chunk, if a batch is cut after every ``rows`` rows. They add up to its own.

    Args:
        cost: The batch's.
        rows: Rows a chunk, 1 or more; the last chunk may have fewer.
    """
    times_ns: list[int] = []
    cut_at = rows  # the row before which the next cut is
    first_row = before_ns = last_cut_ns = 0
    for span_rows, span_ns in cost.spans:
        while cut_at < first_row + span_rows:
            # At the cut, not of the piece: what rounding takes from one chunk, the next one gets.
            cut_ns = before_ns + span_ns * (cut_at - first_row) // span_rows
            times_ns.append(cut_ns - last_cut_ns)
            last_cut_ns = cut_ns
            cut_at += rows
        first_row += span_rows
        before_ns += span_ns
    times_ns.append(before_ns - last_cut_ns)
    return times_ns


def scaled(cost: BatchCost, factor: float) -> BatchCost:
    """Give the cost if everything took ``factor`` times as long."""
    return BatchCost(spans=tuple(Span(rows, round(ns * factor)) for rows, ns in cost.spans))
