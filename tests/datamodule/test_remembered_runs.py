"""What a run came to is where the next one starts, until the data or the machine changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from known_machine import DECISION, cheap, two_cores
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from toy_runs import BATCH, BOTH, LENGTH, At, Numbers, a_model, a_trainer, fit
from two_ranks import run_two_ranks

from lightning_fastdata import FastDataLoader, FastDataModule
from lightning_fastdata.datamodule import planner, used
from lightning_fastdata.loader import measure
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.machine import Machine
from lightning_fastdata.tuning.memory import PlanMemory
from lightning_fastdata.tuning.remembered import Remembered, from_plain


@pytest.fixture(autouse=True)
def _own_memory_on_a_known_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "read_machine", two_cores)
    monkeypatch.setattr(measure, "probe", cheap)
    monkeypatch.setattr(planner, "probe", cheap)


@pytest.fixture
def short_runs_prove(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few batches are as good as a long run."""
    monkeypatch.setattr(used, "LEAST_BATCHES", LENGTH // BATCH)
    monkeypatch.setattr(used, "LEAST_S", 0.0)


def keep_for(dataset: Any, decision: Remembered = DECISION, batch_size: int = BATCH) -> None:
    recipe = recipe_of(dataset, None, None, batched=True)
    key = measure.key_of(recipe, batch_size, two_cores({}, 1))
    PlanMemory().keep(key, decision, "a few numbers")


def kept(dataset: Any, batch_size: int = BATCH) -> Remembered | None:
    recipe = recipe_of(dataset, None, None, batched=True)
    return PlanMemory().recall(measure.key_of(recipe, batch_size, two_cores({}, 1)))


def kept_files(folder: Path) -> list[Path]:
    return list(folder.glob("cache/lightning_fastdata/plans/*"))


class TestAKeptDecision:
    def test_is_where_a_loader_starts_without_reading_a_sample(self) -> None:
        keep_for(Numbers())
        dataset = Numbers()

        plan = FastDataLoader(dataset, BATCH).plan

        assert (plan.engine, plan.num_workers) == ("ring", 2)
        assert "2026-11-23, stall 0.4%" in plan.reasons["num_workers"]
        assert dataset.reads == 0

    def test_is_where_training_starts_without_reading_a_sample(self, tmp_path: Path) -> None:
        keep_for(Numbers())
        dataset = Numbers()
        seen: list[int] = []

        data = FastDataModule(dataset, batch_size=BATCH)
        fit(data, tmp_path, At(lambda trainer: seen.append(trainer.train_dataloader.num_workers)))

        assert set(seen) == {2}
        assert dataset.reads == 0  # here; workers read
        assert "an earlier run" in data.planner.plans["train"].reasons["num_workers"]

    @pytest.mark.parametrize(
        "other",
        [
            {"train_dataset": Numbers(LENGTH + 1)},
            {"train_dataset": Numbers(first=1)},
            {"batch_size": BATCH + 1},
            {"collate_fn": torch.stack},
            {"batch_transform": torch.clone},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_is_not_for_other_batches(self, other: dict[str, Any]) -> None:
        keep_for(Numbers())
        arguments = {"train_dataset": Numbers(), "batch_size": BATCH} | other

        plan = FastDataModule(**arguments).train_dataloader().plan

        assert plan.num_workers == 0
        assert "earlier" not in plan.reasons["num_workers"]

    def test_is_not_for_an_edited_class(self) -> None:
        keep_for(Numbers())
        source = "def __getitem__(self, index): return torch.tensor([float(index)])"
        namespace: dict[str, Any] = {"torch": torch}
        exec(source, namespace)
        edited = type("Numbers", (Numbers,), {"__getitem__": namespace["__getitem__"]})

        assert FastDataLoader(edited(), BATCH).plan.num_workers == 0

    def test_is_not_for_another_kind_of_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keep_for(Numbers())

        def eight_cores(*arguments: Any) -> Machine:
            return replace(two_cores(*arguments), cores=8.0)

        monkeypatch.setattr(measure, "read_machine", eight_cores)

        assert FastDataLoader(Numbers(), BATCH).plan.num_workers == 0

    @pytest.mark.parametrize(
        "settings",
        [{"num_workers": 1}, {"num_workers": 0}, {"engine": "inline"}, {"engine": "torch"}],
        ids=str,
    )
    def test_never_overrides_what_the_user_fixed(self, settings: dict[str, Any]) -> None:
        keep_for(Numbers())

        plan = FastDataLoader(Numbers(), BATCH, **settings).plan

        assert "earlier" not in plan.reasons["num_workers"]
        assert plan.num_workers == settings.get("num_workers", plan.num_workers)
        assert plan.engine == settings.get("engine", plan.engine)

    def test_is_not_for_validation(self) -> None:
        keep_for(Numbers())
        data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH)

        assert data.train_dataloader().num_workers == 2
        assert data.val_dataloader().num_workers == 0

    def test_gives_the_first_loader_the_time_of_a_step(self, tmp_path: Path) -> None:
        keep_for(Numbers(), replace(DECISION, step_time_s=7.0))
        data = FastDataModule(Numbers(), batch_size=BATCH)

        data.train_dataloader()

        assert data.planner.step_time_s() == 7.0


@pytest.mark.usefixtures("short_runs_prove")
class TestARun:
    @BOTH
    def test_is_kept_at_its_end(self, namespace: Any, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH)

        fit(data, tmp_path, namespace=namespace, max_epochs=3)

        decision = kept(Numbers())
        assert decision is not None
        assert (decision.engine, decision.num_workers, decision.source) == ("inline", 0, "run")
        assert decision.step_time_s is not None
        assert decision.batch_bytes == BATCH * 4
        (path,) = kept_files(tmp_path)
        assert f"{LENGTH} samples of Numbers, batches of {BATCH}" in path.read_text()

    def test_is_kept_with_the_number_that_training_came_to(self, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH)

        fit(data, tmp_path, At(lambda trainer: trainer.train_dataloader.resize(1)))

        decision = kept(Numbers())
        assert decision is not None
        assert (decision.engine, decision.num_workers) == ("ring", 1)
        assert data.planner.plans["train"].num_workers == 1

    def test_starts_the_next_one(self, tmp_path: Path) -> None:
        first = FastDataModule(Numbers(), batch_size=BATCH)
        fit(first, tmp_path, At(lambda trainer: trainer.train_dataloader.resize(1)))
        dataset = Numbers()
        data = FastDataModule(dataset, batch_size=BATCH)

        fit(data, tmp_path)

        assert data.planner.plans["train"].num_workers == 1
        assert dataset.reads == 0

    def test_hands_its_number_to_the_loader_of_the_next_epoch(self, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH)
        seen: list[tuple[int, int]] = []

        def grow_once(trainer: Any) -> None:
            if trainer.current_epoch == 0:
                trainer.train_dataloader.resize(1)
            seen.append((trainer.current_epoch, trainer.train_dataloader.num_workers))

        fit(
            data,
            tmp_path,
            At(grow_once),
            max_epochs=2,
            reload_dataloaders_every_n_epochs=1,
        )

        assert {workers for epoch, workers in seen if epoch == 1} == {1}
        assert "the loader before" in data.planner.plans["train"].reasons["num_workers"]

    def test_is_kept_for_each_of_its_loaders(self, tmp_path: Path) -> None:
        data = FastDataModule({"a": Numbers(), "b": Numbers(LENGTH + 1)}, batch_size=BATCH)

        class Both(type(a_model(evaluates=False))):  # type: ignore[misc]  # only here
            def note(self, kind: str, batch: Any) -> None:
                pass

        fit(data, tmp_path, model=Both(), max_epochs=2)

        assert kept(Numbers()) is not None
        assert kept(Numbers(LENGTH + 1)) is not None

    @pytest.mark.parametrize(
        "options",
        [{"fast_dev_run": 6}, {"overfit_batches": 6}],
        ids=str,
    )
    def test_of_a_few_batches_again_is_not_kept(
        self, options: dict[str, Any], tmp_path: Path
    ) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH)

        fit(data, tmp_path, max_epochs=3, **options)

        assert kept_files(tmp_path) == []
        assert data.planner.plans["train"].max_workers is None

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_with_a_fixed_number_is_not_kept(self, num_workers: int, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH, num_workers=num_workers)

        fit(data, tmp_path)

        assert kept_files(tmp_path) == []
        assert data.planner.plans["train"].max_workers is None

    def test_of_validation_is_not_kept(self, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH)

        a_trainer(tmp_path).validate(a_model(), datamodule=data)

        assert kept_files(tmp_path) == []

    def test_is_kept_once(self, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH)
        model = a_model()
        fit(data, tmp_path, model=model)
        assert PlanMemory().forget() == 1

        a_trainer(tmp_path).validate(model, datamodule=data)

        assert kept_files(tmp_path) == []

    def test_that_broke_is_not_kept(self, tmp_path: Path) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH)

        with pytest.raises(RuntimeError, match="the step broke"):
            fit(data, tmp_path, model=a_model(evaluates=False, fails_at=5))

        assert kept_files(tmp_path) == []


