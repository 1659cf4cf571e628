"""Trying numbers of workers on the real dataset, before training begins.

``subject`` is what is loaded, ``step`` stands in for training, ``trial`` measures one number,
``share`` keeps it to one rank's cores, ``policy`` says which one is tried next, ``search`` goes on
until it is settled, and ``outcome`` makes a plan of it. Nothing here knows Lightning, and nothing
prints.
"""

from lightning_fastdata.trials.findings import Findings, StepTime
from lightning_fastdata.trials.outcome import plan_of
from lightning_fastdata.trials.search import Search
from lightning_fastdata.trials.subject import Subject
from lightning_fastdata.trials.trial import Trial

__all__ = ["Findings", "Search", "StepTime", "Subject", "Trial", "plan_of"]
