"""A kernel is found by its function as by its id: also after edits, and once the function has another id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from inside import found_by

import ringkernel as rk

if TYPE_CHECKING:
    from ringkernel import RingKernelRuntime


def declared(factor: float, kernel_id: str = "named") -> Any:
    @rk.ring_kernel(kernel_id, input_type=float, output_type=float)
    def named(msg, out):  # type: ignore[no-untyped-def]
        out.value = factor * msg.value

    return named


async def sent(runtime: RingKernelRuntime, name: Any) -> float:
    """What comes of 1.0, by each of the calls that find a kernel."""
    await runtime.send(name, 1.0)
    first = await runtime.receive(name)
    runtime.send_nowait(name, 1.0)
    assert (await runtime.receive_batch(name)).tolist() == [first]
    await runtime.send_batch(name, [1.0])
    async with runtime.peek(name) as outputs:
        assert outputs.tolist() == [first]
    return float(first)


async def test_a_function_is_looked_up_once(runtime: RingKernelRuntime) -> None:
    named = declared(2.0)
    async with runtime.run(named):
        assert await sent(runtime, named) == await sent(runtime, "named") == 2.0
        assert found_by(runtime) >= {named, "named"}
    runtime.remove(named)
    assert not found_by(runtime)
    with pytest.raises(rk.KernelStateError, match="CREATED"):
        await runtime.send(named, 1.0)


async def test_a_function_that_gets_another_id_names_another_kernel(runtime: RingKernelRuntime) -> None:
    named, other = declared(2.0), declared(3.0, "other")
    async with runtime.run(named), runtime.run(other):
        assert (await sent(runtime, named), await runtime.map(named, [1.0])) == (2.0, [2.0])
        rk.ring_kernel("other", input_type=float, output_type=float)(named)
        assert (await sent(runtime, named), await runtime.map(named, [1.0])) == (3.0, [3.0])
        rk.ring_kernel("third", input_type=float, output_type=float)(named)  # an id that nobody had
        with pytest.raises(rk.KernelStateError, match="'third'"):
            await runtime.send(named, 1.0)


async def test_an_edited_function_without_decorator_is_seen_at_once(runtime: RingKernelRuntime) -> None:
    scope: dict[str, Any] = {"__name__": __name__}
    source = "def plain(msg: float, out: float):\n    out.value = {} * msg.value\n"
    versions = []
    for factor in (2.0, 3.0):
        exec(source.format(factor), scope)
        versions.append(scope["plain"])
    first, second = versions
    await runtime.launch(first)
    await runtime.activate(first)
    assert [await sent(runtime, first), await sent(runtime, first)] == [2.0, 2.0]
    assert [await sent(runtime, second), await sent(runtime, second)] == [3.0, 3.0]
    assert not {first, "plain"} & found_by(runtime) - {second}


async def test_calls_that_wait_do_not_mind_what_is_declared_meanwhile(runtime: RingKernelRuntime) -> None:
    named = declared(2.0)
    async with runtime.run(named):
        await runtime.deactivate(named)
        first = asyncio.create_task(runtime.call(named, 1.0))
        await asyncio.sleep(0)
        declared(3.0, "other"), declared(4.0, "other")  # as a cell does that is run again
        second = asyncio.create_task(runtime.call(named, 2.0))
        await asyncio.sleep(0)
        await runtime.reactivate(named)
        assert [await first, await second] == [2.0, 4.0]
