"""Starting a nursery: by a fork of this process, or as a fresh interpreter."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from typing import BinaryIO

import cloudpickle  # type: ignore[import-untyped]  # it ships no types

from lightning_fastdata.errors import DatasetError
from lightning_fastdata.loader.hazards.pickling import explain_unpicklable, find_unpicklable
from lightning_fastdata.loader.hazards.threads import limit_native_threads
from lightning_fastdata.loader.make import PARTS, Recipe
from lightning_fastdata.loader.ring.crew import GRACE_S
from lightning_fastdata.loader.ring.failures import failure_of
from lightning_fastdata.loader.ring.nursery import Nursery
from lightning_fastdata.loader.ring.process import become_helper, fork_into
from lightning_fastdata.loader.ring.settings import RingSettings
from lightning_fastdata.loader.ring.wire import Channel, pair
from lightning_fastdata.plan import StartMethod

ENDING_S = GRACE_S + 2.0  # for the nursery to end its workers and itself

# Importing torch takes seconds, in which a thread looks whether the training process still lives.
_FRESH = """
import os, select, sys, threading
sys.path[:] = {path!r}
imported = os.eventfd(0)
def end_with_parent():
    poll = select.poll()
    poll.register({end}, select.POLLRDHUP)
    poll.register(imported, select.POLLIN)
    if imported not in dict(poll.poll()):
        os._exit(1)
thread = threading.Thread(target=end_with_parent)
thread.start()
from lightning_fastdata.loader.ring.launch import serve_afresh
os.eventfd_write(imported, 1)
thread.join()
os.close(imported)
serve_afresh({end}, {parts})
"""


class NurseryProcess:
    """A running nursery, seen from the training process.

    Args:
        recipe: What its workers make batches with.
        settings: How the ring is run.
        start_method: ``"fork"`` shares this process's memory; the others start a fresh interpreter
            and send it the recipe, once for all workers.

    Raises:
        DatasetError: If a part of the recipe cannot be pickled, and it has to be.
    """

    def __init__(self, recipe: Recipe, settings: RingSettings, start_method: StartMethod) -> None:
        parts = None if start_method == "fork" else _pickled(recipe, settings)
        self.channel, end = pair()
        self._parent = os.getpid()
        self._popen: subprocess.Popen[bytes] | None = None
        if parts is None:
            self.pid = fork_into(
                lambda own: _serve(own, recipe, settings), end, dies_with_parent=False
            )
            return
        with parts, end:
            descriptors = (end.fileno(), parts.fileno())
            code = _FRESH.format(path=sys.path, end=descriptors[0], parts=descriptors[1])
            self._popen = subprocess.Popen([sys.executable, "-c", code], pass_fds=descriptors)
            self.pid = self._popen.pid

    @property
    def is_of_this_process(self) -> bool:
        """Whether this process started it; a forked child only has a copy of its parent's."""
        return self._parent == os.getpid()

    def close(self) -> int:
        """End it, its workers first, within three seconds.

        Returns:
            Its exit status; negative is the signal that ended it.
        """
        self.channel.end_sending()
        if not self.channel.drain(ENDING_S):
            os.kill(self.pid, signal.SIGKILL)  # its workers ask to be killed with it
        self.channel.close()
        if self._popen is not None:
            return self._popen.wait()
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # the user's program lets the system forget its children
            return 0


def serve_afresh(end: int, parts: int) -> None:
    """Be a nursery in a fresh interpreter.

    Args:
        end: Descriptor of the connection to the training process.
        parts: Descriptor of the file that holds the pickled recipe and settings.
    """
    channel = Channel(socket.socket(fileno=end))
    try:
        with open(parts, "rb") as file:
            file.seek(0)
            recipe, settings = pickle.load(file)
    except Exception as error:
        channel.send(failure_of(error))
        return
    become_helper()
    _serve(channel, recipe, settings)


def _serve(channel: Channel, recipe: Recipe, settings: RingSettings) -> None:
    limit_native_threads()
    Nursery(channel, recipe, settings).serve()


def _pickled(recipe: Recipe, settings: RingSettings) -> BinaryIO:
    file = open(os.memfd_create("lightning_fastdata_recipe"), "w+b")  # noqa: SIM115  # the caller closes it
    try:
        cloudpickle.dump((recipe, settings), file)
        file.flush()
    except Exception as error:
        file.close()
        parts = {name: getattr(recipe, name) for name in PARTS}
        parts["worker_init_fn"] = settings.worker_init_fn
        found = (find_unpicklable(part, name) for name, part in parts.items())
        culprit = next((each for each in found if each is not None), None)
        if culprit is not None:
            raise DatasetError(
                f'{explain_unpicklable(culprit)}Or pass multiprocessing_context="fork".'
            ) from error
        raise DatasetError(
            f"the dataset ({type(recipe.dataset).__name__}), its collate_fn, batch_transform or "
            f"worker_init_fn cannot be sent to new processes ({type(error).__name__}: {error}), "
            "wanted parts that can be pickled. Open files and connections at the first sample "
            'instead of in __init__, or pass multiprocessing_context="fork".'
        ) from error
    return file
