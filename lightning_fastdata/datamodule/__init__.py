"""The door to Lightning for data: ``FastDataModule`` wires datasets, plans and loaders."""

from lightning_fastdata.datamodule.module import FastDataModule

__all__ = ["FastDataModule"]
