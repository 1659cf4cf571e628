"""What a data module's arguments fix about loading."""

from typing import TYPE_CHECKING

from lightning_fastdata.tuning.choose import Wishes

if TYPE_CHECKING:
    from lightning_fastdata.datamodule.module import FastDataModule


def wishes_of(module: "FastDataModule") -> Wishes:
    """What the arguments fix, as they are now.

    Raises:
        SettingsError: If they cannot work together.
    """
    pin_memory = module.pin_memory
    if pin_memory == "auto":
        trainer = module.trainer
        pin_memory = trainer is not None and trainer.strategy.root_device.type == "cuda"
    return Wishes(
        engine=module.engine,
        num_workers=module.num_workers,
        prefetch_factor=None if module.prefetch_factor == "auto" else module.prefetch_factor,
        pin_memory=pin_memory,
        persistent_workers=module.persistent_workers,
        start_method=module.multiprocessing_context,
        sample_timeout_s=module.sample_timeout_s,
    )
