"""The HTML page: whole in itself, safe against names, and no longer than it has things to say."""

import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_summaries import HOSTILE, a_full_summary, a_hostile_summary, a_plain_summary
from typing_extensions import override

from lightning_fastdata.report import render_html, write_html
from lightning_fastdata.stalls import RunDetail, StallSummary

EMPTY_TAGS = {"meta", "br", "hr", "img", "link", "input"}
SUMMARIES = {
    "full": a_full_summary(),
    "hostile": a_hostile_summary(),
    "plain": a_plain_summary(),
    "waits": a_plain_summary(0.1),
    "short": a_plain_summary(None),
}


class Page(HTMLParser):
    """Reads a page, and fails where a tag is not closed by its own end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", " ".join(data.split())))

    def headings(self) -> list[str]:
        return [text for tag, text in self.texts if tag == "h2"]

    def words(self) -> str:
        return " ".join(text for tag, text in self.texts if tag not in ("style", "title"))


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_page_is_well_formed_and_small(name: str) -> None:
    text = render_html(SUMMARIES[name])

    assert dict(Page(text).tags)["html"] == {"lang": "en"}
    assert len(text.encode("utf-8")) < 500_000


@pytest.mark.parametrize("name", SUMMARIES)
def test_the_page_loads_nothing_and_runs_nothing(name: str) -> None:
    text = render_html(SUMMARIES[name], title=HOSTILE)

    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    for _, attributes in page.tags:
        assert not {key for key in attributes if key.startswith("on") or key in ("src", "href")}
    assert set(re.findall(r"url\([^)]*\)", text)) <= {"url(#hatch)"}
    assert "@import" not in text
    policies = [each for tag, each in page.tags if each.get("http-equiv")]
    assert [each["content"] for each in policies] == [
        "default-src 'none'; style-src 'unsafe-inline'"
    ]


def test_names_stay_text() -> None:
    page = Page(render_html(a_hostile_summary(), title=HOSTILE))

    assert '<script>alert("x")</script>' in page.words()
    assert "\u202e" not in page.words()


def test_the_verdict_comes_first_and_then_what_to_change() -> None:
    page = Page(render_html(a_full_summary(), title="my run"))

    words = page.words()
    assert words.index("Training is starved of data") < words.index("Change first:")
    assert words.index("Change first:") < words.index("What to change")
    assert page.headings() == [
        "What to change",
        "Where a step goes",
        "The whole run",
        "The last 4.24 s in full",
        "Workers",
        "Epochs and processes",
        "Samples left out or replaced",
        "The run and its machine",
    ]


def test_a_finding_is_told_with_its_evidence_its_change_and_both_stalls() -> None:
    words = Page(render_html(a_full_summary())).words()

    told = words[words.index("Too few workers") : words.index("A few slow samples")]
    for part in (
        "12 of 16 cores were free.",
        "Raise num_workers from 4 to 11.",
        "num_workers: 4 -> 11",
        "stall now 38.4 %",
        "predicted 3.1 %",
        "29.7 % of the time lost to this",
    ):
        assert part in told


def test_followed_advice_shows_before_predicted_and_measured() -> None:
    words = Page(render_html(a_full_summary())).words()

    assert "Done since the last run: Too few workers num_workers: 2 -> 4" in words
    assert "stall before 61.2 % predicted 37.1 % measured 38.4 % The prediction held." in words


def test_the_page_says_what_was_run_and_when() -> None:
    full = a_full_summary()
    assert full.run is not None
    run = replace(full.run, script="train.py", started_at="2026-11-23T06:10:16+00:00")

    page = Page(render_html(replace(full, run=run), title="version_3"))

    origin = "train.py, 2026-11-23 06:10:16+00:00"
    assert origin in page.words()
    assert ("title", f"Stall report: version_3, {origin}") in page.texts


def test_a_page_without_a_title_is_named_by_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "version_3" / "stall_report" / "report.html"

    write_html(a_plain_summary(), path)

    assert "<title>Stall report: version_3</title>" in path.read_text(encoding="utf-8")


def a_page_of_host_lines(part: str, *, num_workers: int = 4, fraction: float = 0.5) -> str:
    """Of a run with a tenth of its wall time in ``part``, and one line in that."""
    full = a_full_summary()
    assert full.run is not None
    wall_ns = 1_000_000_000
    summary = replace(
        full,
        wall_ns=wall_ns,
        exposed_stall_ns=wall_ns // 10,
        other_host_ns=wall_ns // 10,
        checkpoint_ns=0,
        logging_ns=0,
        validation_ns=0,
        run=replace(full.run, loaders=(replace(full.run.loaders[0], num_workers=num_workers),)),
        host_lines=(replace(full.host_lines[0], part=part, fraction=fraction),),
    )
    return Page(render_html(summary)).words()


def test_a_line_of_the_training_process_has_its_share_of_a_step() -> None:
    words = a_page_of_host_lines("other")

    assert "of a step other host work log_images.py:33 on_train_batch_end" in words
    assert "grid = make_grid(batch[0].cpu()) 5.0 %" in words


def test_a_line_of_less_than_a_hundredth_of_a_step_is_left_out() -> None:
    assert "log_images.py" not in a_page_of_host_lines("other", fraction=0.09)


def test_lines_that_wait_for_workers_are_left_out_and_those_of_an_inline_loader_are_not() -> None:
    assert "log_images.py" not in a_page_of_host_lines("wait")
    assert "log_images.py" in a_page_of_host_lines("wait", num_workers=0)


def test_the_picture_of_the_run_says_that_the_warm_up_is_in_it() -> None:
    steps = sum(bucket.steps for bucket in a_full_summary().detail.timeline)
    short = replace(a_full_summary(), steps=steps - 20)

    words = Page(render_html(short)).words()

    assert f"20 of these {steps:,} steps were the warm-up" in words
    assert "were the warm-up" not in Page(render_html(replace(short, steps=steps))).words()


@pytest.mark.parametrize(("steps", "name"), [(99, "longest wait"), (100, "1 wait in 100 over")])
def test_a_hundredth_of_few_waits_is_called_the_longest(steps: int, name: str) -> None:
    assert f"{name} 1.14 s" in Page(render_html(replace(a_full_summary(), steps=steps))).words()


def test_what_was_not_measured_leaves_its_section_out() -> None:
    assert Page(render_html(a_plain_summary())).headings() == ["Where a step goes"]
    assert Page(render_html(a_plain_summary(None))).headings() == []


@pytest.mark.parametrize(
    "field", [field.name for field in fields(StallSummary) if field.default == ()]
)
def test_each_optional_part_may_be_missing_alone(field: str) -> None:
    Page(render_html(replace(a_full_summary(), **{field: ()})))


@pytest.mark.parametrize("field", ["timeline", "spans", "depth"])
def test_each_picture_may_be_missing_alone(field: str) -> None:
    detail: RunDetail = a_full_summary().detail
    without = replace(a_full_summary(), detail=replace(detail, **{field: ()}))

    Page(render_html(without))


def test_a_picture_names_itself_and_its_shapes_have_tooltips() -> None:
    page = Page(render_html(a_full_summary()))

    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-hidden") or attributes.get("aria-label")
    tips = [text for tag, text in page.texts if tag == "title"]
    assert any(tip.startswith("decode: ") for tip in tips)
    assert any(tip.startswith("steps 1 to 36, ms a step; waiting for data ") for tip in tips)


def test_the_page_is_written_whole_with_any_name_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"

    write_html(a_hostile_summary(), path, title=HOSTILE)

    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert list(path.parent.iterdir()) == [path]
