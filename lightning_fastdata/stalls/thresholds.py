"""From which figures on something is worth a finding."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FindingThresholds:
    """The limits of all findings, as one value. Fractions are 0 to 1."""

    stall_fraction: float = 0.05
    """Of the run: less is no stall worth a finding. XProf calls it input-bound from here on."""
    share_fraction: float = 0.05
    """Of the run, for one cause of several: less is left to the largest. As for the whole."""
    wanted_fraction: float = 0.02
    """The stall that advice aims at: the ``max_stall_fraction`` of a data module."""
    slow_times: float = 3.0
    """Times the median from which on a sample is slow. Guess."""
    few_fraction: float = 0.1
    """Of all samples: where more are slow, they are no exception. Guess."""
    blocked_fraction: float = 0.3
    """Of the workers' time, neither computing nor waiting for a core. Guess."""
    core_wait_fraction: float = 0.1
    """Of the workers' time, from which on cores are scarce. Guess."""
    crowded_fraction: float = 0.3
    """Of the workers' time that they wait for a core, from which on training that computes on the
    same cores is slowed too, whatever the stall. Guess."""
    crowding_fraction: float = 0.1
    """Of a step, that training on the workers' cores would save without them. Guess."""
    large_bytes: int = 1_000_000
    """Of a batch: where cores are scarce, a smaller one is late for want of a core. Guess."""
    bytes_a_sample: int = 1024
    """Read from storage: less are libraries and logs. Guess."""
    faults_a_sample: float = 0.05
    """Pages read from storage: one in 20 samples is a mapped file that is cold. Guess."""
    cold_times: float = 3.0
    """How much more the first epoch stalls than later ones, where the data was cold. Guess."""
    epoch_start_fraction: float = 0.05
    """Of an epoch, from asking to its first batch (research on Lightning: worth a warning)."""
    first_batch_fraction: float = 0.2
    """Of the whole run. Guess."""
    first_batch_ns: int = 5_000_000_000
    """Nobody looks for a shorter start of a run. Guess."""
    validation_fraction: float = 0.2
    """Of training and validation together. Guess."""
    checkpoint_fraction: float = 0.05
    logging_fraction: float = 0.05
    transfer_fraction: float = 0.05
    other_fraction: float = 0.1
    """Of all else: Lightning's own loop takes a good part of a short step. Guess."""
    other_ns_a_step: int = 2_000_000
    """Of all else, a step; Lightning's own loop takes under 1 ms. Guess."""
    drained_fraction: float = 0.9
    """Of steps at which the device had nothing to do when the loop came for a batch. Guess."""
    sync_wait_fraction: float = 0.1
    """Of a step that the loader may take where the loop itself waits for the device. Guess."""
    straggle_margin_fraction: float = 0.05
    """Of an interval, by which a rank waits longer than the median of the others. Guess."""
    straggle_intervals_fraction: float = 0.6
    """Of intervals that are one rank's: less often, ranks take turns. Guess."""
    idle_fraction: float = 0.5
    """Of their time that workers are at work, under which there may be too many. Guess."""
    keeps_up_fraction: float = 0.01
    """Of the run: a stall under it leaves workers to give away. Guess."""
    most_workers: int = 64
    """That are tried in a replay. Guess: nobody starts more for one training process."""


def percent(fraction: float) -> str:
    """Return a share (0 to 1) as it stands in a sentence."""
    return f"{100 * fraction:.1f} %" if 0 < fraction < 0.0995 else f"{100 * fraction:.0f} %"


def spent(time_ns: float) -> str:
    """Return a time as it stands in a sentence."""
    for unit, unit_ns in (("s", 1e9), ("ms", 1e6)):
        if time_ns >= unit_ns:
            return f"{time_ns / unit_ns:.3g} {unit}"
    return f"{time_ns / 1e3:.3g} us"


def data_size(size_bytes: float) -> str:
    """Return a number of bytes as it stands in a sentence."""
    for unit, unit_bytes in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= unit_bytes:
            return f"{size_bytes / unit_bytes:.3g} {unit}"
    return f"{size_bytes:.0f} bytes"
