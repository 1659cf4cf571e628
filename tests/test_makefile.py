"""The Makefile's set-up: once, whole, and with a sentence where it cannot be done.

A shell script plays Python here, so nothing is installed and each test takes milliseconds.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Writes each call to calls.txt. `-m venv` copies it into .venv; `-m pip install` and `-m pytest`
# end as the test wants; `-c` runs the Makefile's check in a real Python.
FAKE_PYTHON = f"""#!/bin/sh
echo "$*" | head -n 1 >> calls.txt
case "$1 $2 $3" in
    "-m venv "*) mkdir -p .venv/bin && cp fake-python .venv/bin/python ;;
    "-m pip install") [ ! -e pip-is-killed ] || kill -9 $PPID; [ ! -e pip-fails ] ;;
    "-m pytest "*) [ ! -e tests-fail ] ;;
    "-c "*) {sys.executable} -c "$BEFORE_CHECK
$2" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(PROJECT / name, tmp_path)
    python = tmp_path / "fake-python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return tmp_path


def make(project: Path, *arguments: str, **variables: str) -> tuple[int, str, list[str]]:
    """Run make; return its exit status, what it printed, and the calls of Python."""
    calls = project / "calls.txt"
    calls.write_text("")
    # Not what an outer `make test` hands down.
    outer = {"ARGS", "TORCH_INDEX", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}
    inherited = {name: value for name, value in os.environ.items() if name not in outer}
    process = subprocess.run(
        ["make", "PYTHON=./fake-python", *arguments],
        cwd=project,
        env=inherited | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return process.returncode, process.stdout, calls.read_text().splitlines()


def installs(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith("-m pip install")]


def test_the_first_run_makes_the_environment_from_wheels_only(project: Path) -> None:
    status, _, calls = make(project, "test")

    assert status == 0
    assert "-m venv .venv" in calls
    [install] = installs(calls)
    assert "--only-binary=:all:" in install
    assert calls[-1].startswith("-m pytest")


def test_the_second_run_sets_nothing_up(project: Path) -> None:
    make(project, "test")

    status, _, calls = make(project, "test", "ARGS=-k order")

    assert status == 0
    assert calls == ["-m pytest -k order"]


def test_a_changed_pyproject_installs_again_into_the_same_environment(project: Path) -> None:
    make(project, "test")
    newer_s = (project / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(project / "pyproject.toml", (newer_s, newer_s))

    _, _, calls = make(project, "test")

    assert len(installs(calls)) == 1
    assert "-m venv .venv" not in calls


def test_an_environment_made_by_hand_is_completed_not_replaced(project: Path) -> None:
    shutil.copytree(project, project / ".venv" / "bin", ignore=lambda *_: ["pyproject.toml"])
    (project / ".venv" / "bin" / "fake-python").rename(project / ".venv" / "bin" / "python")

    status, _, calls = make(project, "test")

    assert status == 0
    assert len(installs(calls)) == 1
    assert "-m venv .venv" not in calls


def test_an_install_that_was_killed_starts_afresh(project: Path) -> None:
    (project / "pip-is-killed").touch()
    killed, _, _ = make(project, "test")
    (project / "pip-is-killed").unlink()
    half_written = project / ".venv" / "half-written"
    half_written.touch()

    status, _, calls = make(project, "test")

    assert killed != 0
    assert status == 0
    assert "-m venv .venv" in calls
    assert not half_written.exists()


def test_an_install_that_fails_keeps_the_environment_and_runs_no_test(project: Path) -> None:
    (project / "pip-fails").touch()
    failed, _, failed_calls = make(project, "test")
    (project / "pip-fails").unlink()

    status, _, calls = make(project, "test")

    assert failed != 0
    assert not [call for call in failed_calls if call.startswith("-m pytest")]
    assert status == 0
    assert len(installs(calls)) == 1
    assert "-m venv .venv" not in calls


def test_a_failing_test_fails_make(project: Path) -> None:
    (project / "tests-fail").touch()

    status, _, _ = make(project, "test")

    assert status != 0


def test_the_index_for_pytorch_serves_pytorch_only(project: Path) -> None:
    _, _, calls = make(project, "test", "TORCH_INDEX=https://example.org/cpu")

    pytorch, everything = installs(calls)
    assert pytorch.endswith("--index-url https://example.org/cpu torch torchvision")
    assert "example.org" not in everything


@pytest.mark.parametrize(
    ("before_check", "sentence"),
    [
        ("import sys; sys.version_info = (3, 9, 18)", "Found Python 3.9, but 3.10 or newer"),
        ("import sys; sys.modules['ensurepip'] = None", "Found no module ensurepip"),
        ("import sys; sys.modules['venv'] = None", "Found no module venv"),
    ],
)
def test_a_python_that_cannot_do_it_gets_one_sentence(
    before_check: str, sentence: str, project: Path
) -> None:
    status, printed, calls = make(project, "test", BEFORE_CHECK=before_check)

    assert status == 2
    first, makes_own = printed.splitlines()
    assert first.startswith(sentence)
    assert makes_own.startswith("make: ***")
    assert len(calls) == 1
    assert not (project / ".venv").exists()


def test_no_python_at_all_gets_one_sentence(project: Path) -> None:
    status, printed, _ = make(project, "test", "PYTHON=no-such-python")

    assert status == 2
    assert printed.startswith("Found no no-such-python: install Python 3.10 or newer")


def test_make_alone_says_what_can_be_made(project: Path) -> None:
    status, printed, calls = make(project)

    assert status == 0
    assert {line.split()[1] for line in printed.splitlines()} >= {"demo", "test", "lint", "clean"}
    assert calls == []
