"""The plugin door: nothing until asked, never an error, and as light as an entry point must be."""

import logging
import subprocess
import sys

import pytest

from lightning_fastdata.plugin import callbacks_factory

CALL_AND_LIST_HEAVY_MODULES = """
import sys
from lightning_fastdata.plugin import callbacks_factory

print(callbacks_factory(), sorted({"torch", "lightning", "pytorch_lightning"} & set(sys.modules)))
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_FASTDATA_PROFILE", "1")


@pytest.mark.parametrize("value", [None, "", "0", "true", "2"])
def test_adds_nothing_unless_the_variable_is_one(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIGHTNING_FASTDATA_PROFILE", raising=False)
    if value is not None:
        monkeypatch.setenv("LIGHTNING_FASTDATA_PROFILE", value)

    assert callbacks_factory() == []


def test_imports_neither_torch_nor_lightning_until_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_FASTDATA_PROFILE", raising=False)

    printed = subprocess.check_output(
        [sys.executable, "-c", CALL_AND_LIST_HEAVY_MODULES], text=True
    )

    assert printed == "[] []\n"


@pytest.mark.usefixtures("asked")
def test_adds_a_new_profiler_to_each_trainer_when_asked() -> None:
    from lightning_fastdata.callback import DataStallProfiler

    first, second = callbacks_factory() + callbacks_factory()

    assert isinstance(first, DataStallProfiler)
    assert isinstance(second, DataStallProfiler)
    assert first is not second


@pytest.mark.usefixtures("asked")
def test_a_profiler_that_cannot_be_imported_is_one_line_and_no_callback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fastdata.callback", None)

    with caplog.at_level(logging.WARNING, logger="lightning_fastdata.plugin"):
        callbacks = callbacks_factory()

    assert callbacks == []
    [message] = caplog.messages
    assert message.startswith("found LIGHTNING_FASTDATA_PROFILE=1, but no stall profiler")
    assert "\n" not in message


@pytest.mark.usefixtures("asked")
def test_a_profiler_that_cannot_be_made_is_one_line_and_no_callback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: object) -> None:
        raise OSError("the disk\nis full")

    monkeypatch.setattr("lightning_fastdata.callback.DataStallProfiler.__init__", refuse)

    with caplog.at_level(logging.WARNING, logger="lightning_fastdata.plugin"):
        callbacks = callbacks_factory()

    assert callbacks == []
    [message] = caplog.messages
    assert "(OSError: the disk is full)" in message
