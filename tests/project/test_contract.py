"""The page that users were given, example by example, on both event loops; its names are in `test_contract_names.py`.

The code of the examples stands as it does on the page; only what the page leaves out (`process`, `batch1`) is filled
in around it.
"""

# The code of the page stands as it is printed:
# mypy: disable-error-code="type-arg"

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from helpers import eventually, within

from ringkernel import (
    KernelContext,
    KernelState,
    KernelStateError,
    RingKernel,
    RingKernelRuntime,
    managed_kernel,
    ring_kernel,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.both_loops


# --- the examples ------------------------------------------------------------------------------------------------


def process(msg: int) -> int:
    return msg + 1


@pytest.fixture
def standard_actor_loop() -> Callable[..., Any]:
    """`worker` as it is printed under "Standard Actor Loop"."""

    @ring_kernel(kernel_id="worker")
    async def worker(ctx: KernelContext):  # type: ignore[no-untyped-def]
        print(f"[{ctx.kernel_id}] Started")  # noqa: T201

        while not ctx.should_terminate:
            # Check if we should pause
            if not ctx.is_active:
                print(f"[{ctx.kernel_id}] Waiting for activation...")  # noqa: T201
                await ctx.wait_active()
                continue

            try:
                # Receive with timeout for responsive shutdown
                msg = await ctx.receive(timeout=0.1)

                # Process message
                result = process(msg)

                # Send response
                await ctx.send(result)

            except TimeoutError:
                # No message - check termination and continue
                continue

        print(f"[{ctx.kernel_id}] Terminated")  # noqa: T201

    return worker


@pytest.fixture
def compiled_worker() -> Callable[..., Any]:
    """A compiled kernel of the same id that does the same."""

    @ring_kernel(kernel_id="worker", input_type=int, output_type=int)
    def worker(msg: Any, out: Any) -> None:
        out.value = msg.value + 1

    return worker


@pytest.fixture(params=["coroutine", "cpu", "grid"])
def kind(request: pytest.FixtureRequest) -> str:
    """The printed loop, and a compiled kernel in its place."""
    return str(request.param)


@pytest.fixture
def worker(request: pytest.FixtureRequest, kind: str) -> Callable[..., Any]:
    name = "standard_actor_loop" if kind == "coroutine" else "compiled_worker"
    function: Callable[..., Any] = request.getfixturevalue(name)
    return function


@pytest.fixture
def receive_timeouts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the kernels whose `ctx.receive` has timed out, one entry each time."""
    seen: list[str] = []
    receive = KernelContext.receive

    async def counted(self: Any, *, timeout: float | None = None) -> Any:
        try:
            return await receive(self, timeout=timeout)
        except TimeoutError:
            seen.append(self.kernel_id)
            raise

    monkeypatch.setattr(KernelContext, "receive", counted)
    return seen


async def test_standard_actor_loop_idles_longer_than_its_timeout_and_reaches_its_last_line(
    standard_actor_loop: Callable[..., Any],
    receive_timeouts: list[str],
    capsys: pytest.CaptureFixture[str],
    loop_errors: list[Any],
) -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch("worker")
        await runtime.activate("worker")
        await runtime.send("worker", 1)
        assert await within(runtime.receive("worker")) == 2
        await eventually(lambda: len(receive_timeouts) >= 2)
        await runtime.send("worker", 2)
        assert await within(runtime.receive("worker")) == 3
        await runtime.terminate("worker")
        assert runtime.kernels["worker"].error is None
    assert capsys.readouterr().out == "[worker] Started\n[worker] Terminated\n"


async def test_standard_actor_loop_waits_for_activation_while_it_is_paused(
    standard_actor_loop: Callable[..., Any],
    receive_timeouts: list[str],
    capsys: pytest.CaptureFixture[str],
    loop_errors: list[Any],
) -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch("worker")
        await runtime.activate("worker")
        await eventually(lambda: receive_timeouts)
        await runtime.deactivate("worker")
        printed = ""

        def waits() -> bool:
            nonlocal printed
            printed += capsys.readouterr().out
            return "Waiting" in printed

        await eventually(waits)
        await runtime.send("worker", 1)
        await runtime.reactivate("worker")
        assert await within(runtime.receive("worker")) == 2
        await runtime.deactivate("worker")
        await eventually(lambda: waits() and printed.count("Waiting") == 2)
        await within(runtime.terminate("worker"), 1.0)
        assert runtime.kernels["worker"].error is None
    printed += capsys.readouterr().out
    assert printed.splitlines() == [
        "[worker] Started",
        "[worker] Waiting for activation...",
        "[worker] Waiting for activation...",
        "[worker] Terminated",
    ]


async def test_standard_actor_loop_never_starts_when_it_is_never_activated(
    standard_actor_loop: Callable[..., Any], capsys: pytest.CaptureFixture[str], loop_errors: list[Any]
) -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch("worker")
        await runtime.terminate("worker")
    assert capsys.readouterr().out == ""


async def test_checking_state_in_application(worker: Callable[..., Any], loop_errors: list[Any]) -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch("worker")

        state = runtime.get_state("worker")
        assert state == KernelState.LAUNCHED

        await runtime.activate("worker")

        state = runtime.get_state("worker")
        assert state == KernelState.ACTIVE


async def test_graceful_shutdown(worker: Callable[..., Any], loop_errors: list[Any]) -> None:
    loop = asyncio.get_running_loop()
    async with RingKernelRuntime() as runtime:
        await runtime.launch("worker")
        await runtime.activate("worker")

        await runtime.send("worker", 1)
        assert await within(runtime.receive("worker")) == 2
        begun = loop.time()

        # Graceful termination with timeout
        await runtime.terminate("worker", timeout=5.0)

        state = runtime.get_state("worker")
        assert state == KernelState.TERMINATED
        assert loop.time() - begun < 4.0


async def test_pause_and_resume(worker: Callable[..., Any], loop_errors: list[Any]) -> None:
    batch1, batch2 = [1, 2, 3], [4, 5, 6]
    async with RingKernelRuntime() as runtime:
        await runtime.launch("worker")
        await runtime.activate("worker")

        # Process some messages
        for msg in batch1:
            await runtime.send("worker", msg)

        # Pause processing
        await runtime.deactivate("worker")
        assert runtime.get_state("worker") == KernelState.DEACTIVATED
        counts = runtime.statistics("worker")
        taken = counts.processed + counts.in_flight

        # Messages queue but don't process
        for msg in batch2:
            await runtime.send("worker", msg)
        for _ in range(taken):
            await runtime.receive("worker", timeout=5)
        with pytest.raises(asyncio.TimeoutError):
            await runtime.receive("worker", timeout=0.2)

        # Resume
        await runtime.reactivate("worker")
        assert runtime.get_state("worker") == KernelState.ACTIVE

        # Now batch2 messages are processed
        await eventually(lambda: runtime.statistics("worker").processed == 6)


async def test_managed_kernel(
    standard_actor_loop: Callable[..., Any], capsys: pytest.CaptureFixture[str], loop_errors: list[Any]
) -> None:
    message = 1
    worker_func = standard_actor_loop
    async with RingKernelRuntime() as runtime:
        async with managed_kernel(runtime, "worker", worker_func) as kernel_id:
            # Kernel is launched and active
            assert runtime.get_state(kernel_id) is KernelState.ACTIVE
            await runtime.send(kernel_id, message)
            response = await runtime.receive(kernel_id)
            assert response == 2
        # Kernel automatically terminated
        assert runtime.get_state("worker") is KernelState.TERMINATED
    assert capsys.readouterr().out == "[worker] Started\n[worker] Terminated\n"


async def test_managed_kernel_takes_a_function_that_was_never_decorated(loop_errors: list[Any]) -> None:
    async def worker_func(ctx: KernelContext[int, int]) -> None:
        async for message in ctx:
            await ctx.send(-message)

    async with RingKernelRuntime() as runtime, managed_kernel(runtime, "worker", worker_func) as kernel_id:
        assert kernel_id == "worker"
        await runtime.send(kernel_id, 1)
        assert await runtime.receive(kernel_id) == -1


async def test_managed_kernel_takes_a_compiled_kernel(
    compiled_worker: Callable[..., Any], loop_errors: list[Any]
) -> None:
    async with RingKernelRuntime() as runtime:
        async with managed_kernel(runtime, "worker") as kernel_id:
            await runtime.send(kernel_id, 1)
            assert await runtime.receive(kernel_id) == 2
        assert runtime.get_state("worker") is KernelState.TERMINATED


# --- the notes ---------------------------------------------------------------------------------------------------


async def test_invalid_transitions_raise_kernel_state_error(
    worker: Callable[..., Any], runtime: RingKernelRuntime
) -> None:
    await runtime.launch("worker")
    with pytest.raises(KernelStateError):
        await runtime.deactivate("worker")


async def test_terminated_kernels_cannot_be_restarted(worker: Callable[..., Any], runtime: RingKernelRuntime) -> None:
    await runtime.launch("worker")
    await runtime.activate("worker")
    await runtime.terminate("worker")
    for restart in (runtime.activate, runtime.reactivate, runtime.launch):
        with pytest.raises(KernelStateError):
            await restart("worker")
    assert runtime.get_state("worker") is KernelState.TERMINATED


async def test_the_runtime_terminates_all_kernels_on_exit(worker: Callable[..., Any], loop_errors: list[Any]) -> None:
    async with RingKernelRuntime() as runtime:
        launched = await runtime.launch("launched", worker)
        active = await runtime.launch("active", worker)
        await runtime.activate("active")
        paused = await runtime.launch("paused", worker)
        await runtime.activate("paused")
        await runtime.deactivate("paused")
    assert {kernel.state for kernel in (launched, active, paused)} == {KernelState.TERMINATED}


async def test_the_runtime_terminates_all_kernels_when_its_block_raises(
    worker: Callable[..., Any], loop_errors: list[Any]
) -> None:
    kernels: list[RingKernel] = []

    async def fails() -> None:
        async with RingKernelRuntime() as runtime:
            kernels.append(await runtime.launch("worker"))
            await runtime.activate("worker")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert kernels[0].state is KernelState.TERMINATED


async def test_state_is_tracked_per_kernel(worker: Callable[..., Any], runtime: RingKernelRuntime) -> None:
    await runtime.launch("first", worker)
    await runtime.launch("second", worker)
    await runtime.activate("first")
    assert runtime.get_state("first") is KernelState.ACTIVE
    assert runtime.get_state("second") is KernelState.LAUNCHED
    await runtime.terminate("first")
    assert runtime.get_state("second") is KernelState.LAUNCHED


async def test_a_timeout_is_an_asyncio_timeout_error(worker: Callable[..., Any], runtime: RingKernelRuntime) -> None:
    await runtime.launch("worker")
    await runtime.activate("worker")
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive("worker", timeout=0.01)


async def test_launch_returns_the_kernel_with_its_queues_and_task(
    standard_actor_loop: Callable[..., Any], runtime: RingKernelRuntime
) -> None:
    kernel = await runtime.launch("worker")
    assert isinstance(kernel, RingKernel)
    assert kernel.func is standard_actor_loop
    assert kernel.state is KernelState.LAUNCHED
    assert kernel.task is None
    await kernel.input_queue.put(1)
    await runtime.activate("worker")
    assert isinstance(kernel.task, asyncio.Task)
    assert await within(kernel.output_queue.get()) == 2
