"""``lightning-fastdata compare``: its exit status is that of a check in a pipeline."""

from pathlib import Path

import pytest
from written_reports import write_report

from lightning_fastdata.cli import main


def test_a_run_that_is_not_worse_is_status_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_report(tmp_path / name, wait_ns) for name, wait_ns in (("a", 30), ("b", 10))]

    assert main(["compare", str(runs[0]), str(tmp_path / "b")]) == 0

    printed = capsys.readouterr()
    assert f"A: {runs[0]}\nB: {runs[1]}\n" in printed.out
    assert "Verdict: B is better; 1.25 times A's samples a second" in printed.out
    assert printed.err == ""


def test_a_run_that_is_worse_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = write_report(tmp_path / "a", 10), write_report(tmp_path / "b", 30)

    assert main(["compare", str(before), str(after)]) == 1
    assert "Verdict: B is worse" in capsys.readouterr().out


def test_what_is_tolerated_decides_the_status(tmp_path: Path) -> None:
    before, after = write_report(tmp_path / "a", 10), write_report(tmp_path / "b", 30)

    tolerated = ["--tolerance", "0.5", "--rate-tolerance", "0.5"]
    assert main(["compare", str(before), str(after), *tolerated]) == 0


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        (["/no/such/run", "/no"], "/no/such/run does not exist, wanted a summary.json"),
        (["one"], "the following arguments are required: B"),
        (["a", "b", "--tolerance", "2 %"], "argument --tolerance: found '2 %', wanted a share"),
        (["a", "b", "--tolerance", "nan"], "argument --tolerance: found 'nan', wanted a share"),
        (["a", "b", "--rate-tolerance", "-1"], "argument --rate-tolerance: found '-1', wanted"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(
    arguments: list[str], first_words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *arguments]) == 2

    printed = capsys.readouterr()
    assert printed.err.startswith(f"lightning-fastdata: {first_words}")
    assert printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize("command", ["report", "compare"])
def test_help_says_what_a_run_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])

    assert "RUN is a summary.json that DataStallProfiler wrote" in capsys.readouterr().out
