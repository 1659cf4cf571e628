"""Which number of workers is tried next, and which one is taken. It only compares figures."""

from collections.abc import Mapping, Sequence
from statistics import mean

CLEAR_MARGIN = 0.05  # of a step: a number predicted this much over the limit is not tried (guess)
NOISE = 0.02  # of a step: what two trials of the same number differ by on a quiet machine (guess)
WORTH_IT = 0.03  # of a step: what more workers have to gain, where none keep the limit (the aim)
RATE_LOST = 0.1  # of batches a second: never more, for fewer workers (guess)
MOST_TRIES = 2
ALL_WEIGHED = 16  # numbers up to which each one is weighed

Measured = Mapping[int, Sequence[float]]
"""The stall (0 to 1) of each trial, by the number of workers."""


def next_number(
    predicted: Mapping[int, float],
    measured: Measured,
    max_stall_fraction: float,
    floors: Mapping[int, float] | None = None,
) -> int | None:
    """Say how many workers to try next.

    A number is settled when it was tried and one fewer was tried as well, or is predicted to be
    over the limit by a clear margin: 0.05, or what predictions were seen to be off by. Where none
    keeps the limit, workers are in each other's way, of which predictions know least: there, half
    as many are tried as well, and half of those, until fewer are clearly worse.

    Args:
        predicted: The stall of each number that may be taken, as far as it is known by now.
        measured: What trials gave so far; their numbers are among the predicted ones.
        max_stall_fraction: The limit, 0 to 1.
        floors: What the stall of each number that was tried would have been, had every batch lain
            ready: taking them takes its time, and with more workers not less of it.

    Returns:
        A number that was tried at most once so far; ``None`` when all is settled.
    """
    numbers, floors = sorted(predicted), floors or {}
    stalls = _stalls(above_floors(predicted, measured, floors), measured)
    wanted = _fewest(stalls, max_stall_fraction)
    doubtful = [
        n
        for n, tries in measured.items()
        if n <= wanted and len(tries) < MOST_TRIES and 0 < stalls[n] - max_stall_fraction <= NOISE
        if floors.get(n, 0.0) <= max_stall_fraction
    ]
    if doubtful:  # by chance over the limit, perhaps
        return max(doubtful)
    if wanted not in measured:
        return wanted
    margin = max([CLEAR_MARGIN, *(abs(predicted[n] - stalls[n]) for n in measured)])
    limit = _limit(stalls, max_stall_fraction)
    place = numbers.index(wanted)
    lower, upper = numbers[max(0, place - 1)], numbers[min(place + 1, len(numbers) - 1)]
    if lower not in measured and predicted[lower] - margin <= limit:
        return lower
    promised = stalls[wanted] - max(predicted[upper] - margin, floors.get(wanted, 0.0))
    if stalls[wanted] <= max_stall_fraction:
        return None
    if upper not in measured and promised > WORTH_IT:
        return upper
    half = max(n for n in numbers if n <= wanted // 2)
    is_worse = any(n < wanted and stalls[n] > limit + NOISE for n in measured)
    return None if half in measured or half < 1 or is_worse else half


def above_floors(
    predicted: Mapping[int, float], measured: Measured, floors: Mapping[int, float]
) -> dict[int, float]:
    """Give the predictions, those of more workers than were tried no lower than what was seen.

    Args:
        predicted: The stall of each number.
        measured: What trials gave.
        floors: As ``next_number`` takes them.
    """
    return {
        n: stall
        if n in measured
        else max([stall, *(floor for m, floor in floors.items() if 0 < m < n)])
        for n, stall in predicted.items()
    }


def best_number(
    predicted: Mapping[int, float], measured: Measured, max_stall_fraction: float
) -> int:
    """Take the fewest workers that keep the stall at or under the limit, or come close to the best.

    Args:
        predicted: The stall of each number, which counts for those that were not tried, with what
            trials were worse than predicted: other processes disturb all numbers alike.
        measured: What trials gave.
        max_stall_fraction: The limit, 0 to 1.
    """
    stalls = _stalls(predicted, measured)
    worse = mean([stalls[n] - predicted[n] for n in measured]) if measured else 0.0
    told = {n: s if n in measured else s + max(0.0, worse) for n, s in stalls.items()}
    return _fewest(told, max_stall_fraction)


def shortfalls(rates: Mapping[int, float], best: float) -> dict[int, float]:
    """Turn batches a second into the share (0 to 1) that each falls short of the best."""
    return {n: max(0.0, 1.0 - rate / best) if best > 0 else 0.0 for n, rate in rates.items()}


def numbers_to_weigh(most: int, around: int | None = None) -> list[int]:
    """List the numbers of workers that are compared: all, or of very many each fourth part more.

    Args:
        most: The largest, 0 or more.
        around: A number near which none is left out.
    """
    numbers = set(range(min(most, ALL_WEIGHED) + 1)) | {most}
    step = ALL_WEIGHED
    while (step := step + max(1, step // 8)) < most:
        numbers.add(step)
    if around is not None:
        numbers |= set(range(max(0, around - 3), min(most, around + 3) + 1))
    return sorted(numbers)


def interleaved(most: int) -> list[int]:
    """Order all numbers from 0 to ``most`` so that neighbours are not tried one after the other.

    What drifts meanwhile, such as a cache that gets warm, then looks like no slope.
    """
    half = (most + 2) // 2
    ordered: list[int] = []
    for low in range(half):
        ordered += [low, low + half] if low + half <= most else [low]
    return ordered


def _stalls(predicted: Mapping[int, float], measured: Measured) -> dict[int, float]:
    """What is believed of each number: fewer do no better than more did, unless it was foreseen."""
    tried = {n: mean(tries) for n, tries in measured.items()}
    return {
        n: tried[n]
        if n in tried
        else max([stall, *(s for m, s in tried.items() if n < m and stall >= predicted[m])])
        for n, stall in predicted.items()
    }


def _limit(stalls: Mapping[int, float], max_stall_fraction: float) -> float:
    best = min(stalls.values())
    if best <= max_stall_fraction:
        return max_stall_fraction
    # Where training does little but wait, a hundredth of its time is many times the batches.
    return max(max_stall_fraction, best + min(WORTH_IT, RATE_LOST * max(0.0, 1.0 - best)))


def _fewest(stalls: Mapping[int, float], max_stall_fraction: float) -> int:
    limit = _limit(stalls, max_stall_fraction)
    return min(n for n, stall in stalls.items() if stall <= limit)
