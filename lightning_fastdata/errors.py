"""What can go wrong, said for people: what was found, what was wanted, and what to do.

Every error is a ``FastDataError`` and also the standard exception that a caller would expect. Every
one can be built from a single string, so it survives the way from a worker process unchanged.
"""


class FastDataError(Exception):
    """Anything this package refuses or could not do."""


class SettingsError(FastDataError, ValueError):
    """An argument, or two arguments together, that cannot work."""


class DatasetError(FastDataError, ValueError):
    """A dataset that cannot be read as it is: missing, empty, or not what was promised."""


class SampleError(FastDataError, RuntimeError):
    """One sample that could not be read or made; the message names its index."""


class BatchShapeError(FastDataError, ValueError):
    """Samples that do not fit together into one batch; the message names the first that differs."""


class WorkerError(FastDataError, RuntimeError):
    """A worker process that ended, or that raised what cannot be sent; the message says which."""


class ResumeError(FastDataError, RuntimeError):
    """A saved position that does not belong to this dataset."""


class MissingExtraError(FastDataError, ImportError):
    """An optional library is needed; the message gives the pip command."""


class StallLimitError(FastDataError, RuntimeError):
    """A run waited for data longer than it was allowed to; it trained to its end all the same."""


class HazardWarning(UserWarning):
    """The dataset holds what worker processes cannot share safely; the message says where."""


class WorkerWarning(UserWarning):
    """A worker process ended or got stuck and was replaced; the run goes on and loses nothing."""


class BadSampleWarning(UserWarning):
    """A sample that cannot be made was skipped or left out; the message names it."""


class ShortageWarning(UserWarning):
    """Memory, shared memory or open files are too few for what was wanted; less was planned."""
