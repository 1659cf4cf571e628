"""``tune``: how a dataset is best loaded, found by trying before training begins.

``source`` finds the training loader in what was given, ``step_time`` measures a training step, and
``entry`` hands both to the trials.
"""

from lightning_fastdata.autotune.entry import tune, tune_with

__all__ = ["tune", "tune_with"]