def test_a_short_run_is_not_kept(tmp_path: Path) -> None:
    fit(FastDataModule(Numbers(), batch_size=BATCH), tmp_path)

    assert kept_files(tmp_path) == []


class SeenPlans:
    """Notes the most workers that each training loader may come to, and whether in a trial."""

    def __init__(self, data: FastDataModule) -> None:
        self.of_loaders: list[tuple[bool, int | None]] = []
        self._data = data
        data.planner.watch = self._watch  # type: ignore[method-assign]  # only here

    def _watch(self, name: str, loader: FastDataLoader, *, is_trial: bool) -> None:
        self.of_loaders.append((is_trial, loader.plan.max_workers))
        type(self._data.planner).watch(self._data.planner, name, loader, is_trial=is_trial)


class Learns(type(a_model(evaluates=False))):  # type: ignore[misc]  # Lightning's, or its elder
    """A model that the finders can change."""

    def __init__(self) -> None:
        super().__init__()
        self.lr = 0.1


FINDERS = {
    "batch size": lambda: BatchSizeFinder(steps_per_trial=2, max_trials=2, init_val=2),
    "learning rate": lambda: LearningRateFinder(num_training_steps=6),
}


@pytest.mark.parametrize("finder", FINDERS)
@pytest.mark.filterwarnings("ignore")  # Lightning's, about its own finders
@pytest.mark.usefixtures("short_runs_prove")
def test_trials_of_lightnings_finders_adapt_nothing_and_are_not_kept(
    finder: str, tmp_path: Path
) -> None:
    data = FastDataModule(Numbers(), batch_size=BATCH)
    plans = SeenPlans(data)

    fit(data, tmp_path, FINDERS[finder](), model=Learns(), max_epochs=2)

    *trials, last = plans.of_loaders
    assert trials
    assert set(trials) == {(True, None)}
    assert last[0] is False
    assert last[1] is not None
    assert len(kept_files(tmp_path)) == 1  # the run's own


