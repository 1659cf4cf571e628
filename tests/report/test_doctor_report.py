"""What a check-up looks like: on a terminal, in a file, as JSON and in a notebook."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from lightning_fastdata.checkup.result import (
    BadSample,
    Check,
    DoctorReport,
    Level,
    Outlier,
    SlowSample,
)
from lightning_fastdata.report.doctor import (
    doctor_text,
    render_doctor,
    verdict,
)
from lightning_fastdata.report.files import write_json

REPORT = DoctorReport(
    checks=(
        Check(name="cores", level="ok", found="8 cores"),
        Check(
            name="samples",
            level="error",
            found="1 sample cannot be made",
            wanted="samples that can all be made",
            remedy="Repair it.",
            dataset="pets",
        ),
    ),
    bad_samples=(BadSample(dataset="pets", index=7, path="/a[/bold]/7.jpg", error="OSError: <b>"),),
    outliers=(Outlier(dataset="pets", index=8, path=None, found="int", usual="str"),),
    slowest=(
        SlowSample(dataset="pets", index=9, path="/a/9.jpg", wall_ns=8_000_000, cpu_ns=2_000_000),
        SlowSample(dataset="pets", index=1, path="/a/1.jpg", wall_ns=9_000, cpu_ns=9_500),
    ),
    facts={"oom_kills": 0},
)


def of_level(*levels: Level) -> DoctorReport:
    return DoctorReport(checks=tuple(Check(name="x", level=level, found="y") for level in levels))


def drawn(width: int) -> str:
    file = io.StringIO()
    render_doctor(REPORT, console=Console(file=file, force_terminal=True, width=width))
    return file.getvalue()


def test_a_file_gets_plain_ascii_with_what_to_do_below_each_finding() -> None:
    text = doctor_text(REPORT)

    assert text.isascii()
    assert "  ok       cores             8 cores\n" in text
    assert "Dataset pets\n  error    samples           1 sample cannot be made\n" in text
    assert "wanted: samples that can all be made\n" in text
    assert "do: Repair it.\n" in text


def test_each_sample_is_one_line_of_a_file() -> None:
    lines = doctor_text(REPORT).splitlines()

    assert "  7  /a[/bold]/7.jpg  OSError: <b>" in lines
    assert "  8  int" in lines
    assert "  9  /a/9.jpg  8.00 ms (25.0 % of it CPU)" in lines


def test_a_sample_too_quick_to_matter_is_not_listed() -> None:
    assert "/a/1.jpg" not in doctor_text(REPORT)


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_tables_that_fit_its_width(width: int) -> None:
    text = drawn(width)

    assert "╭" in text
    assert "/a[/bold]/7.jpg" in text
    assert max(Text.from_ansi(line).cell_len for line in text.splitlines()) <= width


def test_long_lists_are_cut_and_say_so() -> None:
    many = tuple(BadSample(dataset="d", index=i, path=None, error="no") for i in range(1500))
    text = doctor_text(DoctorReport(checks=REPORT.checks, bad_samples=many))

    assert "Samples that cannot be made (20 of 1,500; --json FILE has all)" in text
    assert "  19  no" in text
    assert "  20  no" not in text


@pytest.mark.parametrize(
    ("report", "words", "is_healthy"),
    [
        (of_level("ok", "ok"), "Healthy: 2 checks, all well.", True),
        (of_level("ok", "note", "warning"), "Healthy: 3 checks, 1 warning, 1 note.", True),
        (of_level("error", "error"), "Not healthy: 2 checks, 2 errors.", False),
    ],
)
def test_one_sentence_says_how_it_stands(
    report: DoctorReport, words: str, is_healthy: bool
) -> None:
    assert verdict(report) == words
    assert report.is_healthy == is_healthy


def test_json_has_everything_and_replaces_the_last(tmp_path: Path) -> None:
    path = tmp_path / "new" / "doctor.json"

    write_json(of_level("ok"), path)
    write_json(REPORT, path)

    values = json.loads(path.read_text())
    assert values["schema_version"] == 1
    assert values["is_healthy"] is False
    assert values["bad_samples"][0]["index"] == 7
    assert values["facts"] == {"oom_kills": 0}
    assert list(path.parent.iterdir()) == [path]


def test_a_notebook_gets_tables_with_texts_escaped() -> None:
    html = REPORT._repr_html_()

    assert "OSError: &lt;b&gt;" in html
    assert "<b>" not in html
