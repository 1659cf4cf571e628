"""Child processes of a ring: forked, cut off from what is their parent's, ended without a trace."""

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator

from lightning_fastdata.loader.ring.wire import Channel

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LEFT_TO_THE_PARENT = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def fork_into(run: Callable[[Channel], None], end: socket.socket, *, dies_with_parent: bool) -> int:
    """Fork a child that calls ``run`` with its end of a connection, and ends when that returns.

    Args:
        run: What the child does.
        end: The child's end; closed in this process.
        dies_with_parent: Whether the child is killed as soon as this *thread* ends, so that it is
            only right in a process with one thread.

    Returns:
        The child's process id; the caller has to wait for it.
    """
    _flush()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads. The child calls nothing that they could lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        end.close()
        return pid
    status = 1
    try:
        if dies_with_parent:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        become_helper()
        channel = Channel(end)  # its end is this process's end: only the exit may close it
        run(channel)
        status = 0
    except BaseException:  # it must never get back to the parent's code, whatever happens
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def become_helper() -> None:
    """Let go of what belongs to the training process: signals, standard input, garbage."""
    signal.set_wakeup_fd(-1)
    # Ctrl-C reaches the whole group and a scheduler's SIGTERM or SIGUSR1 often all processes of a
    # job, but it is the training process that decides what ends, and it may want batches till then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in _LEFT_TO_THE_PARENT:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's, for example
            # No SIG_IGN, which the programs that a dataset runs would inherit.
            signal.signal(number, _do_nothing)
    os.register_at_fork(after_in_child=_end_as_usual)  # a dataset's own processes are ended by it
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # last: one that waits must meet its new fate
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
    give_way()
    gc.freeze()  # the collector would write to every inherited object, and so copy its page


def give_way() -> None:
    """Take no core from the training process at the moment when there is work.

    Under the kernel's batch policy (sched(7)) a woken process waits until a core is free or the
    next share of time begins; its share stays what it was. Else each batch that training takes
    wakes workers which push it off its core, and it waits milliseconds for its turn.
    """
    with contextlib.suppress(OSError):  # a sandbox may not allow it: slower, and nothing else
        if os.sched_getscheduler(0) == os.SCHED_OTHER:  # else somebody has chosen already
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def stay_on(cores: tuple[int, ...], number: int) -> None:
    """Run on these cores only, with every thread that is started from now on.

    For a worker, before it has threads and before it writes to a slot: the kernel takes new pages
    from the memory near the core. Where the system refuses, it runs where it did, and the first
    worker says so for all.

    Args:
        cores: The kernel's numbers of the cores.
        number: The worker's.
    """
    try:
        os.sched_setaffinity(0, cores)
    except (OSError, OverflowError, ValueError) as error:
        if number == 0:
            # Not by logging: what handlers do in a forked process is not known.
            sys.stderr.write(
                f"workers run on any core: found that they may not be kept on the cores {cores} "
                f"({error}), wanted those near the GPU. Nothing has to be done; batches may travel "
                "further.\n"
            )


def _do_nothing(number: int, frame: object) -> None:
    pass


def _end_as_usual() -> None:
    for number in _LEFT_TO_THE_PARENT:
        if signal.getsignal(number) is _do_nothing:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold ctrl-C back for a moment, so that what is begun is also noted."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or replaced by something without flush
            stream.flush()
