"""Which part of a host's wait a device felt, without ever waiting for it."""

import pytest
import torch
from adapting_tools import MS, FakeControls, Loop
from hypothesis import given
from hypothesis import strategies as st
from trace_loop import FakeClock, FakeDevice

from lightning_fastdata.loader.engine import HostBatch
from lightning_fastdata.loader.exposure import (
    SHORT_NS,
    DeviceExposure,
    HostExposure,
    device_of,
    exposure_of,
)
from lightning_fastdata.trace.events import CudaEvents

waits_ns = st.sampled_from([0, 1, SHORT_NS - 1, SHORT_NS, SHORT_NS + 1, 3 * SHORT_NS])
works_ns = st.sampled_from([0, 1, SHORT_NS, 2 * SHORT_NS, 9 * SHORT_NS])


@given(wait_ns=waits_ns)
def test_on_the_host_all_of_a_wait_is_stall(wait_ns: int) -> None:
    exposure = HostExposure()
    exposure.begin()

    assert exposure.end(wait_ns) == wait_ns


@given(steps=st.lists(st.tuples(works_ns, waits_ns), max_size=20))
def test_a_device_stands_still_for_what_its_queued_work_does_not_cover(
    steps: list[tuple[int, int]],
) -> None:
    clock = FakeClock()
    device = FakeDevice(clock)
    exposure, expected_ns, found_ns = DeviceExposure(device), 0, 0

    for work_ns, wait_ns in steps:
        device.queue(work_ns)
        idle_from_ns = max(device.busy_until_ns, clock.now_ns)
        exposure.begin()
        clock.now_ns += wait_ns
        if wait_ns >= SHORT_NS:
            expected_ns += max(0, clock.now_ns - idle_from_ns)
        found_ns += exposure.end(wait_ns)
    clock.now_ns = max(clock.now_ns, device.busy_until_ns)
    exposure.begin()
    found_ns += exposure.end(0)

    assert (found_ns, device.waits) == (expected_ns, 0)


@given(waits=st.lists(waits_ns, max_size=20))
def test_every_mark_is_given_back(waits: list[int]) -> None:
    clock = FakeClock()
    device = FakeDevice(clock)
    exposure = DeviceExposure(device)

    for wait_ns in waits:
        exposure.begin()
        clock.now_ns += wait_ns
        exposure.end(wait_ns)

    long = sum(wait_ns >= SHORT_NS for wait_ns in waits)
    assert device.released == len(waits) - long + 2 * long


def test_what_the_device_has_not_come_to_is_told_later() -> None:
    clock = FakeClock()
    device = FakeDevice(clock)
    exposure = DeviceExposure(device)
    exposure.begin()
    clock.now_ns += 5 * MS
    device.queue(7 * MS)
    told = [exposure.end(5 * MS)]

    for _ in range(2):
        clock.now_ns += 7 * MS
        exposure.begin()
        told.append(exposure.end(0))

    assert told == [0, 5 * MS, 0]


def test_nothing_is_asked_while_a_graph_is_captured() -> None:
    device = FakeDevice(FakeClock())
    device.captures = True
    exposure = DeviceExposure(device)

    exposure.begin()

    assert exposure.end(5 * MS) == 0
    assert device.released == 0


def test_a_wait_that_failed_leaks_no_mark() -> None:
    device = FakeDevice(FakeClock())
    exposure = DeviceExposure(device)

    exposure.begin()
    exposure.begin()
    exposure.end(0)

    assert device.released == 2


def test_a_window_counts_as_busy_what_the_device_had_work_for() -> None:
    clock = FakeClock()
    device, controls = FakeDevice(clock), FakeControls()
    loop = Loop(controls, exposure=DeviceExposure(device))
    loop.clock = loop.engine.clock = clock  # type: ignore[assignment]
    loop.begin_pass()

    for _ in range(40):
        loop.steps(1, step_ns=0, wait_ns=30 * MS)
        device.queue(35 * MS)
        clock.now_ns += 10 * MS

    (window,) = controls.windows
    # A step of 40 ms, in 35 of which the device works; the newest mark is not passed yet.
    assert window.stall_ns == pytest.approx(window.batches * 5 * MS, abs=10 * MS)
    assert window.busy_ns + window.stall_ns == window.batches * 40 * MS


def test_a_device_tells_nothing_of_the_first_wait_of_a_pass() -> None:
    """It would do so with the batches after it, which all lie ready."""
    clock = FakeClock()
    device, controls = FakeDevice(clock), FakeControls()
    loop = Loop(controls, exposure=DeviceExposure(device))
    loop.clock = loop.engine.clock = clock  # type: ignore[assignment]
    made = loop.engine.next

    def made_and_copied() -> HostBatch:
        batch = made()
        device.queue(1 * MS)
        return batch

    loop.engine.next = made_and_copied  # type: ignore[method-assign]
    loop.begin_pass()

    loop.steps(1, step_ns=30 * MS, wait_ns=900 * MS)
    loop.steps(40, step_ns=30 * MS, ready=True)

    (window,) = controls.windows
    assert window.stall_ns == 0


class WithDevice:
    def __init__(self, device: torch.device) -> None:
        self.device = device


def test_where_batches_go_is_asked_of_whoever_brings_them() -> None:
    assert device_of(None, pin_memory=False) is None
    assert device_of(WithDevice(torch.device("cpu")), pin_memory=False) == torch.device("cpu")
    assert isinstance(exposure_of(None), HostExposure)
    assert isinstance(exposure_of(torch.device("cpu")), HostExposure)


def test_without_cuda_in_use_the_host_is_all_there_is() -> None:
    """Asking must not bring CUDA up, which would be lost in a forked rank."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch left it untyped
        pytest.skip("another test has brought CUDA up")

    assert isinstance(exposure_of(torch.device("cuda", 0)), HostExposure)
    assert device_of(None, pin_memory=True) is None
    assert not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


@pytest.mark.gpu
def test_a_busy_device_hides_a_wait_and_an_idle_one_does_not() -> None:
    device = torch.device("cuda", 0)
    torch.zeros(1, device=device)
    exposure = exposure_of(device_of(None, pin_memory=True))
    assert isinstance(exposure, DeviceExposure)
    hidden = DeviceExposure(CudaEvents(device))
    cycles = 200_000_000  # about 0.1 s

    torch.cuda._sleep(cycles)
    hidden.begin()
    told_hidden_ns = hidden.end(50 * MS)
    torch.cuda.synchronize()
    hidden.begin()
    told_hidden_ns += hidden.end(0)

    exposure.begin()
    torch.cuda._sleep(cycles)  # as if the host had waited so long
    told_ns = exposure.end(10_000 * MS)
    torch.cuda.synchronize()
    exposure.begin()
    told_ns += exposure.end(0)

    assert told_hidden_ns < 5 * MS
    assert told_ns > 50 * MS
