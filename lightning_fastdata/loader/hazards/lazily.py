"""The same advice for all that a worker has to open for itself."""

OPEN_REMEDY = "Open it at the first sample"
OPEN_LATE = """\
Open it at the first sample instead, for instance in __getitem__:

    if self.file is None:  # __init__ sets it to None, so that each worker opens its own
        self.file = open(self.path, "rb")"""
