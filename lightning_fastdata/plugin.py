"""The entry point: a stall report for any Lightning script, without a change to the script.

Lightning calls ``callbacks_factory`` whenever a Trainer is made, in every process that has this
package installed. So it stays cheap: until the variable is set, neither torch nor Lightning is
imported from here.
"""

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fastdata.callback import DataStallProfiler

PROFILE_VARIABLE = "LIGHTNING_FASTDATA_PROFILE"

_logger = logging.getLogger(__name__)


def callbacks_factory() -> "list[DataStallProfiler]":
    """Give each Trainer a stall profiler, if and only if ``LIGHTNING_FASTDATA_PROFILE=1``.

    Returns:
        One new ``DataStallProfiler``, or no callback: where the variable is not ``1``, and where
        the profiler could not be made, which is said in one log line and never ends the run.
    """
    if os.environ.get(PROFILE_VARIABLE) != "1":
        return []
    try:
        from lightning_fastdata.callback import DataStallProfiler

        return [DataStallProfiler()]
    except Exception as error:  # whatever it is, somebody's training must not end by it
        reason = " ".join(str(error).split())
        _logger.warning(
            "found %s=1, but no stall profiler could be made (%s: %s). "
            "The run goes on unmeasured; unset the variable to silence this.",
            PROFILE_VARIABLE,
            type(error).__name__,
            reason,
        )
        return []
