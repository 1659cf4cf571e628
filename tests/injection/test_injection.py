"""Each bottleneck that is put into a run is named, measured and predicted as it is.

A case runs twice, as it is and with the advised change, and all its tests look at that. Where one
fails on an overloaded machine (by the rig's own measure), its case is run once more, no oftener.
Where the machine is overloaded then too, figures that it spoils are not judged: skipped, and said.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from bottlenecks import drops_pages
from injection_cases import CASES, QUICK, Injected
from injection_outcome import (
    CLEAN_BELOW,
    PREDICTION_WITHIN,
    TRUTH_WITHIN,
    Outcome,
    outcome_of,
)
from injection_ranks import RANKS_CASE, outcome_of_ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # too many is a case
    pytest.mark.filterwarnings("ignore:There is a wide discrepancy"),
]
COLD_MAP = "cold_map-torch"
RANKS = "straggling_rank-torch"
SLOW = {**CASES, RANKS: RANKS_CASE}
ALL = {**QUICK, **SLOW}


def _each(names: list[str]) -> pytest.MarkDecorator:
    plain = QUICK.keys() - {"one_sample-quick"}
    marks = {name: [] if name in plain else [pytest.mark.slow] for name in names}
    return pytest.mark.parametrize("name", [pytest.param(n, marks=marks[n]) for n in names])


@pytest.fixture(scope="session")
def outcome_named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    """Run a case by its name, or give what came of it before."""
    known: dict[str, Outcome] = {}

    def run(name: str) -> Outcome:
        if name not in known:
            folder: Path = tmp_path_factory.mktemp("injected") / "run"
            if name == COLD_MAP and not drops_pages(folder.parent):
                pytest.skip("needs a file system that drops pages from memory when it is asked to")
            is_ranks = name == RANKS
            known[name] = outcome_of_ranks(folder) if is_ranks else outcome_of(ALL[name], folder)
        return known[name]

    return run


def _judged(outcome: Outcome, name: str) -> Outcome:
    if outcome.is_overloaded and outcome.misses(ALL[name]):
        pytest.skip("needs a machine that is not overloaded; this one was, twice")
    return outcome


def _of(names: dict[str, Injected], wanted: Callable[[Injected], bool]) -> list[str]:
    return [name for name, case in names.items() if wanted(case)]


@_each(_of(ALL, lambda case: case.cause is not None))
def test_the_first_finding_names_what_was_put_in(
    name: str, outcome_named: Callable[[str], Outcome]
) -> None:
    outcome = outcome_named(name)
    if name not in QUICK:  # their causes are plain under any load
        _judged(outcome, name)

    assert outcome.cause == ALL[name].cause, f"{outcome.advice} {ALL[name].why}"


@_each(_of(ALL, lambda case: case.cause is None))
def test_nothing_is_found_where_nothing_is_wrong(
    name: str, outcome_named: Callable[[str], Outcome]
) -> None:
    outcome = _judged(outcome_named(name), name)

    assert outcome.worst <= CLEAN_BELOW, outcome


@_each([*ALL])
def test_the_stall_is_the_true_one(name: str, outcome_named: Callable[[str], Outcome]) -> None:
    outcome = outcome_named(name)

    assert outcome.stall == pytest.approx(outcome.truth, abs=TRUTH_WITHIN)


@_each(_of(ALL, lambda case: case.is_predicted))
def test_the_advised_change_brings_what_was_predicted(
    name: str, outcome_named: Callable[[str], Outcome]
) -> None:
    outcome = _judged(outcome_named(name), name)

    assert outcome.measured == pytest.approx(outcome.predicted, abs=PREDICTION_WITHIN), outcome


@_each(_of(ALL, lambda case: case.is_predicted and case.remedy is None))
def test_the_second_report_sets_the_prediction_beside_what_came_of_it(
    name: str, outcome_named: Callable[[str], Outcome]
) -> None:
    outcome = _judged(outcome_named(name), name)

    assert outcome.is_followed is True


def test_the_table_holds_what_it_has_to() -> None:
    assert len(SLOW) >= 14
    assert len(_of(SLOW, lambda case: case.is_predicted)) >= 12