def save_at_end(path: Path) -> At:
    def save(trainer: Any) -> None:
        if trainer.global_step == 6:
            trainer.save_checkpoint(path)

    return At(save)


class TestACheckpoint:
    def test_is_where_a_resumed_run_starts(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ckpt"
        first = FastDataModule(Numbers(), batch_size=BATCH)
        grow = At(lambda trainer: trainer.train_dataloader.resize(1))
        fit(first, tmp_path, grow, save_at_end(path))
        dataset = Numbers()
        data = FastDataModule(dataset, batch_size=BATCH)

        fit(data, tmp_path, ckpt_path=path, max_epochs=2)

        assert data.planner.plans["train"].num_workers == 1
        assert "the run that is resumed" in data.planner.plans["train"].reasons["num_workers"]
        assert dataset.reads == 0

    @pytest.mark.parametrize("settings", [{"num_workers": 0}, {"engine": "inline"}], ids=str)
    def test_never_overrides_what_the_user_fixed(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "a.ckpt"
        grow = At(lambda trainer: trainer.train_dataloader.resize(1))
        fit(FastDataModule(Numbers(), batch_size=BATCH), tmp_path, grow, save_at_end(path))
        data = FastDataModule(Numbers(), batch_size=BATCH, **settings)

        fit(data, tmp_path, ckpt_path=path, max_epochs=2)

        assert data.planner.plans["train"].num_workers == 0

    def test_of_another_batch_size_measures_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ckpt"
        grow = At(lambda trainer: trainer.train_dataloader.resize(1))
        fit(FastDataModule(Numbers(), batch_size=BATCH), tmp_path, grow, save_at_end(path))
        data = FastDataModule(Numbers(), batch_size=BATCH + 1)

        fit(data, tmp_path, ckpt_path=path, max_epochs=2)

        assert data.planner.plans["train"].num_workers == 0

    def test_can_be_read_without_running_what_is_in_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a.ckpt"
        fit(FastDataModule(Numbers(), batch_size=BATCH), tmp_path, save_at_end(path))

        state = torch.load(path, weights_only=True)["FastDataModule"]["planner"]

        assert from_plain(state["decisions"]["train"]["decision"]) is not None

    @pytest.mark.parametrize(
        "planner",
        [
            {"plans": {}, "step_time_s": 0.5},
            {},
            {"decisions": {"train": {"key": "of another version", "decision": {"a": 1}}}},
        ],
        ids=str,
    )
    def test_of_another_version_still_loads(self, planner: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "a.ckpt"
        fit(FastDataModule(Numbers(), batch_size=BATCH), tmp_path, save_at_end(path))
        saved = torch.load(path, weights_only=True)
        saved["FastDataModule"]["planner"] = planner
        torch.save(saved, path)

        model = fit(
            FastDataModule(Numbers(), batch_size=BATCH), tmp_path, ckpt_path=path, max_epochs=2
        )

        assert len(model.seen["train"]) == 6


TWO_RANKS = """
import json, os, sys
from pathlib import Path
from known_machine import DECISION, cheap, two_cores
from toy_runs import BATCH, Numbers, fit
from lightning_fastdata import FastDataModule
from lightning_fastdata.datamodule import planner, used
from lightning_fastdata.loader import measure
from lightning_fastdata.loader.make import recipe_of
from lightning_fastdata.tuning.memory import PlanMemory

def main():
    folder = Path(sys.argv[1])
    used.LEAST_BATCHES, used.LEAST_S = 2, 0.0
    measure.read_machine, measure.probe, planner.probe = two_cores, cheap, cheap
    rank = int(os.environ.get("LOCAL_RANK", 0))
    if rank == 1:  # it alone remembers something
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache1")
        recipe = recipe_of(Numbers(), None, None, batched=True)
        key = measure.key_of(recipe, BATCH, two_cores({}, 2))
        PlanMemory().keep(key, DECISION, "")
    else:
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache0")
    data = FastDataModule(Numbers(), batch_size=BATCH)
    fit(data, folder, devices=2, strategy="ddp", max_epochs=1)
    plan = data.planner.plans["train"]
    (folder / f"plan{rank}.json").write_text(json.dumps([plan.num_workers, plan.max_workers]))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_ranks_that_remember_differently_load_alike_and_one_of_them_keeps(tmp_path: Path) -> None:
    run_two_ranks(TWO_RANKS, tmp_path, beside=Path(__file__))

    texts = [(tmp_path / f"plan{rank}.json").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("[0, ")
    of_rank_1 = list((tmp_path / "cache1").rglob("plan-*"))
    assert len(of_rank_1) == 1
    assert '"num_workers": 2' in of_rank_1[0].read_text()  # as it was
    assert len(list((tmp_path / "cache0").rglob("plan-*"))) == 1
