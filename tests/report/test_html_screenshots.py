"""The page in a real browser: nothing sticks out, nothing is asked for, and something is there."""

import re
from pathlib import Path

import pytest
from headless import browse, browser, framed, photograph
from PIL import Image
from sample_summaries import HOSTILE, a_full_summary, a_hostile_summary, a_plain_summary

from lightning_fastdata.report import render_html

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        browser() is None, reason="found no Chromium on the PATH (Debian: apt-get install chromium)"
    ),
]

WAITING, COMPUTING = (213, 94, 0), (76, 147, 200)
"""The colours of two parts in the light theme, as the style sheet has them."""


def coloured(picture: Path) -> dict[tuple[int, ...], int]:
    with Image.open(picture) as image:
        counts = image.convert("RGB").getcolors(maxcolors=2**24)
    assert counts is not None
    return {color: count for count, color in counts if isinstance(color, tuple)}


def test_no_page_is_wider_than_its_window(tmp_path: Path) -> None:
    hostile = render_html(a_hostile_summary(), title=HOSTILE)
    full, plain = render_html(a_full_summary()), render_html(a_plain_summary())
    widths = [(page, width) for page in (hostile, full, plain) for width in (320, 375, 768, 1280)]
    page = tmp_path / "frames.html"
    page.write_text(framed(widths), encoding="utf-8")

    printed, messages = browse(page, "--dump-dom")

    measured = re.search(r"<pre>([\d\s]+)</pre>", printed)
    assert measured, messages
    sizes = [[int(number) for number in line.split()] for line in measured[1].splitlines()]
    assert len(sizes) == len(widths)
    for width, wanted, height in sizes:
        assert wanted <= width
        assert height > 300
    assert messages == []


def test_a_wide_page_shows_its_colours_and_says_nothing_in_the_console(tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "wide.png"
    page.write_text(render_html(a_full_summary()), encoding="utf-8")

    messages = photograph(page, picture, width=1280, height=4000)

    colors = coloured(picture)
    assert messages == []
    assert colors[WAITING] > 5_000
    assert colors[COMPUTING] > 20_000
    assert len(colors) > 200


def test_a_phone_shows_the_verdict_on_its_first_screen(tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "phone.png"
    page.write_text(framed([(render_html(a_full_summary()), 375)]), encoding="utf-8")

    messages = photograph(page, picture, width=500, height=700)

    colors = coloured(picture)
    assert messages == []
    assert colors[(173, 58, 8)] > 1_000, "the figure and the bar above it"


def test_a_page_that_asks_for_something_would_be_noticed(tmp_path: Path) -> None:
    """The check on the checks above: the policy of the page refuses, and the console says so."""
    text = render_html(a_plain_summary())
    page = tmp_path / "asking.html"
    asking = text.replace("<main>", '<main><img src="http://example.org/x.png">')
    page.write_text(asking, encoding="utf-8")

    _, messages = browse(page, "--dump-dom")

    assert "Content Security Policy" in "".join(messages)
