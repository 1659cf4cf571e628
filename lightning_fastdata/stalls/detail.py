"""What pictures of a run are drawn from: bounded, plain values that JSON holds."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

LaneKind: TypeAlias = Literal["device", "host", "worker"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimelineBucket:
    """Some consecutive steps of the whole run."""

    steps: int
    began_ns: int
    """After the first step that was recorded."""
    wait_ns: int
    transfer_ns: int
    compute_ns: int
    other_ns: int
    validation_ns: int
    checkpoint_ns: int
    logging_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneSpan:
    """Something that took its time in one lane."""

    lane: str
    """Such as ``worker 0``, ``training process`` or ``device``."""
    kind: LaneKind
    name: str
    """What it was: ``wait``, ``compute``, ``batch 12``, ``decode`` ..."""
    began_ns: int
    """After the beginning of the piece that is shown."""
    ended_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthPoint:
    """How many batches lay ready."""

    at_ns: int
    """After the beginning of the piece that is shown."""
    ready: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDetail:
    """The whole run in short, and a piece of it in full."""

    timeline: tuple[TimelineBucket, ...] = ()
    """At most 512, over the whole run."""
    spans: tuple[LaneSpan, ...] = ()
    """At most 1,500, of the piece: the run's newest steps."""
    depth: tuple[DepthPoint, ...] = ()
    """At most 512, of the piece."""
    piece_ns: int = 0
    """How long the piece is."""
