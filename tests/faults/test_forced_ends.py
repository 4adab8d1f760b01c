"""What goes wrong inside an end: a kernel is TERMINATED only when nobody runs it, or what it reaches is left to it."""

from __future__ import annotations

import asyncio
import gc

import inside
import pytest
from fault_kernels import coroutine, echo, echo_on_worker, enter_gate, gated, on_each_device
from helpers import check_books, eventually, start, within
from inside import BrokenError, block_record, fail_times, has_poller, parker_of, reachable, word_of_block

from ringkernel import KernelFailedError, KernelState, KernelStateError, RingKernelRuntime
from ringkernel.memory.layout import STATUS_DEACTIVATED


async def check_works(runtime: RingKernelRuntime, kernel_id: str) -> None:
    """Around its rings, and no late write shows."""
    for value in range(1, 51):
        await runtime.send(kernel_id, value)
        assert await within(runtime.receive(kernel_id)) == value


STEPS = [
    (inside.WAIT_WHILE_IT_GETS_ON, 1),
    (inside.PROGRESS, 1),
    (inside.COMMAND, 1),
    (inside.COMMAND, 2),
    (inside.WAIT_OVER, 1),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("step", "times"), STEPS, ids=[f"{step[1]} x{times}" for step, times in STEPS])
@on_each_device
async def test_an_idle_kernel_whose_end_fails_is_taken_from_who_runs_it(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, step: inside.Step, times: int, on: str
) -> None:
    kernel = await start(runtime, "k", echo_on_worker, device=on)
    await check_works(runtime, "k")
    with monkeypatch.context() as patch:
        failed = fail_times(patch, step, times)
        await within(runtime.terminate("k", timeout=0.5))
    assert len(failed) == times
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert not has_poller(kernel)
    check_books(runtime, "k")
    runtime.remove("k")
    del kernel
    gc.collect()
    for name in ("one", "two"):
        await start(runtime, name, echo, device=on)
        await check_works(runtime, name)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("step", "times"),
    [*STEPS, (inside.EVICT, 1), (inside.EVICT, 2), (inside.DEQUEUE, 1), (inside.STOP_WORKER, 1)],
)
@on_each_device
async def test_a_handler_that_still_runs_keeps_all_that_it_can_reach(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, step: inside.Step, times: int, on: str
) -> None:
    gate = await enter_gate(runtime, messages=3, on=on)
    kernel = runtime.kernels["k"]
    addresses = reachable(kernel)
    with monkeypatch.context() as patch:
        fail_times(patch, step, times)
        await within(runtime.terminate("k", timeout=0.1))
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert "abandoned" in str(kernel.error)
    counts = check_books(runtime, "k")
    assert (counts.in_flight, counts.unprocessed) == (1, 2)
    assert runtime.unprocessed("k").tolist() == [1, 2]
    runtime.remove("k")
    del kernel
    gc.collect()
    others = [
        await start(runtime, name, gated if name == "gated" else echo, device=on) for name in ("one", "gated", "two")
    ]
    for other in others:
        assert not addresses & reachable(other)
    await check_works(runtime, "one")
    gate["open"] = 1  # it returns after all
    for name in ("one", "two"):
        await check_works(runtime, name)
        check_books(runtime, name)


async def test_the_error_says_what_went_wrong(runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = await enter_gate(runtime)
    kernel = runtime.kernels["k"]
    fail_times(monkeypatch, inside.WAIT_WHILE_IT_GETS_ON)
    await within(runtime.terminate("k", timeout=0.1))
    assert "'k' on cpu could not be ended properly" in str(kernel.error)
    assert kernel.error is not None
    assert isinstance(kernel.error.__cause__, BrokenError)
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")
    gate["open"] = 1


async def test_a_coroutine_whose_end_fails_has_ended(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = await start(runtime, "k", coroutine)
    await check_works(runtime, "k")
    fail_times(monkeypatch, inside.WAIT_FOR_TASK)
    await within(runtime.terminate("k", timeout=0.5))
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert kernel.task is not None
    assert kernel.task.done()
    check_books(runtime, "k")


async def test_a_kernel_that_was_never_started_ends_all_the_same(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, func, step in (("compiled", echo, inside.FINISH), ("coroutine", coroutine, inside.FINISH_COROUTINE)):
        await runtime.launch(name, func)
        with monkeypatch.context() as patch:
            fail_times(patch, step)
            await within(runtime.terminate(name))
        assert runtime.get_state(name) is KernelState.TERMINATED
        assert isinstance(runtime.kernels[name].error, BrokenError)


async def test_a_superseded_pause_that_nobody_can_take_up_ends_the_kernel(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ACTIVE, and has no worker: it must not stay so."""
    kernel = await start(runtime, "k", echo)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    with monkeypatch.context() as patch:
        # the answer is there, and nobody looks
        dispatch = inside.replace(patch, inside.DISPATCH, lambda _: None)
        await eventually(lambda: word_of_block(kernel, "status") == STATUS_DEACTIVATED)
        fail_times(patch, inside.ENQUEUE)
        pausing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pausing
        dispatch(parker_of(runtime))
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert isinstance(kernel.error, BrokenError)


# --- blocks that are damaged -------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["magic", "version", "size"])
@on_each_device
async def test_a_damaged_block_is_not_taken_over(runtime: RingKernelRuntime, field: str, on: str) -> None:
    await start(runtime, "other", echo, device=on)
    kernel = await runtime.launch("k", echo, device=on)
    record = block_record(kernel)
    good = int(record[field])
    record[field] = good + 1
    with pytest.raises(KernelStateError, match=r"'k'.*damaged.*magic.*version.*size.*launch"):
        await runtime.activate("k")
    assert runtime.get_state("k") is KernelState.LAUNCHED
    record[field] = good
    await runtime.activate("k")
    await check_works(runtime, "k")
    await runtime.deactivate("k")
    record[field] = -1
    with pytest.raises(KernelStateError, match=r"'k'.*damaged"):
        await runtime.reactivate("k")
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    await within(runtime.terminate("k"))
    runtime.remove("k")
    await start(runtime, "k", echo, device=on)
    await check_works(runtime, "k")
    await check_works(runtime, "other")
