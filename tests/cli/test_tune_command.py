"""``lightning-fastdata tune``: what goes where, what is remembered, and what is forgotten."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_fastdata import FastDataLoader, ImageFolder
from lightning_fastdata.cli import main, tune
from lightning_fastdata.loader.measure import key_of
from lightning_fastdata.machine import read_machine
from lightning_fastdata.plan import Candidate, LoaderPlan
from lightning_fastdata.trials import Findings, StepTime, Subject
from lightning_fastdata.tuning.memory import PlanMemory

PROGRAM = """\
from torch.utils.data import Dataset

class Data(Dataset):
    def __len__(self):
        return 640

    def __getitem__(self, index):
        return index

def build():
    return Data()

class Net:
    def training_step(self, batch, batch_idx):
        raise NotImplementedError

net = Net()
"""
CANDIDATES = tuple(
    Candidate(
        engine="ring" if number else "inline",
        num_workers=number,
        prefetch_batches=4 * number,
        predicted_stall_fraction=stall,
        predicted_batches_per_s=50 * (1 - stall),
        measured_stall_fraction=0.013 if number == 2 else None,
    )
    for number, stall in enumerate((0.7, 0.3, 0.01))
)
PLAN = LoaderPlan(
    engine="ring",
    num_workers=2,
    prefetch_batches=8,
    pin_memory=False,
    persistent_workers=True,
    start_method=None,
    reasons={"num_workers": "the fewest that do"},
    candidates=CANDIDATES,
)


class FakeTuner:
    """Stands in for the trials; knows what it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __call__(
        self,
        source: Any,
        *,
        batch_size: int | None,
        step_time_s: float | None,
        model: Any,
        on_trial: Callable[[Any, Findings], object],
        **others: Any,
    ) -> LoaderPlan:
        self.asked = {"source": source, "batch_size": batch_size, "model": model, **others}
        knows_step = step_time_s is not None or model is not None
        subject = Subject(name="Data", dataset=source, batch_size=batch_size or 32)
        findings = Findings(
            subject=subject,
            key=key_of(subject.recipe, subject.samples_a_batch, read_machine(os.environ)),
            step=StepTime(step_ns=round((step_time_s or 0.1) * 1e9)) if knows_step else None,
            max_stall_fraction=0.02,
            cores=2,
            facts=None,
        )
        trial = SimpleNamespace(num_workers=2, stall_fraction=0.013, batches_per_s=20.0)
        on_trial(trial, findings)
        return PLAN


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> FakeTuner:
    fake = FakeTuner()
    monkeypatch.setattr(tune, "tune_with", fake)
    return fake


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def program(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A file of its own name for each test: a module of that name stays imported."""
    path = tmp_path / f"program_{abs(hash(request.node.name))}.py"
    path.write_text(PROGRAM)
    return str(path)


def remembered() -> list[Path]:
    return sorted(PlanMemory()._plans())


def test_the_table_goes_to_the_output_and_progress_beside_it(
    tuner: FakeTuner, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", f"{program}:build", "--step-time", "20"]) == 0

    printed = capsys.readouterr()
    assert printed.out.startswith(
        "Use 2 workers: 1.0 % stall predicted, 1.3 % measured; 1 would leave 30.0 %.\n"
    )
    assert printed.err == "Tried 2 workers: 1.3 % stall, 20.0 batches/s\n"


def test_what_was_asked_reaches_the_tuner(tuner: FakeTuner, program: str) -> None:
    arguments = ["--batch-size", "8", "--model", f"{program}:Net", "--max-stall", "5"]
    arguments += ["--local-world-size", "3"]

    assert main(["tune", f"{program}:build", *arguments, "--exhaustive", "--no-save"]) == 0

    assert type(tuner.asked["source"]).__name__ == "Data"
    assert type(tuner.asked["model"]).__name__ == "Net"
    assert tuner.asked["batch_size"] == 8
    assert tuner.asked["max_stall_fraction"] == 0.05
    assert tuner.asked["exhaustive"] is True
    assert tuner.asked["local_world_size"] == 3


def test_a_model_that_is_there_already_is_not_called(tuner: FakeTuner, program: str) -> None:
    assert main(["tune", f"{program}:build", "--model", f"{program}:net"]) == 0

    assert type(tuner.asked["model"]).__name__ == "Net"


def test_the_classes_of_the_target_are_those_that_pickle_finds(
    tuner: FakeTuner, program: str
) -> None:
    """The file is imported for the model too; spawned workers look a class up by its name."""
    assert main(["tune", f"{program}:build", "--model", f"{program}:net"]) == 0

    module = sys.modules[Path(program).stem]
    assert type(tuner.asked["source"]) is module.Data


def test_of_a_folder_with_two_sides_the_training_side_is_tuned(
    tuner: FakeTuner, folder_of_pictures: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    both.mkdir()
    folder_of_pictures.rename(both / "train")
    (both / "val").symlink_to(both / "train")

    assert main(["tune", str(both)]) == 0

    assert isinstance(tuner.asked["source"], ImageFolder)
    assert tuner.asked["source"].root.endswith("train")


def test_json_on_standard_output_stands_alone(
    tuner: FakeTuner, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{program}:build"

    assert main(["tune", target, "--batch-size", "8", "--step-time", "20", "--json", "-"]) == 0

    values = json.loads(capsys.readouterr().out)
    assert (values["schema"], values["target"]) == ("lightning-fastdata.tune", target)
    assert values["facts"]["asked"]["step_time_s"] == 0.02
    assert values["facts"]["measured"]["batch_size"] == 8
    assert values["facts"]["measured"]["step"]["step_ns"] == 20_000_000
    assert values["facts"]["machine"]["cores"] > 0
    assert values["is_remembered"] is True


def test_json_and_picture_in_files_come_beside_the_table(
    tuner: FakeTuner, program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = (tmp_path / "out" / "tune.json", tmp_path / "out" / "tune.svg")

    assert main(["tune", f"{program}:build", "--json", str(paths[0]), "--plot", str(paths[1])]) == 0

    printed = capsys.readouterr()
    assert json.loads(paths[0].read_text())["plan"]["num_workers"] == 2
    assert paths[1].read_text().startswith("<?xml")
    assert printed.err.endswith(f"JSON: {paths[0]}\nPlot: {paths[1]}\n")
    assert "What was weighed" in printed.out


@pytest.mark.parametrize(
    ("arguments", "first_words"),
    [
        (["/no/such/folder"], "found no folder '/no/such/folder', wanted"),
        (["no_such_module:name"], "importing no_such_module failed with ModuleNotFoundError"),
        (["string:digits", "--json", "/"], "--json / cannot be written (it is a folder), wanted"),
        (["string:digits", "--plot", "/proc/x.png"], "--plot /proc/x.png cannot be written"),
        (["string:digits", "--model", "string:digits"], "building string:digits failed with"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(
    arguments: list[str],
    first_words: str,
    tuner: FakeTuner,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["tune", *arguments])

    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.startswith(f"lightning-fastdata: {first_words}")
    assert printed.err.count("\n") == 1
    assert tuner.asked == {}


def test_without_matplotlib_a_picture_is_refused_before_anything_is_tried(
    tuner: FakeTuner, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    assert main(["tune", f"{program}:build", "--plot", "tune.png"]) == 2
    assert tuner.asked == {}


def test_a_choice_is_remembered_for_the_same_loader(
    tuner: FakeTuner, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", f"{program}:build", "--batch-size", "8", "--step-time", "20"]) == 0

    assert "it is remembered" in capsys.readouterr().out
    assert len(remembered()) == 1
    subject = Subject(name="Data", dataset=sys.modules[Path(program).stem].build(), batch_size=8)
    key = key_of(subject.recipe, subject.samples_a_batch, read_machine(os.environ))
    kept = PlanMemory().recall(key)
    assert kept is not None
    assert (kept.num_workers, kept.prefetch_batches, kept.source) == (2, 8, "tune")
    assert (kept.stall_fraction, kept.step_time_s) == (0.013, 0.02)
    assert PlanMemory().recall(replace(key, batch_size=9)) is None


@pytest.mark.parametrize("arguments", [["--step-time", "20", "--no-save"], []])
def test_nothing_is_remembered_unasked_or_where_no_step_is_known(
    arguments: list[str], tuner: FakeTuner, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", f"{program}:build", *arguments]) == 0

    assert remembered() == []
    assert capsys.readouterr().out.endswith(
        "To use it: FastDataModule(..., num_workers=2, prefetch_factor=4)\n"
    )


def test_a_memory_that_cannot_be_written_is_not_called_one(
    tuner: FakeTuner,
    program: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cache").touch()

    assert main(["tune", f"{program}:build", "--step-time", "20"]) == 0
    assert "remembered" not in capsys.readouterr().out


def test_a_target_is_forgotten_and_others_are_not(
    tuner: FakeTuner, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{program}:build"
    for batch_size in ("8", "16"):
        assert main(["tune", target, "--batch-size", batch_size, "--step-time", "20"]) == 0
    capsys.readouterr()

    assert main(["tune", "--forget", target, "--batch-size", "8"]) == 0

    assert capsys.readouterr().out == f"Forgot 1 choice of {target} in batches of 8.\n"
    assert len(remembered()) == 1


def test_a_target_is_forgotten_at_every_size_of_its_batches_and_for_every_count_of_ranks(
    tuner: FakeTuner,
    program: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = f"{program}:build"
    for batch_size, ranks in (("8", "1"), ("16", "1"), ("8", "2")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        assert main(["tune", target, "--batch-size", batch_size, "--step-time", "20"]) == 0
    capsys.readouterr()
    assert len(remembered()) == 3

    assert main(["tune", "--forget", target]) == 0

    assert capsys.readouterr().out == f"Forgot 3 choices of {target}.\n"
    assert remembered() == []


def test_everything_is_forgotten_without_a_target(
    tuner: FakeTuner, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for batch_size in ("8", "16"):
        arguments = ["--batch-size", batch_size, "--step-time", "20"]
        assert main(["tune", f"{program}:build", *arguments]) == 0
    capsys.readouterr()

    assert main(["tune", "--forget"]) == 0

    assert capsys.readouterr().out == "Forgot 2 choices of any dataset.\n"
    assert remembered() == []


@pytest.mark.parametrize("has_target", [True, False])
def test_where_nothing_is_remembered_forgetting_says_so(
    has_target: bool, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--forget", *([f"{program}:build"] if has_target else [])]) == 0

    assert capsys.readouterr().out.startswith("Nothing is remembered of ")


def test_what_a_dataset_raises_is_a_sentence_that_names_the_sample(
    monkeypatch: pytest.MonkeyPatch, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(*_: Any, **__: Any) -> LoaderPlan:
        error = KeyError("label")
        error.__cause__ = RuntimeError("the traceback of a worker")
        error.__dict__["__notes__"] = ["This was sample 7 of the Data."]
        raise error

    monkeypatch.setattr(tune, "tune_with", raising)

    assert main(["tune", f"{program}:build"]) == 2
    printed = capsys.readouterr().err
    assert f"{program}:build met KeyError: 'label', wanted samples that can be made. " in printed
    assert "This was sample 7 of the Data. Run lightning-fastdata doctor" in printed
    assert printed.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    def faulty(*_: Any, **__: Any) -> LoaderPlan:
        raise TypeError("a mistake")

    monkeypatch.setattr(tune, "tune_with", faulty)
    monkeypatch.setattr(tune, "_PACKAGE", Path(__file__).resolve().parent)

    with pytest.raises(TypeError, match="a mistake"):
        main(["tune", f"{program}:build"])


def test_real_pictures_are_tuned_and_the_loader_starts_with_the_choice(
    folder_of_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--batch-size", "4", "--step-time", "20", "--budget", "4", "--max-stall", "10"]

    assert main(["tune", str(folder_of_pictures), *arguments, "--json", "-"]) == 0

    values = json.loads(capsys.readouterr().out)
    dataset = ImageFolder(folder_of_pictures, train=True)
    loader = FastDataLoader(dataset, batch_size=4, num_workers="auto")
    assert loader.plan.num_workers == values["plan"]["num_workers"]
    assert "tune" in loader.plan.reasons["num_workers"]
    assert values["facts"]["measured"]["trials"] >= 1
    loader.close()
