"""A call for a kernel that is not there, or from the wrong place, is refused by name, and changes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from calls import CALLS
from fault_kernels import (
    check_alive,
    echo,
    gated,
)
from helpers import PATIENCE_S, check_books, drain, start, turns, within

from ringkernel import (
    ConfigurationError,
    KernelExistsError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.devices.compiled import compiling


async def test_an_id_that_is_alive_cannot_be_launched_again(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo)
    with pytest.raises(KernelExistsError, match=r"'k'.*LAUNCHED"):
        await runtime.launch("k", echo)
    await runtime.activate("k")
    with pytest.raises(KernelExistsError, match=r"'k'.*ACTIVE"):
        await runtime.launch("k", gated)
    await check_alive(runtime, "k")
    results = await asyncio.gather(*(runtime.launch("both", echo) for _ in range(3)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["KernelExistsError"] * 2 + ["RingKernel"]
    await runtime.activate("both")
    await check_alive(runtime, "both")


METHODS = (
    "activate",
    "deactivate",
    "reactivate",
    "terminate",
    "wait",
    "send",
    "send_batch",
    "receive",
    "receive_batch",
    "map",
    "read_state",
    "write_state",
    "read_params",
    "write_params",
    "close_input",
    "stream",
)
PLAIN_METHODS = ("send_nowait", "receive_nowait", "remove", "unprocessed", "statistics", "get_state", "connect")


async def call(runtime: RingKernelRuntime, name: str, kernel_id: Any) -> Any:
    called = CALLS[name](runtime, kernel_id)
    return await within(called) if name in METHODS else called


@pytest.mark.parametrize("name", [*METHODS, *PLAIN_METHODS])
async def test_an_id_that_cannot_be_one_is_unknown(runtime: RingKernelRuntime, name: str) -> None:
    with pytest.raises(KernelNotFoundError, match="None"):
        await call(runtime, name, None)
    error = ConfigurationError if name == "map" else KernelNotFoundError  # `map` also takes a pair, and says so
    with pytest.raises(error, match=r"\['k'\]"):
        await call(runtime, name, ["k"])


async def test_launching_what_is_not_declared_names_what_is(runtime: RingKernelRuntime) -> None:
    with pytest.raises(KernelNotFoundError, match=r"'nobody'.*fault_echo"):
        await runtime.launch("nobody")


# --- the wrong place to call from --------------------------------------------------------------------------------


async def test_use_after_close_is_refused_and_reading_goes_on(loop_errors: list[dict[str, Any]]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, "k", echo)
        await runtime.send_batch("k", np.arange(5))
    with pytest.raises(KernelStateError, match="closed"):
        await runtime.launch("other", echo)
    with pytest.raises(KernelStateError, match=r"'k'.*TERMINATED"):
        await runtime.send("k", 1)
    with pytest.raises(KernelStateError, match=r"'k'.*TERMINATED"):
        await runtime.activate("k")
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert drain(runtime, "k") == [0, 1, 2, 3, 4]
    with pytest.raises(KernelStateError, match="'k'"):
        await within(runtime.receive("k"))
    assert check_books(runtime, "k").processed == 5
    await runtime.close()


@pytest.fixture
def compiling_may_go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Compilers wait for this: a handler that the compile cache knows would be there at once."""
    may_go_on = threading.Event()
    find = compiling._find

    def find_later(declaration: Any, spec: Any) -> Any:
        may_go_on.wait(PATIENCE_S)
        return find(declaration, spec)

    monkeypatch.setattr(compiling, "_find", find_later)
    yield may_go_on
    may_go_on.set()


async def test_closing_while_a_kernel_is_being_launched(
    loop_errors: list[dict[str, Any]], compiling_may_go_on: threading.Event
) -> None:
    runtime = RingKernelRuntime(workers=1)

    @ring_kernel(kernel_id="ft_late", input_type=int)
    def late(msg: Any) -> None:
        pass

    launching = asyncio.create_task(runtime.launch("ft_late"))
    await turns()
    await within(runtime.close())
    compiling_may_go_on.set()
    with pytest.raises(KernelStateError, match="closed"):
        await within(launching, 20)
    assert "ft_late" not in runtime.kernels


async def test_a_launch_that_is_cancelled_while_it_compiles_has_launched_nothing(
    runtime: RingKernelRuntime, compiling_may_go_on: threading.Event
) -> None:
    @ring_kernel(kernel_id="ft_cancelled", input_type=int, output_type=int)
    def fresh(msg: Any, out: Any) -> None:
        out.value = msg.value

    launching = asyncio.create_task(runtime.launch("ft_cancelled"))
    await turns()
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    compiling_may_go_on.set()
    assert runtime.get_state("ft_cancelled") is KernelState.CREATED
    await start(runtime, "ft_cancelled", fresh)
    await check_alive(runtime, "ft_cancelled")


def in_a_thread(work: Any) -> Any:
    """What `work()` raises or returns when it is called in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 (it is looked at in the test)
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return outcome[0]


async def test_another_thread_is_refused(runtime: RingKernelRuntime) -> None:
    kernel = await start(runtime, "k", echo)
    for name in PLAIN_METHODS:
        if name in ("statistics", "get_state", "unprocessed"):
            continue
        error = in_a_thread(lambda name=name: CALLS[name](runtime, "k"))
        assert isinstance(error, KernelStateError), (name, error)
        assert "event loop" in str(error)
    for queue in (kernel.input_queue, kernel.output_queue):
        assert isinstance(in_a_thread(queue.get_nowait), KernelStateError)
    assert in_a_thread(lambda: runtime.get_state("k")) is KernelState.ACTIVE
    assert in_a_thread(lambda: runtime.statistics("k")).processed == 0
    await check_alive(runtime, "k")


@pytest.mark.parametrize("name", METHODS)
async def test_another_event_loop_is_refused(runtime: RingKernelRuntime, name: str) -> None:
    await start(runtime, "k", echo)

    async def elsewhere() -> Any:
        return await CALLS[name](runtime, "k")

    error = in_a_thread(lambda: asyncio.run(elsewhere()))
    assert isinstance(error, KernelStateError), error
    assert "another event loop" in str(error)
    await check_alive(runtime, "k")
