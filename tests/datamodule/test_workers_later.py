"""What a data module's arguments fix about workers also holds for those that come later."""

from contextlib import closing
from typing import Any

import pytest
from known_machine import cheap, two_cores
from toy_runs import Numbers

from lightning_fastdata import FastDataModule
from lightning_fastdata.datamodule import planner
from lightning_fastdata.errors import SettingsError
from lightning_fastdata.loader import measure


@pytest.fixture(autouse=True)
def _no_worker_is_worth_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measure, "read_machine", two_cores)
    monkeypatch.setattr(planner, "probe", cheap)


def loader_of(**settings: Any) -> Any:
    data = FastDataModule(Numbers(), batch_size=4, **settings)
    data.setup("fit")
    loader = data.train_dataloader()
    assert loader.num_workers == 0
    assert loader.plan.max_workers is not None
    return loader


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (True, 8, 60.0, True)),
        ({"persistent_workers": False}, (False, 8, 60.0, True)),
        ({"prefetch_factor": 3}, (True, 6, 60.0, True)),
        ({"sample_timeout_s": 7.0}, (True, 8, 7.0, False)),
        ({"sample_timeout_s": None}, (True, 8, None, False)),
    ],
)
def test_workers_that_come_later_are_as_the_user_asked(
    settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    with closing(loader_of(**settings)) as loader:
        loader.resize(2)

        plan = loader.plan
        found = plan.persistent_workers, plan.prefetch_batches
        assert (*found, plan.sample_timeout_s, plan.sample_timeout_follows) == expected


def test_an_engine_that_was_asked_for_stays() -> None:
    data = FastDataModule(Numbers(), batch_size=4, engine="ring")
    data.setup("fit")

    with closing(data.train_dataloader()) as loader, pytest.raises(SettingsError, match="resize"):
        loader.resize(0)
