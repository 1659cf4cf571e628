"""What other programs took of the CPU, from two readings of a clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_fastdata.cli.neighbours import CpuClock, others_fraction, read_cpu_clock

SECONDS = st.integers(0, 3)


@given(own_s=SECONDS, others_s=SECONDS, idle_s=SECONDS)
def test_others_have_what_is_neither_idle_nor_our_own(
    own_s: int, others_s: int, idle_s: int
) -> None:
    before = CpuClock(busy_s=7, idle_s=8, own_s=1)
    after = CpuClock(busy_s=7 + own_s + others_s, idle_s=8 + idle_s, own_s=1 + own_s)

    whole_s = own_s + others_s + idle_s
    expected = others_s / whole_s if whole_s else None
    assert others_fraction(before, after) == expected


def test_rounding_of_the_clocks_never_gives_a_negative_share() -> None:
    before = CpuClock(busy_s=0, idle_s=0, own_s=0)

    assert others_fraction(before, CpuClock(busy_s=1, idle_s=1, own_s=1.01)) == 0


def test_the_real_clock_goes_forward() -> None:
    before, after = read_cpu_clock(), read_cpu_clock()

    assert after.busy_s + after.idle_s >= before.busy_s + before.idle_s
    assert after.own_s == pytest.approx(before.own_s, abs=1)
