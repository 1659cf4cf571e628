"""The ways in which engines give batches to workers, with their settings."""

from dataclasses import dataclass
from typing import TypeAlias

from lightning_fastdata.errors import SettingsError


def refuse_below(least: int, **settings: int) -> None:
    """Refuse settings that are too small.

    Raises:
        SettingsError: The first one that is below ``least``.
    """
    for name, value in settings.items():
        if value < least:
            raise SettingsError(f"{name} is {value}, wanted is {least} or more. Pass a larger one.")


@dataclass(frozen=True, kw_only=True, slots=True)
class RingDispatch:
    """The ring's: batches are cut into chunks, and whichever worker is free takes the oldest."""

    num_workers: int
    depth: int
    """Batches in flight."""
    is_cut: bool = True
    """Whether several workers may write one batch; ``False``: a ``collate_fn`` of its own."""
    handing_ns: int = 100_000
    """Of a worker's time, to get a chunk and to answer it (guess; ``handing_ns_of`` reads it from a
    run)."""
    in_order: bool = True
    next_ns: int = 0
    """Of the training process's time, to take one batch in."""

    def __post_init__(self) -> None:
        refuse_below(1, num_workers=self.num_workers, depth=self.depth)
        refuse_below(0, handing_ns=self.handing_ns, next_ns=self.next_ns)

    @property
    def in_flight(self) -> int:
        """Batches in flight at most."""
        return self.depth


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchDispatch:
    """torch's own: whole batches, dealt to workers in turn when a batch is taken."""

    num_workers: int
    prefetch_factor: int = 2
    handing_ns: int = 0
    """Of a worker's time, to get a batch and to send it (``handing_ns_of`` reads it from a run)."""
    in_order: bool = True
    next_ns: int = 0
    """Of the training process's time, to take one batch in."""

    def __post_init__(self) -> None:
        refuse_below(1, num_workers=self.num_workers, prefetch_factor=self.prefetch_factor)
        refuse_below(0, handing_ns=self.handing_ns, next_ns=self.next_ns)

    @property
    def in_flight(self) -> int:
        """Batches in flight at most."""
        return self.num_workers * self.prefetch_factor


@dataclass(frozen=True, kw_only=True, slots=True)
class InlineDispatch:
    """No workers: the training process makes each batch when it is asked for."""

    @property
    def in_flight(self) -> int:
        """Batches in flight at most."""
        return 1


Dispatch: TypeAlias = RingDispatch | TorchDispatch | InlineDispatch
