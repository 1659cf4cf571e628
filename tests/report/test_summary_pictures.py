"""What a notebook shows of a summary: a small page, and a figure of matplotlib."""

import sys

import pytest
from sample_summaries import HOSTILE, a_full_summary, a_hostile_summary, a_plain_summary

from lightning_fastdata.errors import MissingExtraError
from lightning_fastdata.stalls import StallSummary


@pytest.mark.parametrize(
    "summary", [a_full_summary(), a_plain_summary(), a_plain_summary(None)], ids=repr
)
def test_a_notebook_sees_the_verdict_first(summary: StallSummary) -> None:
    html = summary._repr_html_()

    assert html.index("<strong>T") < html.index("All figures")
    assert len(html) < 20_000


def test_a_notebook_sees_what_to_change() -> None:
    html = a_full_summary()._repr_html_()

    assert (
        "<strong>Too few workers</strong>: costs 29.7 % of the time<br>because: 4 workers" in html
    )
    assert "do: Raise num_workers from 4 to 11 (predicted stall 3.1 %)" in html
    assert "And 1 more of less weight." in html


def test_a_notebook_sees_figures_with_units_and_no_raw_ones() -> None:
    html = a_full_summary()._repr_html_()

    assert "<th style='text-align:left'>time of a step</th><td>125.00 ms</td>" in html
    assert "<th style='text-align:left'>workers' time: decode</th><td>58.0 %</td>" in html
    assert "_ns" not in html


def test_a_summary_names_itself_in_one_short_line() -> None:
    assert (
        repr(a_full_summary())
        == "StallSummary(steps=4820, stall_fraction=0.384, first_finding='too_few_workers')"
    )
    assert "stall_fraction=None, first_finding=None" in repr(a_plain_summary(None))


def test_a_notebook_sees_names_as_text() -> None:
    assert HOSTILE[:8] == "<script>"
    assert "<script>" not in a_hostile_summary()._repr_html_()


def test_a_figure_shows_the_bar_and_the_run() -> None:
    figure = a_full_summary().plot()

    bar, course = figure.axes
    assert [axes.get_xlabel() for axes in (bar, course)] == ["ms a step", "step"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0] == "waiting for data"
    assert figure.get_suptitle() == ("Training is starved of data; it waits 38.4 % of the time.")
    assert sum(patch.get_width() for patch in bar.patches) == pytest.approx(125.0)


@pytest.mark.parametrize("summary", [a_full_summary(), a_plain_summary(None)], ids=["full", "none"])
def test_a_figure_draws_itself_in_a_notebook(summary: StallSummary) -> None:
    png = summary.plot()._repr_png_()  # type: ignore[attr-defined]  # of our own figure

    assert png.startswith(b"\x89PNG")


def test_a_legend_names_only_what_the_figure_shows() -> None:
    figure = a_plain_summary().plot()

    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["waiting for data", "compute"]


def test_a_figure_opens_no_window() -> None:
    a_plain_summary().plot()

    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_missing_matplotlib_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'lightning-fastdata\[plot\]'$"):
        a_plain_summary().plot()
