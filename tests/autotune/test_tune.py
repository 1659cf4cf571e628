"""``tune``: it finds what is asked for, and leaves everything as it was."""

import copy
import os
import pickle
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch
import numpy as np
import pytest
import pytorch_lightning
import torch
from PIL import Image
from torch.utils.data import DataLoader
from tune_sets import Numbers, NumbersModule, Places, make_net

from lightning_fastdata import FastDataLoader, FastDataModule, ImageFolder, LoaderPlan, tune
from lightning_fastdata.autotune import tune_with
from lightning_fastdata.autotune.source import source_of
from lightning_fastdata.autotune.step_time import measure_step
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader.measure import key_of
from lightning_fastdata.machine import read_machine, whole_cores
from lightning_fastdata.trials import Findings, Trial

SHORT: dict[str, Any] = {"budget_s": 0.2}  # one trial


def values(loader: Any, count: int) -> list[torch.Tensor]:
    return [batch[0] for _, batch in zip(range(count), loader, strict=False)]


def generators() -> list[Any]:
    """Where the random generators are."""
    states = [random.getstate(), np.random.get_state(), torch.get_rng_state()]
    return [
        pickle.dumps(each.tolist() if isinstance(each, torch.Tensor) else each) for each in states
    ]


def test_a_plan_is_ready_to_be_used() -> None:
    plan = tune(Numbers(), batch_size=8, step_time_s=0.02, **SHORT)

    with_plan = FastDataLoader(Numbers(), 8, plan=plan)
    inline = FastDataLoader(Numbers(), 8, num_workers=0)
    assert isinstance(plan, LoaderPlan)
    assert plan.candidates
    assert all(map(torch.equal, values(with_plan, 4), values(inline, 4)))
    with_plan.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no other system binds a process to cores")
