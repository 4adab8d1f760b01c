"""Each call names the id that it does not know, or the state of a kernel that is only declared; ids and functions go
together freely."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from calls import CALLS, Call
from helpers import start, within
from kinds import Kind, add_one, same

from ringkernel import (
    KernelContext,
    KernelExistsError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    managed_kernel,
    ring_kernel,
)

NEED_A_LAUNCH = {name: call for name, call in CALLS.items() if name not in ("launch", "get_state")}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_an_unknown_id_is_named(runtime: RingKernelRuntime, call: Call) -> None:
    with pytest.raises(KernelNotFoundError, match="'nobody'") as caught:
        await call(runtime, "nobody")  # plain methods raise before there is anything to await
    assert isinstance(caught.value, KeyError)
    assert "\\" not in str(caught.value)


@pytest.mark.parametrize("call", NEED_A_LAUNCH.values(), ids=NEED_A_LAUNCH)
async def test_a_kernel_that_is_only_declared_is_refused_by_its_state(runtime: RingKernelRuntime, call: Call) -> None:
    @ring_kernel("declared")
    async def declared(ctx: KernelContext[Any, Any]) -> None: ...

    with pytest.raises(KernelStateError, match=r"'declared'.*CREATED.*launch\(\)"):
        await call(runtime, "declared")
    assert runtime.get_state("declared") is KernelState.CREATED


async def test_a_managed_kernel_of_an_unknown_id_never_runs_its_block(runtime: RingKernelRuntime) -> None:
    with pytest.raises(KernelNotFoundError, match="'nobody'"):
        async with managed_kernel(runtime, "nobody"):
            pytest.fail("the block must not run")


async def test_one_function_runs_under_several_ids(runtime: RingKernelRuntime, kind: Kind) -> None:
    function = kind(add_one)
    for name in ("a", "b"):
        kernel = await start(runtime, name, function)
        assert (kernel.kernel_id, kernel.func) == (name, function)
    await runtime.send("a", 1)
    await runtime.send("b", 2)
    assert await within(runtime.receive("b")) == 3
    assert await within(runtime.receive("a")) == 2
    assert set(runtime.kernels) == {"a", "b"}
    with pytest.raises(TypeError):
        runtime.kernels["c"] = None  # type: ignore[index]


async def test_a_coroutine_knows_the_id_that_it_runs_under(runtime: RingKernelRuntime) -> None:
    async def tells(ctx: KernelContext[Any, Any]) -> None:
        async for message in ctx:
            await ctx.send((ctx.kernel_id, message))

    for name in ("a", "b"):
        await start(runtime, name, tells)
        await runtime.send(name, 1)
        assert await within(runtime.receive(name)) == (name, 1)


async def test_a_declaration_is_replaced_by_a_later_one(runtime: RingKernelRuntime, kind: Kind) -> None:
    for kernel, output in ((same, 10), (add_one, 11)):
        kind.declare("again", kernel)
        await runtime.launch("again")
        await runtime.activate("again")
        await runtime.send("again", 10)
        assert await within(runtime.receive("again")) == output
        await runtime.terminate("again")
        runtime.remove("again")


async def test_a_redeclaration_takes_over_where_it_is_compiled(runtime: RingKernelRuntime, kind: Kind) -> None:
    kind.declare("again", same)
    await runtime.launch("again")
    kind.declare("again", add_one)
    await runtime.activate("again")
    await runtime.send("again", 10)
    assert await within(runtime.receive("again")) == (11 if kind.is_compiled else 10)


async def test_two_launches_of_one_id_at_once_give_one_kernel(runtime: RingKernelRuntime, kind: Kind) -> None:
    kind.declare("k", same)
    results = await asyncio.gather(*(runtime.launch("k") for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(result, KernelExistsError) for result in results) == 2
    assert runtime.get_state("k") is KernelState.LAUNCHED
    await runtime.activate("k")
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1


async def test_a_cancelled_launch_has_launched_nothing(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    compiled_kind.declare("k", add_one)
    launch = asyncio.create_task(runtime.launch("k"))
    await asyncio.sleep(0)
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    assert runtime.get_state("k") is KernelState.CREATED
    assert "k" not in runtime.kernels
    await runtime.launch("k")
    await runtime.activate("k")
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 2
