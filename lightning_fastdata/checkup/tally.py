"""Adding up the records of one dataset's samples, in a few bytes a sample."""

import math
from array import array
from collections import Counter

import numpy as np

from lightning_fastdata.checkup.result import BadSample, Outlier, SlowSample
from lightning_fastdata.checkup.sample import SampleRecord
from lightning_fastdata.checkup.subjects import Subject

SLOWEST_FRACTION = 0.01


class Tally:
    """What was found out about one dataset's samples so far."""

    def __init__(self) -> None:
        self.bad: dict[int, str] = {}
        self.uncollatable: dict[str, tuple[int, str]] = {}
        self.warned: dict[int, str] = {}
        self.specs: Counter[str] = Counter()
        self.sample_bytes = 0
        """Of the largest sample."""
        self.samples = 0
        self._spec_numbers: dict[str, int] = {}
        self._specs_of = array("i")
        self._good, self._timed = array("q"), array("q")
        self._wall_ns, self._cpu_ns = array("q"), array("q")

    def add(self, record: SampleRecord) -> None:
        """Count one sample."""
        self.samples += 1
        if record.error is not None:
            self.bad[record.sample] = record.error
            return
        assert record.spec is not None, "it was made"
        self.specs[record.spec] += 1
        self._good.append(record.sample)
        self._specs_of.append(self._spec_numbers.setdefault(record.spec, len(self._spec_numbers)))
        self.sample_bytes = max(self.sample_bytes, record.size_bytes)
        if record.uncollatable is not None:
            self.uncollatable.setdefault(record.spec, (record.sample, record.uncollatable))
        if record.warning is not None:
            self.warned[record.sample] = record.warning
        if not record.is_first:
            self._timed.append(record.sample)
            self._wall_ns.append(record.wall_ns)
            self._cpu_ns.append(record.cpu_ns)

    def add_lost(self, sample: int, error: str) -> None:
        """Count one sample that hung, or that ended its worker."""
        self.samples += 1
        self.bad[sample] = error

    @property
    def usual(self) -> str | None:
        """What most samples are; ``None`` before there is one."""
        return self.specs.most_common(1)[0][0] if self.specs else None

    @property
    def median_ns(self) -> int | None:
        """The time that half of the samples take at most; ``None`` where none was timed."""
        return int(np.median(np.array(self._wall_ns))) if self._wall_ns else None

    def bad_samples(self, subject: Subject) -> list[BadSample]:
        """Every sample that could not be made, by index."""
        return [
            BadSample(dataset=subject.name, index=index, path=subject.path_of(index), error=error)
            for index, error in sorted(self.bad.items())
        ]

    def outliers(self, subject: Subject) -> list[Outlier]:
        """Every sample that is not what most are, by index."""
        usual = self.usual
        if usual is None or len(self.specs) == 1:
            return []
        names = list(self._spec_numbers)
        odd = sorted(
            (index, names[number])
            for index, number in zip(self._good, self._specs_of, strict=True)
            if names[number] != usual
        )
        return [
            Outlier(
                dataset=subject.name,
                index=index,
                path=subject.path_of(index),
                found=spec,
                usual=usual,
            )
            for index, spec in odd
        ]

    def slowest(self, subject: Subject) -> list[SlowSample]:
        """The slowest one in a hundred, slowest first. A worker's first sample is left out."""
        wall_ns = np.array(self._wall_ns)
        count = math.ceil(SLOWEST_FRACTION * len(wall_ns))
        places = np.argsort(-wall_ns, kind="stable")[:count].tolist()
        return [
            SlowSample(
                dataset=subject.name,
                index=self._timed[place],
                path=subject.path_of(self._timed[place]),
                wall_ns=self._wall_ns[place],
                cpu_ns=self._cpu_ns[place],
            )
            for place in places
        ]
