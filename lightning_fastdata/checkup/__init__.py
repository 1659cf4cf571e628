"""Looking for what would break or slow down a run: in the machine, and in a dataset.

``result`` is the values; ``machine_checks``, ``versions`` and ``dataset_checks`` judge;
``sample``, ``walk`` and ``again`` read; ``examine`` joins them. Nothing here prints.
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
