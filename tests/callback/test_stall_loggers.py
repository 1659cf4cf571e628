"""Loggers are timed where they are called, and are afterwards as they were."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger
from stall_runs import BOTH, THIRD_PARTY_WARNINGS, BreakAt, Model, a_loader, a_model, a_trainer

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.callback.loggers import LoggerClock
from lightning_fastdata.trace import Part

pytestmark = THIRD_PARTY_WARNINGS


class Notes:
    """What a clock said, in order."""

    def __init__(self) -> None:
        self.said: list[Part | None] = []
        self.clock = LoggerClock(self.said.append, lambda: self.said.append(None))


class SomeLogger:
    def __init__(self) -> None:
        self.got: list[Any] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> str:
        self.got.append((metrics, step))
        return "an answer"

    def save(self) -> None:
        raise OSError("the disk is full")


class Slotted(SomeLogger):
    __slots__ = ()


class NoAttributes:
    __slots__ = ()

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def save(self) -> None: ...


class SendsAttributesAway(SomeLogger):
    def __setattr__(self, name: str, value: Any) -> None:
        if name != "got":
            raise AttributeError(name)
        super().__setattr__(name, value)


class SomeTrainer(SimpleNamespace):
    def save_checkpoint(self, path: str) -> str:
        return path


def trainer_with(*loggers: Any) -> SomeTrainer:
    return SomeTrainer(loggers=list(loggers))


@pytest.mark.parametrize("kind", [SomeLogger, SendsAttributesAway])
def test_a_call_of_a_logger_is_timed_and_handed_on(kind: type[SomeLogger]) -> None:
    notes, logger = Notes(), kind()

    notes.clock.put_into(trainer_with(logger))

    assert logger.log_metrics({"a": 1}, step=3) == "an answer"
    assert logger.got == [({"a": 1}, 3)]
    assert notes.said == [Part.LOGGING, None]


def test_a_call_that_fails_is_timed_and_fails() -> None:
    notes, logger = Notes(), SomeLogger()
    notes.clock.put_into(trainer_with(logger))

    with pytest.raises(OSError, match=r"^the disk is full"):
        logger.save()

    assert notes.said == [Part.LOGGING, None]


def test_saving_a_checkpoint_is_timed() -> None:
    notes, trainer = Notes(), trainer_with()
    notes.clock.put_into(trainer)

    assert trainer.save_checkpoint("there") == "there"
    assert notes.said == [Part.CHECKPOINT, None]


def test_afterwards_nothing_is_left_on_the_objects() -> None:
    notes, logger = Notes(), SomeLogger()
    trainer = trainer_with(logger, logger)
    notes.clock.put_into(trainer)

    notes.clock.put_back()
    logger.log_metrics({})

    assert set(vars(logger)) == {"got"}
    assert set(vars(trainer)) == {"loggers"}
    assert notes.said == []


def test_what_somebody_else_covered_since_stays_covered() -> None:
    notes, logger = Notes(), SomeLogger()
    notes.clock.put_into(trainer_with(logger))

    def theirs(metrics: Any, step: int | None = None) -> str:
        return "theirs"

    logger.log_metrics = theirs  # type: ignore[method-assign]  # as others do it
    notes.clock.put_back()

    assert logger.log_metrics({}) == "theirs"


@pytest.mark.parametrize(
    "make", [MagicMock, lambda: create_autospec(Logger, instance=True), NoAttributes]
)
def test_a_logger_that_cannot_be_covered_is_left_alone(make: Any) -> None:
    notes, logger = Notes(), make()
    notes.clock.put_into(trainer_with(logger))

    logger.log_metrics({"a": 1})
    notes.clock.put_back()
    logger.log_metrics({"a": 2})

    assert notes.said == []


def test_a_logger_with_slots_beside_its_attributes_is_timed() -> None:
    notes, logger = Notes(), Slotted()

    notes.clock.put_into(trainer_with(logger))
    logger.log_metrics({})

    assert notes.said == [Part.LOGGING, None]


def test_calls_of_another_thread_are_not_the_training_loops() -> None:
    notes, logger = Notes(), SomeLogger()
    notes.clock.put_into(trainer_with(logger))

    thread = threading.Thread(target=logger.log_metrics, args=({"a": 1},))
    thread.start()
    thread.join()

    assert logger.got == [({"a": 1}, None)]
    assert notes.said == []


@BOTH
def test_a_run_leaves_its_trainer_and_loggers_as_they_were(namespace: Any, tmp_path: Path) -> None:
    logger = namespace.loggers.CSVLogger(tmp_path)
    trainer = a_trainer(
        tmp_path, DataStallProfiler(reports=()), namespace=namespace, logger=[logger, logger]
    )
    before = set(vars(logger)), set(vars(trainer))

    trainer.fit(a_model(namespace), a_loader())

    assert set(vars(logger)) - before[0] <= {"_experiment"}
    assert set(vars(trainer)) == before[1]


def test_a_run_that_breaks_off_leaves_its_loggers_as_they_were(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    profiler = DataStallProfiler(reports=())
    trainer = a_trainer(tmp_path, profiler, BreakAt(5, RuntimeError), logger=logger)

    with pytest.raises(RuntimeError):
        trainer.fit(Model(), a_loader())

    assert not {"log_metrics", "save"} & set(vars(logger))
    assert "save_checkpoint" not in vars(trainer)
