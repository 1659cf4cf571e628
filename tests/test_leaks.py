"""The fixture that finds what a test left behind is itself tested: on tests that leave things."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

LEAKING_TESTS = '''
import os, subprocess, sys, threading, traceback
from multiprocessing import get_context, shared_memory

import pytest

WAIT_FOR_INPUT = [sys.executable, "-c", "input()"]
kept = []


@pytest.fixture(scope="module", autouse=True)
def tidied():
    """Ends what the tests left, so that this session ends too."""
    yield
    for tidy in kept:
        tidy()


def start_process():
    process = subprocess.Popen(WAIT_FOR_INPUT, stdin=subprocess.PIPE)
    kept.append(process.communicate)
    return process


def end_when_waited_for():
    main = threading.main_thread().ident
    waiting = False
    while not waiting:
        called = [frame.f_code for frame, _ in traceback.walk_stack(sys._current_frames()[main])]
        waiting = threading.Thread.join.__code__ in called


def test_process():
    start_process()


def test_process_that_ends_in_time():
    start_process().stdin.close()


def test_thread():
    gate = threading.Event()
    kept.append(gate.set)
    threading.Thread(target=gate.wait, name="the-leak", daemon=True).start()


def test_thread_that_ends_in_time():
    threading.Thread(target=end_when_waited_for, daemon=True).start()


def test_shared_file():
    segment = shared_memory.SharedMemory(create=True, size=1)
    kept.extend([segment.close, segment.unlink])


STRANGER = """
from multiprocessing import get_context
lock = get_context("spawn").Lock()
print("ready", flush=True)
input()
"""


def test_semaphore_of_a_stranger():
    in_background = ["sh", "-c", 'exec 3<&0; "$0" -c "$1" <&3 &', sys.executable, STRANGER]
    shell = subprocess.Popen(in_background, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    kept.append(shell.communicate)
    assert shell.stdout.readline() == b"ready\\n"
    shell.wait()  # its child has no parent of ours any more


def test_memfd():
    number = os.memfd_create("the-leak")
    kept.append(lambda: os.close(number))


def test_garbage():
    class Cycle:
        def __init__(self):
            self.me, self.number = self, os.memfd_create("in-a-cycle")
        def __del__(self):
            os.close(self.number)
    Cycle()


def test_failure():
    start_process()
    assert not kept, "the test's own failure"


def test_forkserver():
    process = get_context("forkserver").Process(target=os.getpid)
    process.start()
    process.join()
    process.close()


def test_nothing():
    pass
'''


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a session with our fixture says of each leaking test; empty where it is content."""
    folder = tmp_path_factory.mktemp("leaking")
    fixture = Path(__file__).with_name("conftest.py").read_text()
    impatient = fixture.replace("STRAGGLERS_MAY_TAKE_S = 5.0", "STRAGGLERS_MAY_TAKE_S = 1.0")
    assert impatient != fixture
    (folder / "conftest.py").write_text(impatient)
    (folder / "test_leaking.py").write_text(LEAKING_TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")  # not our settings
    arguments = ["-q", "-p", "no:cacheprovider", "--junitxml=results.xml"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=folder, stdout=subprocess.DEVNULL
    )
    said: dict[str, str] = {}
    for case in ElementTree.parse(folder / "results.xml").iter("testcase"):
        problems = [problem.text or "" for problem in case if problem.tag in {"failure", "error"}]
        said[case.attrib["name"]] = said.get(case.attrib["name"], "") + "".join(problems)
    return said


@pytest.mark.parametrize(
    ("test", "named"),
    [
        ("test_process", "process: psutil.Process("),
        ("test_thread", "thread: <Thread(the-leak, "),
        ("test_shared_file", "file in /dev/shm: psm_"),
        ("test_memfd", "/memfd:the-leak"),
    ],
)
@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")
def test_what_a_test_leaves_behind_fails_it_and_is_named(
    test: str, named: str, outcomes: dict[str, str]
) -> None:
    assert "the test left behind" in outcomes[test]
    assert named in outcomes[test]


@pytest.mark.parametrize(
    "test",
    [
        "test_process_that_ends_in_time",
        "test_thread_that_ends_in_time",
        "test_garbage",
        "test_forkserver",
        "test_semaphore_of_a_stranger",
        "test_nothing",
    ],
)
def test_what_is_gone_after_a_bounded_wait_is_no_leak(test: str, outcomes: dict[str, str]) -> None:
    assert outcomes[test] == ""


def test_a_test_that_failed_is_not_blamed_twice(outcomes: dict[str, str]) -> None:
    assert "the test's own failure" in outcomes["test_failure"]
    assert "the test left behind" not in outcomes["test_failure"]
