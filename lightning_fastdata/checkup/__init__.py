"""Looking for what would break or slow down a run: in the machine, and in a dataset.

``result`` is the values; ``locate`` and ``subjects`` find the datasets; ``sample``, ``walk``,
``again`` and ``tally`` read them; ``machine_checks``, ``versions``, ``cuda``, ``hazard_checks`` and
``dataset_checks`` judge; ``examine`` joins them. Nothing here prints.
"""

from lightning_fastdata.checkup.examine import doctor
from lightning_fastdata.checkup.result import (
    BadSample,
    Check,
    DoctorReport,
    Outlier,
    SlowSample,
)

__all__ = ["BadSample", "Check", "DoctorReport", "Outlier", "SlowSample", "doctor"]
