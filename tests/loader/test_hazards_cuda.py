"""An error of CUDA in a worker is told from others by where it comes from."""

import pytest
import torch

from lightning_fastdata.loader.hazards.cuda import explain_cuda


def fail_in_cuda() -> None:
    # The lines of torch that start CUDA are the same in every build, and fail as in a fork.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_initialized", lambda: False)
        patch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
        torch.cuda.init()


def test_an_error_from_the_start_of_cuda_is_explained() -> None:
    with pytest.raises(RuntimeError) as caught:
        fail_in_cuda()

    words = explain_cuda(caught.value)
    assert words is not None
    assert words.startswith("A sample used CUDA in a worker process, wanted CPU tensors there")


def test_an_error_that_follows_from_one_of_cuda_is_explained() -> None:
    with pytest.raises(RuntimeError) as caught:
        fail_in_cuda()
    error = ValueError("no sample")
    error.__context__ = caught.value

    assert explain_cuda(error) is not None


def test_an_error_that_only_speaks_of_cuda_is_not() -> None:
    error = RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    assert explain_cuda(error) is None


def test_errors_that_are_each_others_cause_come_to_an_end() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert explain_cuda(first) is None
