"""``lightning-fastdata report``: finds one report, shows it, and makes its files."""

import json
from pathlib import Path

import pytest
from written_reports import write_report

from lightning_fastdata.cli import main


@pytest.mark.parametrize("named", ["summary.json", "", "..", "../.."])
def test_a_run_is_a_file_its_folder_or_one_above(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_report(tmp_path / "logs" / "version_0" / "stall_report")

    assert main(["report", str(path.parent / named)]) == 0

    printed = capsys.readouterr()
    assert "Where a training step goes (30 steps" in printed.out
    assert "it waits 30.0 % of the time" in printed.out
    assert printed.err == ""


def test_several_reports_below_a_folder_are_named_and_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_report(tmp_path / f"version_{number}") for number in range(2)]

    assert main(["report", str(tmp_path)]) == 2

    printed = capsys.readouterr()
    assert printed.err.startswith(f"lightning-fastdata: {tmp_path} holds 2 reports ({paths[0]}, ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        (["/no/such/run"], "/no/such/run does not exist, wanted a summary.json"),
        ([""], "argument RUN: found an empty name, wanted a file or a folder"),
        ([], "the following arguments are required: RUN"),
        (["x", "--html", ""], "argument --html: found an empty name, wanted a file"),
        (["x", "--json", ""], "argument --json: found an empty name, wanted a file"),
        (["x", "--htm", "y"], "unrecognized arguments: --htm y"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(
    arguments: list[str], first_words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments]) == 2

    printed = capsys.readouterr()
    assert printed.err.startswith(f"lightning-fastdata: {first_words}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("content", "first_words"),
    [
        (b'{"schema_version": 1}', "found a stall report of schema version 1, wanted version 2"),
        (b"\xff\xfe", "'utf-8' codec"),
        (b"<html>", "the text is no JSON"),
    ],
)
def test_a_file_that_is_no_report_is_named_and_refused(
    content: bytes, first_words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)

    assert main(["report", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"lightning-fastdata: {path}: {first_words}")


def test_an_empty_folder_is_told_how_to_get_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "Train with DataStallProfiler()" in capsys.readouterr().err


def test_a_page_is_written_beside_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_report(tmp_path / "my-run" / "stall_report")
    page = tmp_path / "new" / "page.html"

    assert main(["report", str(path), "--html", str(page)]) == 0

    printed = capsys.readouterr()
    assert "Stall report: my-run" in page.read_text()
    assert "Verdict: " in printed.out
    assert printed.err == f"HTML: {page}\n"


def test_json_on_standard_output_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_report(tmp_path)

    assert main(["report", str(path), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())


def test_json_in_a_file_comes_beside_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy.json"

    assert main(["report", str(write_report(tmp_path)), "--json", str(copy)]) == 0

    assert json.loads(copy.read_text())["steps"] == 30
    assert capsys.readouterr().err == f"JSON: {copy}\n"


@pytest.mark.parametrize("kind", ["html", "json"])
def test_a_file_that_cannot_be_written_is_named(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_report(tmp_path)

    assert main(["report", str(path), f"--{kind}", str(path / "below-a-file")]) == 2
    assert capsys.readouterr().err.startswith(f"lightning-fastdata: --{kind} {path}")
