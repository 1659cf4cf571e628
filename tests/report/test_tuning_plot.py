"""The picture that ``tune`` draws: what was predicted, what was measured, what was chosen."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from tuned_plans import STALLS, a_candidate, a_plan, a_plan_by_rate

from lightning_fastdata.errors import MissingExtraError
from lightning_fastdata.report.tuning_plot import plot_tuning, write_plot
from lightning_fastdata.report.tuning_words import tuning_verdict

STARTS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def points_of(axes: Axes, label: str) -> list[list[float]]:
    [found] = [each for each in axes.collections if each.get_label() == label]
    return [[float(value) for value in point] for point in found.get_offsets()]


def labels_of(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_stall_and_rate_stand_over_the_same_workers() -> None:
    figure = plot_tuning(a_plan(), 0.02)

    stalls, rates = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["stall (% of a step)", "batches/s"]
    assert rates.get_xlabel() == "workers"
    assert stalls.get_shared_x_axes().joined(stalls, rates)
    assert figure.get_suptitle() == tuning_verdict(a_plan(), 0.02)


def test_predictions_are_a_line_and_measurements_are_points() -> None:
    stalls, rates = plot_tuning(a_plan(), 0.02).axes

    limit, predicted = stalls.get_lines()
    assert list(predicted.get_xdata()) == list(range(len(STALLS)))
    assert list(predicted.get_ydata()) == pytest.approx([100 * stall for stall in STALLS])
    assert points_of(stalls, "measured") == [[2, pytest.approx(21.0)], [3, pytest.approx(1.4)]]
    assert points_of(rates, "measured") == [[2, pytest.approx(15.8)], [3, pytest.approx(19.72)]]
    assert (limit.get_linestyle(), list(limit.get_ydata())) == ("--", [2.0, 2.0])
    assert labels_of(stalls) == ["limit (2 %)", "predicted", "measured", "chosen: 3 workers"]


def test_the_choice_is_marked_at_what_is_known_best() -> None:
    tried, not_tried = plot_tuning(a_plan(), 0.02), plot_tuning(a_plan(4), 0.02)

    assert points_of(tried.axes[0], "chosen: 3 workers") == [[3, pytest.approx(1.4)]]
    assert points_of(not_tried.axes[0], "chosen: 4 workers") == [[4, pytest.approx(0.4)]]


def test_without_a_stall_only_the_rate_is_drawn() -> None:
    figure = plot_tuning(a_plan_by_rate(), 0.02)

    [rates] = figure.axes
    assert rates.get_ylabel() == "batches/s"
    assert labels_of(rates) == ["predicted", "chosen: 4 workers"]


def test_the_line_is_of_the_best_depth_of_prefetching() -> None:
    deeper = replace(a_candidate(1, 0.1), prefetch_batches=8)
    plan = a_plan()
    plan = replace(plan, candidates=(a_candidate(0, 0.5), deeper, a_candidate(1, 0.2)))

    stalls, rates = plot_tuning(plan, 0.02).axes

    assert list(stalls.get_lines()[1].get_ydata()) == pytest.approx([50.0, 10.0])
    assert list(rates.get_lines()[0].get_ydata()) == pytest.approx([10.0, 18.0])


def test_a_stall_of_nothing_and_a_plan_without_candidates_can_be_drawn() -> None:
    still = plot_tuning(a_plan(0, (0.0, 0.0), {}), 0.0).axes[0]

    assert still.get_ylim()[1] >= 1
    assert len(plot_tuning(a_plan(2, (), {}), 0.02).axes) == 1


@pytest.mark.parametrize("suffix", STARTS)
def test_the_file_is_of_the_kind_that_its_name_says(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"tune.{suffix.upper()}"

    write_plot(a_plan(), 0.02, path)

    assert path.read_bytes().startswith(STARTS[suffix])
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_drawing_opens_no_window() -> None:
    plot_tuning(a_plan(), 0.02)

    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_missing_matplotlib_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'lightning-fastdata\[plot\]'$"):
        plot_tuning(a_plan(), 0.02)
