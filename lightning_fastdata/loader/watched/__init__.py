"""How a stock ``DataLoader`` of the user's is watched, without a change to what it delivers."""

from lightning_fastdata.loader.watched.watch import Watch, watch

__all__ = ["Watch", "watch"]
