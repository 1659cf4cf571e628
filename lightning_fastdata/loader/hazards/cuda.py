"""Saying what to do when a sample touches CUDA in a worker."""

from collections.abc import Iterator
from types import CodeType

import torch

_STARTS_CUDA: CodeType = torch.cuda._lazy_init.__code__
# Raised by CUDA itself; older versions of torch lack the first.
_OF_CUDA = tuple(
    getattr(torch, name)
    for name in ("AcceleratorError", "OutOfMemoryError")
    if hasattr(torch, name)
)


def explain_cuda(error: BaseException) -> str | None:
    """Give a sentence to add to an error of a worker, if it comes from CUDA.

    Args:
        error: With the traceback that it has where it was caught.

    Returns:
        ``None`` where neither the error nor one that led to it went through the start of CUDA or
        was raised by CUDA.
    """
    if not any(isinstance(each, _OF_CUDA) or _started_cuda(each) for each in _chain(error)):
        return None
    return (
        "A sample used CUDA in a worker process, wanted CPU tensors there: workers fill host "
        "memory, and a forked one cannot use CUDA at all. Return CPU tensors and let the loop copy "
        "them, and put work for the GPU into device_transform."
    )


def _started_cuda(error: BaseException) -> bool:
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code is _STARTS_CUDA:
            return True
        step = step.tb_next
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]
