"""The door to Lightning's callbacks: ``DataStallProfiler``."""

from lightning_fastdata.callback.callback import DataStallProfiler

__all__ = ["DataStallProfiler"]
