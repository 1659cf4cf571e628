"""Feed a Lightning training run without stalls, and say where it still waits.

Importing it is cheap: torch and Lightning are imported with the first name that needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fastdata.autotune import tune
    from lightning_fastdata.callback import DataStallProfiler
    from lightning_fastdata.checkup import doctor
    from lightning_fastdata.datamodule import FastDataModule
    from lightning_fastdata.dataset.image_folder import ImageFolder
    from lightning_fastdata.errors import FastDataError
    from lightning_fastdata.loader.fast_data_loader import FastDataLoader
    from lightning_fastdata.plan import LoaderPlan
    from lightning_fastdata.stalls import Finding, StallSummary
    from lightning_fastdata.trace.stages import stage

__version__ = "0.1.0"

__all__ = [
    "DataStallProfiler",
    "FastDataError",
    "FastDataLoader",
    "FastDataModule",
    "Finding",
    "ImageFolder",
    "LoaderPlan",
    "StallSummary",
    "doctor",
    "stage",
    "tune",
]

_ROOMS = {
    "DataStallProfiler": "callback",
    "FastDataError": "errors",
    "FastDataLoader": "loader.fast_data_loader",
    "FastDataModule": "datamodule",
    "Finding": "stalls",
    "ImageFolder": "dataset.image_folder",
    "LoaderPlan": "plan",
    "StallSummary": "stalls",
    "doctor": "checkup",
    "stage": "trace.stages",
    "tune": "autotune",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
