"""Lightning's command line, under both its names, runs a data module from a config file."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.cli import LightningCLI
from pytorch_lightning.cli import LightningCLI as LegacyCLI
from toy_runs import LENGTH, LegacyModel, Model, epochs, samples

from lightning_fastdata import FastDataModule
from lightning_fastdata.errors import SettingsError

HERE = Path(__file__).parent
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
BOTH = pytest.mark.parametrize(
    ("cli", "model"),
    [(LightningCLI, Model), pytest.param(LegacyCLI, LegacyModel, marks=pytest.mark.slow)],
    ids=["lightning", "pytorch_lightning"],
)


def run(cli: Any, model: Any, *arguments: str, data: Any = None, **options: Any) -> Any:
    return cli(
        model,
        data,
        save_config_callback=None,
        trainer_defaults=QUIET,
        subclass_mode_data=data is None,
        seed_everything_default=False,
        args=["fit", *arguments],
        **options,
    )


@BOTH
def test_a_config_file_names_datasets_by_class(cli: Any, model: Any) -> None:
    ran = run(cli, model, f"--config={HERE / 'auto_workers.yaml'}")

    assert type(ran.datamodule) is FastDataModule
    assert ran.datamodule.eval_batch_size is None
    assert ran.datamodule.num_workers == "auto"
    assert [sorted(order) for order in epochs(ran.model.seen["train"])] == [list(range(LENGTH))] * 2
    assert epochs(ran.model.seen["val[0]"]) == [list(range(100, 109))] * 2


@BOTH
def test_a_config_file_fixes_how_to_load(cli: Any, model: Any) -> None:
    ran = run(cli, model, f"--config={HERE / 'fixed_workers.yaml'}")

    assert ran.datamodule.resolved_settings()["train"] == {
        "engine": "ring",
        "num_workers": 1,
        "pin_memory": False,
        "prefetch_factor": 3,
        "persistent_workers": False,
        "multiprocessing_context": "fork",
    }
    assert samples(ran.model.seen["val[1]"]) == [0, 1, 2]


@BOTH
def test_arguments_set_what_a_config_file_would(cli: Any, model: Any) -> None:
    ran = run(
        cli,
        model,
        "--data.train_dataset=toy_runs.Numbers",
        "--data.train_dataset.length=8",
        "--data.val_dataset=toy_runs.Numbers",
        "--data.num_workers=0",
        "--data.batch_size=2",
        "--trainer.max_epochs=1",
        data=FastDataModule,
    )

    assert sorted(samples(ran.model.seen["train"])) == list(range(8))
    assert ran.datamodule.resolved_settings()["train"]["num_workers"] == 0


def test_a_setting_that_cannot_work_is_refused(capsys: Any) -> None:
    with pytest.raises((SettingsError, SystemExit)):
        run(
            LightningCLI,
            Model,
            f"--config={HERE / 'auto_workers.yaml'}",
            "--data.init_args.num_workers=many",
        )


def test_the_help_explains_every_setting(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        run(LightningCLI, Model, "--help", data=FastDataModule)

    printed = " ".join(capsys.readouterr().out.split())
    assert "--data.max_stall_fraction" in printed
    assert "Share of a step (0 to 1) that may be spent waiting" in printed
