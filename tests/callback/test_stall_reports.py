"""What the profiler gives: reports, logger metrics, and words about wrong arguments."""

import csv
import json
import logging
import math
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from stall_runs import (
    BATCHES,
    BOTH,
    THIRD_PARTY_WARNINGS,
    Model,
    Numbers,
    a_loader,
    a_model,
    a_trainer,
    summary_of,
)

from lightning_fastdata.callback import DataStallProfiler
from lightning_fastdata.callback.watching import script_of
from lightning_fastdata.errors import SettingsError

pytestmark = THIRD_PARTY_WARNINGS


def test_a_report_that_cannot_be_written_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    profiler = DataStallProfiler(in_the_way)

    with caplog.at_level(logging.WARNING, logger="lightning_fastdata"):
        a_trainer(tmp_path, profiler).fit(Model(), a_loader())

    assert profiler.summary is not None
    assert "The stall report could not be given" in caplog.text


@BOTH
def test_loggers_get_the_stall_now_and_then(namespace: Any, tmp_path: Path) -> None:
    loggers = [namespace.loggers.CSVLogger(tmp_path, name=name) for name in ("a", "b")]
    profiler = DataStallProfiler(log_every_n_steps=10)

    a_trainer(tmp_path, profiler, namespace=namespace, logger=loggers).fit(
        a_model(namespace), a_loader(Numbers(wait_s=0.003))
    )

    for logger in loggers:
        rows = list(csv.DictReader(Path(logger.log_dir, "metrics.csv").read_text().splitlines()))
        assert [row["step"] for row in rows] == ["9", "19"]
        for row in rows:
            assert 0 < float(row["time_metrics/data_loading(%)"]) < 100
            assert float(row["time_metrics/data_loading(s)"]) >= 0.003


class RefusingLogger(CSVLogger):
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        raise OSError("no route to the server")


def test_a_logger_that_fails_stops_the_logging_and_not_the_measuring(tmp_path: Path) -> None:
    profiler = DataStallProfiler(log_every_n_steps=1)
    trainer = a_trainer(tmp_path, profiler, logger=RefusingLogger(tmp_path))

    trainer.fit(Model(), a_loader())

    summary = summary_of(profiler)
    assert summary.steps == BATCHES - 1
    assert summary.problem == "metrics could not be logged (OSError('no route to the server'))"


def test_zero_logs_nothing(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)

    a_trainer(tmp_path, DataStallProfiler(log_every_n_steps=0), logger=logger).fit(
        Model(), a_loader()
    )

    assert not Path(logger.log_dir, "metrics.csv").exists()


def test_the_files_lie_where_the_trainer_logs_and_the_terminal_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiler = DataStallProfiler()
    logger = CSVLogger(tmp_path)

    a_trainer(tmp_path, profiler, logger=logger).fit(Model(), a_loader())

    folder = Path(logger.log_dir) / "stall_report"
    assert json.loads((folder / "summary.json").read_text())["steps"] == BATCHES - 1
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.html",
        "summary.json",
        "trace.json",
    ]
    told = f"Stall report: {folder / 'report.html'} (and summary.json, trace.json)"
    assert told in capsys.readouterr().out


def test_only_the_reports_asked_for_are_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a_trainer(tmp_path, DataStallProfiler(reports=())).fit(Model(), a_loader())
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []

    a_trainer(tmp_path, DataStallProfiler(tmp_path / "mine", reports=["json"])).fit(
        Model(), a_loader()
    )
    assert capsys.readouterr().out == f"Stall report: {tmp_path / 'mine' / 'summary.json'}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dirpath": 3}, r"^dirpath is 3, but a folder is wanted"),
        ({"reports": "json"}, r"^reports is 'json', but a sequence of names is wanted"),
        ({"reports": None}, r"^reports is None, but a sequence of names is wanted"),
        (
            {"reports": ["jsn"]},
            r"^reports has 'jsn', but only \('terminal', 'json', 'html', 'trace'\)",
        ),
        ({"log_every_n_steps": -1}, r"^log_every_n_steps is -1, but a whole number from 0"),
        ({"log_every_n_steps": True}, r"^log_every_n_steps is True, but a whole number from 0"),
        ({"log_every_n_steps": math.inf}, r"^log_every_n_steps is inf, but a whole number from 0"),
        ({"fail_above": 5}, r"^fail_above is 5, but a share of a step from 0 to below 1 is wanted"),
        ({"fail_above": True}, r"^fail_above is True, but a share of a step"),
        ({"fail_above": math.nan}, r"^fail_above is nan, but a share of a step"),
    ],
)
def test_arguments_that_cannot_work_are_refused_at_once(
    arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        DataStallProfiler(**arguments)


def test_a_checkpoint_holds_nothing_of_the_profiler(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, DataStallProfiler())
    trainer.fit(Model(), a_loader())

    trainer.save_checkpoint(tmp_path / "model.ckpt")

    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert saved["callbacks"] == {}


def test_fast_dev_run_prints_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiler = DataStallProfiler()

    a_trainer(tmp_path, profiler, fast_dev_run=True).fit(Model(), a_loader())

    assert summary_of(profiler).stall_fraction is None
    assert "too short to judge" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_report_says_what_was_run_and_when(tmp_path: Path) -> None:
    profiler = DataStallProfiler(tmp_path / "out")
    before = datetime.now().astimezone().replace(microsecond=0)

    a_trainer(tmp_path, profiler).fit(Model(), a_loader())

    facts = summary_of(profiler).run
    assert facts is not None
    assert facts.started_at is not None
    assert before <= datetime.fromisoformat(facts.started_at) <= datetime.now().astimezone()
    assert facts.script == script_of(sys.argv)


@pytest.mark.parametrize(
    ("first", "script"),
    [
        ("/home/ada/train.py", "train.py"),
        ("/site-packages/ipykernel_launcher.py", "notebook"),
        ("-c", None),
        ("", None),
    ],
)
def test_a_run_is_named_by_its_script(first: str, script: str | None) -> None:
    assert script_of([first]) == script
