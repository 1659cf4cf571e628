"""Whether the workers' waiting is for storage."""

import re
from dataclasses import dataclass

from lightning_fastdata.stalls.causes.costly import line_sentence, place
from lightning_fastdata.stalls.thresholds import FindingThresholds, data_size, percent
from lightning_fastdata.stalls.work_figures import stage_fractions, worker_lines
from lightning_fastdata.trace import WorkTotals

_READING_STAGE = re.compile(r"(?<![a-z])(read|open|fetch|download|load|storage|disk)", re.I)
_READING_FUNCTION = re.compile(
    r"_?(p?read|readinto|readlines?|recv|open|fetch|download|get_object)"
)
_READING_TEXT = re.compile(
    r"\.(p?read|readinto|readlines?|read_bytes|read_text|recv|get_object)\(|\bopen\("
    r"|urlopen\(|requests\.get\(|\b(np|numpy|torch)\.(load|fromfile|memmap)\("
)
ENOUGH = 0.3  # of the workers' time, waiting or looks, for something to speak for it (guess)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How much of the workers' time went by without computing, and what says it was reading."""

    blocked_fraction: float
    """Share of their time (0 to 1) in which they neither computed nor waited for a core."""
    evidence: tuple[str, ...]
    """Empty: nothing speaks for storage."""


def reading(totals: WorkTotals, limits: FindingThresholds) -> Reading:
    """Look for signs of reading in what the workers did."""
    busy_ns, samples = max(1, totals.busy_ns), max(1, totals.samples)
    blocked_ns = totals.busy_ns - totals.cpu_ns - (totals.core_wait_ns or 0)
    blocked_fraction = min(1.0, max(0.0, blocked_ns / busy_ns))
    evidence: list[str] = []
    # A process that starts reads its libraries, which is in few chunks: it explains no waiting.
    explains = totals.reading_ns >= ENOUGH * blocked_ns
    if explains and totals.read_bytes >= limits.bytes_a_sample * samples:
        evidence.append(
            f"They read {data_size(totals.read_bytes)} from storage, "
            f"{data_size(totals.read_bytes / samples)} a sample."
        )
    if explains and totals.major_faults >= limits.faults_a_sample * samples:
        evidence.append(
            f"{totals.major_faults} pages of mapped files were not in memory and had to be read."
        )
    stages: list[str] = []
    for name, fraction in stage_fractions(totals).items():
        if name in totals.stages_ns and fraction >= ENOUGH and _READING_STAGE.search(name):
            stages.append(f'Stage "{name}" took {percent(fraction)} of their time.')
    evidence += stages
    all_lines = worker_lines(totals)
    lines = [
        line
        for line in all_lines
        if _READING_FUNCTION.fullmatch(line.function) or _READING_TEXT.search(line.text)
    ]
    found = sum(line.fraction for line in lines)
    if lines and found >= ENOUGH:
        where = place(lines[0])
        evidence.append(f"{percent(min(1.0, found))} of looks found them reading, at {where}.")
    elif stages and all_lines:
        evidence.append(line_sentence(all_lines[0]))
    if blocked_fraction < limits.blocked_fraction or not evidence:
        return Reading(blocked_fraction=blocked_fraction, evidence=())
    waited = f"Workers neither computed nor waited for a core in {percent(blocked_fraction)} of "
    return Reading(
        blocked_fraction=blocked_fraction,
        evidence=(f"{waited}the time to make samples.", *evidence),
    )
