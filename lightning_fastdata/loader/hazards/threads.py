"""One thread a worker: what the native libraries start by themselves is kept down."""

import os
import sys

import threadpoolctl  # type: ignore[import-untyped]  # it ships no types

# Read by libraries when they are loaded, so they reach those that a worker imports later. Numba is
# left out: it raises once its number of threads differs from that of the threads it has.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


def limit_native_threads() -> None:
    """Let BLAS, OpenMP and OpenCV compute in the calling thread only, for the rest of the process.

    Once in the nursery is enough: what it forks inherits the limits. A user's ``worker_init_fn``
    may raise them again. Variables of the environment that are set already are kept, and those of
    libraries that are loaded already are too late; these are told themselves.
    """
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, "1")
    threadpoolctl.threadpool_limits(limits=1)
    set_threads = getattr(sys.modules.get("cv2"), "setNumThreads", None)
    if callable(set_threads):
        set_threads(0)  # its word for "none but the caller's"
