"""A data module without a Trainer: a look at the data, and at what was decided."""

import copy
import html
import pickle
from typing import Any

import pytest
from toy_runs import BATCH, LENGTH, Noisy, Numbers

from lightning_fastdata import FastDataLoader, FastDataModule

ALL = [float(n) for n in range(LENGTH)]


def order(loader: Any) -> list[float]:
    return [n for batch in loader for n in batch.flatten().tolist()]


def test_a_loader_can_be_asked_for_at_once() -> None:
    data = FastDataModule(lambda: Numbers(), batch_size=BATCH)

    batch = next(iter(data.train_dataloader()))

    assert batch.shape == (BATCH, 1)
    assert batch.device.type == "cpu"


def test_every_pass_of_one_loader_is_a_new_epoch() -> None:
    loader = FastDataModule(Numbers(), batch_size=BATCH).train_dataloader()

    first, second = order(loader), order(loader)

    assert sorted(first) == sorted(second) == ALL
    assert first != second


@pytest.mark.parametrize("kind", ["val", "test", "predict"])
def test_every_kind_of_loader_can_be_asked_for(kind: str) -> None:
    data = FastDataModule(None, Numbers(), Numbers(), Numbers(), batch_size=BATCH)

    loader = getattr(data, f"{kind}_dataloader")()

    assert type(loader) is FastDataLoader
    assert order(loader) == order(loader) == ALL


@pytest.mark.parametrize("stage", ["fit", None])
def test_setting_up_twice_builds_nothing_twice(stage: Any) -> None:
    built: list[int] = []

    def build() -> Numbers:
        built.append(1)
        return Numbers()

    data = FastDataModule(build, val_fraction=0.5)
    for _ in range(2):
        data.setup(stage)
        data.setup("validate")
    data.train_dataloader()
    data.val_dataloader()

    assert len(built) == 1


def test_the_batch_size_is_read_whenever_a_loader_is_made() -> None:
    data = FastDataModule(Numbers(), Numbers(), batch_size=BATCH)
    data.train_dataloader()

    data.batch_size = 11

    assert data.train_dataloader().batch_size == 11
    assert data.val_dataloader().batch_size == 11


class TestWhatWasDecided:
    def test_is_explained_with_a_reason_for_each_choice(self, capsys: Any) -> None:
        data = FastDataModule(Noisy(), Numbers(), batch_size=BATCH)
        data.train_dataloader()
        data.val_dataloader()

        data.explain()

        printed = capsys.readouterr().out
        for name in ("train", "val"):
            for field, reason in data.planner.plans[name].reasons.items():
                assert reason in printed
                assert field in printed

    def test_is_not_explained_before_there_is_anything(self, capsys: Any) -> None:
        FastDataModule(Numbers()).explain()

        assert "Nothing has been decided yet" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"num_workers": 2, "prefetch_factor": 3},
            {"num_workers": 1, "persistent_workers": False, "multiprocessing_context": "fork"},
            {"engine": "inline"},
        ],
    )
    def test_can_be_passed_back_and_decides_the_same(self, settings: Any) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH, **settings)
        plan = data.train_dataloader().plan

        resolved = data.resolved_settings()["train"]

        assert all(type(value) in (bool, int, str) for value in resolved.values())
        again = FastDataModule(Numbers(), batch_size=BATCH, **resolved).train_dataloader().plan
        for field in (
            "engine",
            "num_workers",
            "prefetch_batches",
            "pin_memory",
            "persistent_workers",
            "start_method",
        ):
            assert getattr(again, field) == getattr(plan, field)

    def test_is_drawn_in_a_notebook(self) -> None:
        data = FastDataModule(Numbers(), batch_size=BATCH)
        data.train_dataloader()

        page = data._repr_html_()

        assert page.startswith("<pre>")
        assert "num_workers" in page
        reasons = data.planner.plans["train"].reasons
        assert html.escape(reasons["num_workers"]) in page

    def test_names_each_of_several_loaders(self) -> None:
        data = FastDataModule({"a": Numbers(), "b": Numbers()}, [Numbers(), Numbers()])
        data.train_dataloader()
        data.val_dataloader()

        assert set(data.resolved_settings()) == {"train[a]", "train[b]", "val[0]", "val[1]"}


def test_a_module_can_be_copied_and_pickled_as_spawned_processes_need() -> None:
    data = FastDataModule(Numbers(), batch_size=BATCH)
    list(data.train_dataloader())

    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert sorted(order(other.train_dataloader())) == ALL


def test_a_number_of_workers_given_is_kept() -> None:
    loader = FastDataModule(Numbers(), batch_size=BATCH, num_workers=1).train_dataloader()

    assert loader.num_workers == 1
    assert loader.plan.reasons["num_workers"] == "fixed by the user"
