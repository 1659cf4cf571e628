"""What a data module's loaders do about samples that cannot be made, as their arguments."""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from lightning_fastdata.errors import BadSampleWarning, SettingsError
from lightning_fastdata.loader.mend import policy_of

if TYPE_CHECKING:
    from lightning_fastdata.datamodule.module import FastDataModule

_FOLDER = "quarantine"


def check_bad_samples(module: "FastDataModule") -> None:
    """Refuse settings that cannot work.

    Raises:
        SettingsError: Naming the setting.
    """
    if module.on_bad_sample not in ("raise", "skip"):
        raise SettingsError(
            f'on_bad_sample={module.on_bad_sample!r}, wanted "raise" or "skip". Leave it out for '
            '"raise".'
        )
    folder = None if module.quarantine is None else Path(module.quarantine)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise SettingsError(
            f"quarantine={str(folder)!r} is a file, wanted a folder: each loader keeps a list of "
            "its own. Pass another path."
        )
    path = None if folder is None else folder / "train.jsonl"
    policy_of(None, module.on_bad_sample, module.max_bad_fraction, path)


def bad_sample_arguments(
    module: "FastDataModule", name: str, dataset: Any, *, training: bool
) -> dict[str, Any]:
    """Give the loader's arguments: training repeats another sample, evaluation never does.

    Args:
        module: Whose settings they are.
        name: The loader's; its list of bad samples is named after it.
        dataset: What it reads; a stream that has raised gives nothing more, so it always raises.
        training: Whether each rank needs as many samples as the others.
    """
    if module.on_bad_sample == "raise" or isinstance(dataset, IterableDataset):
        return {"on_bad_sample": "raise"}
    return {
        "on_bad_sample": "skip" if training else "leave_out",
        "max_bad_fraction": module.max_bad_fraction,
        "quarantine": _quarantine(module, name),
    }


def _quarantine(module: "FastDataModule", name: str) -> Path | None:
    folder = module.quarantine
    if folder is None and module.trainer is not None:
        root = str(module.trainer.default_root_dir)
        if "://" in root:
            warnings.warn(
                f"bad samples are not listed in a file: {root} is no local folder. Pass "
                "quarantine, a folder on this machine.",
                BadSampleWarning,
                stacklevel=2,
            )
            return None
        folder = Path(root) / _FOLDER
    if folder is None:
        return None
    return Path(folder).expanduser() / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', name).strip('_')}.jsonl"