@pytest.mark.parametrize(("given", "has_launcher"), [(2, False), (2, True), (None, True)])
def test_trials_for_two_ranks_have_one_ranks_cores_and_leave_the_callers_as_they_were(
    given: int | None, has_launcher: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a launcher started the ranks, each may be tuning: then none keeps to a share."""
    if has_launcher:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    before = os.sched_getaffinity(0)
    cores = read_machine({}, local_world_size=2).cores
    share = len(before) if has_launcher else whole_cores(cores)

    plan = tune(
        Places(tmp_path), batch_size=8, step_time_s=0.04, local_world_size=given, budget_s=3.0
    )

    assert os.sched_getaffinity(0) == before
    assert plan.cores == pytest.approx(cores)
    seen = {path.name: int(path.read_text()) for path in tmp_path.iterdir()}
    of_workers = {cores for pid, cores in seen.items() if pid != str(os.getpid())}
    assert of_workers == {share}
    where = "all cores" if has_launcher else f"{share} of the cores"
    assert (f"on {where}, as one of 2 ranks" in plan.reasons["trials"]) == (given is not None)


def test_what_is_found_for_two_ranks_is_what_two_ranks_start_with() -> None:
    found: list[Findings] = []
    dataset = Numbers(sleep_s=0.001)
    tune_with(
        dataset,
        batch_size=8,
        step_time_s=0.02,
        local_world_size=2,
        on_trial=lambda trial, findings: found.append(findings),
        budget_s=2.0,
    )

    recipe = found[-1].subject.recipe
    assert found[-1].key == key_of(recipe, 8, read_machine({}, local_world_size=2))
    assert found[-1].key != key_of(recipe, 8, read_machine({}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Lightning would take the GPU: no refusal")
def test_a_step_that_computes_on_all_ranks_cores_says_nothing_of_one_rank() -> None:
    net = make_net(lightning.pytorch)

    with pytest.raises(SettingsError, match=r"^local_world_size=2 with a model that computes on"):
        tune(NumbersModule(), model=net, local_world_size=2, **SHORT)


@pytest.mark.slow
def test_samples_that_are_waited_for_get_as_many_workers_as_training_needs() -> None:
    """8 samples of 10 ms are 80 ms of waiting, for a step of 60 ms; one worker leaves 25 %."""
    plan = tune(Numbers(sleep_s=0.01), batch_size=8, step_time_s=0.06)

    assert plan.num_workers in (2, 3)
    assert plan.reasons["step_time"] == "60 ms, as it was given"


@pytest.mark.slow
def test_an_exhaustive_search_measures_every_candidate() -> None:
    trials: list[int] = []

    def note(trial: Trial, findings: Findings) -> None:
        trials.append(trial.num_workers)

    plan = tune_with(
        Numbers(sleep_s=0.001), batch_size=8, step_time_s=0.005, exhaustive=True, on_trial=note
    )

    assert all(each.measured_stall_fraction is not None for each in plan.candidates)
    assert len(trials) == 2 * len(plan.candidates)


@pytest.mark.parametrize("make", [NumbersModule, lambda: FastDataModule(Numbers(), batch_size=8)])
def test_data_module_generators_and_folder_are_left_as_they_were(
    make: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = make()
    before = {name: copy.copy(value) for name, value in vars(module).items()}
    if isinstance(module, FastDataModule):
        of_source = dict(vars(module._source))
    before_draws = generators()

    tune(module, step_time_s=0.02, **SHORT)

    assert generators() == before_draws
    assert os.listdir(tmp_path) == []
    assert set(vars(module)) == set(before)
    if isinstance(module, FastDataModule):
        assert module._set_up == set()
        assert module.planner.plans == {}
        assert vars(module._source) == of_source
    else:
        assert (module.stages, module.dataset) == ([], None)


@pytest.mark.parametrize("pl", [lightning.pytorch, pytorch_lightning])
def test_a_step_is_measured_on_a_copy_of_the_model(
    pl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = FastDataModule(Numbers(), batch_size=8)
    net = make_net(pl)
    before = pickle.dumps([each.tolist() for each in net.state_dict().values()])
    attributes = set(vars(net))

    step = measure_step(net, source_of(module, None))

    assert step.step_ns > 0
    assert step.host_cores > 0
    assert step.source.startswith("measured over ")
    assert pickle.dumps([each.tolist() for each in net.state_dict().values()]) == before
    assert set(vars(net)) == attributes
    assert net._trainer is None
    assert net.training
    assert all(each.grad is None for each in net.parameters())
    assert module._set_up == set()
    assert os.listdir(tmp_path) == []


def test_a_plan_says_where_the_time_of_a_step_comes_from() -> None:
    plan = tune(NumbersModule(), model=make_net(lightning.pytorch), **SHORT)

    assert "steps of Net on" in plan.reasons["step_time"]
    assert "cores busy" in plan.reasons["step_time"]


def test_of_a_model_with_slow_steps_three_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_fastdata.autotune.step_time.LONGEST_S", 0.0)
    seen: list[int] = []

    class Slow(make_net(lightning.pytorch).__class__):  # type: ignore[misc]  # made by a function
        def training_step(self, batch: Any, index: int) -> Any:
            seen.append(index)
            return super().training_step(batch, index)

    step = measure_step(Slow(), source_of(NumbersModule(), None))

    assert step.source.startswith("measured over 2 steps ")
    assert len(seen) == 3


@pytest.mark.slow
def test_batches_reach_a_measured_model_through_the_data_modules_hooks() -> None:
    class Moves(NumbersModule):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] * float("nan"), batch[1]

    class Sees(make_net(lightning.pytorch).__class__):  # type: ignore[misc]  # made by a function
        def training_step(self, batch: Any, index: int) -> Any:
            assert batch[0].isnan().all()
            return super().training_step(batch, index)

    measure_step(Sees(), source_of(Moves(), None))


@pytest.mark.slow
@pytest.mark.parametrize("pl", [lightning.pytorch, pytorch_lightning])
def test_a_model_that_lays_its_schedule_over_all_steps_can_be_measured(pl: Any) -> None:
    class Scheduled(make_net(pl).__class__):  # type: ignore[misc]  # made by a function
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            steps = self.trainer.estimated_stepping_batches
            assert steps == self.trainer.max_epochs * int(self.trainer.num_training_batches)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    module = FastDataModule(Numbers(), batch_size=8)

    assert measure_step(Scheduled(), source_of(module, None)).step_ns > 0


def test_pictures_reach_a_measured_model_as_our_data_module_would_bring_them(
    tmp_path: Path,
) -> None:
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / str(number) / "picture.png")

    class Looks(make_net(lightning.pytorch).__class__):  # type: ignore[misc]  # made by a function
        def training_step(self, batch: Any, index: int) -> Any:
            assert batch[0].dtype is torch.float32
            return self.layer(batch[0].flatten(1)[:, :4]).sum()

    measure_step(Looks(), source_of(ImageFolder(tmp_path, size=32), 4))


def test_an_error_of_the_model_says_what_to_pass_instead() -> None:
    class Fails(make_net(lightning.pytorch).__class__):  # type: ignore[misc]  # made by a function
        def training_step(self, batch: Any, index: int) -> Any:
            raise ValueError("no such layer")

    with pytest.raises(
        ValueError, match=r"^measuring a step of Fails failed with ValueError: no s"
    ):
        tune(Numbers(), batch_size=8, model=Fails(), **SHORT)


def test_an_error_of_a_sample_names_it() -> None:
    class Fails(Numbers):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            raise ValueError("a bad pixel")

    with pytest.raises(ValueError, match="a bad pixel") as caught:
        tune(Fails(), batch_size=8, step_time_s=0.01, **SHORT)

    assert "This was sample" in "".join(getattr(caught.value, "__notes__", ["This was sample"]))


def test_a_loader_keeps_its_batches() -> None:
    def collate(samples: list[Any]) -> int:
        return len(samples)

    subject = source_of(DataLoader(Numbers(), 6, collate_fn=collate, shuffle=True), None).subject

    assert (subject.batch_size, subject.shuffle, subject.collate_fn) == (6, True, collate)
    assert source_of(DataLoader(Numbers(), 6), 12).subject.batch_size == 12


def test_a_fast_loader_keeps_its_transform_and_seed() -> None:
    loader = FastDataLoader(
        Numbers(), 6, num_workers=0, batch_transform=len, seed=3, on_bad_sample="skip"
    )

    subject = source_of(loader, None).subject

    assert (subject.batch_transform, subject.seed, subject.shuffle) == (len, 3, False)
    assert subject.on_bad_sample == "skip"


def test_a_loader_of_its_own_batches_keeps_them() -> None:
    own = [[0, 1, 2], [3]]

    for loader in (
        DataLoader(Numbers(), batch_sampler=own),
        FastDataLoader(Numbers(), batch_sampler=own, num_workers=0),
    ):
        subject = source_of(loader, None).subject
        assert subject.batch_sampler is own
        assert subject.batch_size is None


def test_a_plain_dataset_without_a_batch_size_gets_the_usual_one_and_is_told() -> None:
    subject = source_of(Numbers, None).subject

    assert subject.batch_size == 32
    assert subject.notes["batch_size"].startswith("32")
    assert not source_of(Numbers, 32).subject.notes


def test_a_data_module_that_is_set_up_is_not_set_up_again() -> None:
    built: list[Numbers] = []

    def build() -> Numbers:
        built.append(Numbers())
        return built[-1]

    module = FastDataModule(build, batch_size=8)
    module.setup("fit")

    assert source_of(module, None).subject.dataset is built[0]
    assert len(built) == 1


def test_a_wrapped_data_module_is_left_as_it_was() -> None:
    inner = NumbersModule()

    subject = source_of(FastDataModule.wrap(inner, seed=5), None).subject

    assert (subject.batch_size, subject.shuffle, subject.seed) == (8, True, 5)
    assert inner.stages == []
