"""Whether the ring can serve here, and how its processes are started."""

import multiprocessing
import os
import sys
from typing import Any, cast

from lightning_fastdata.plan import StartMethod


def ring_problem() -> str | None:
    """Say why this system cannot run a ring; ``None`` where it can."""
    if sys.platform != "linux":
        return f"the ring needs Linux, and this is {sys.platform}"
    try:
        os.close(os.memfd_create("lightning_fastdata_trial"))
    except (AttributeError, OSError) as error:
        return f"the system gives no anonymous shared memory (memfd_create: {error})"
    return None


def name_of_context(context: Any) -> StartMethod | None:
    """The start method that DataLoader's ``multiprocessing_context`` asks for, if any."""
    if context is None or isinstance(context, str):
        return cast(StartMethod | None, context)  # torch refuses other names
    return cast(StartMethod, context.get_start_method())


def start_method_of(context: Any) -> StartMethod:
    """The start method of DataLoader's ``multiprocessing_context``; the system's where it is none.

    A ring starts a fresh interpreter both for ``"forkserver"`` and for ``"spawn"``.
    """
    # Not get_start_method() alone: asked first, it fixes the method for the whole program.
    usual = multiprocessing.get_start_method(allow_none=True)
    default = usual or multiprocessing.get_all_start_methods()[0]
    return name_of_context(context) or cast(StartMethod, default)
