"""`peek` lends outputs where they lie: taken when the block ends, not when it raises; nobody else takes meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, eventually, in_line, partial_of, start, start_chain, turns, within
from kinds import Kind, gated, same

from ringkernel import (
    ConfigurationError,
    KernelState,
    KernelStateError,
    QueueEmptyError,
    RingKernelRuntime,
)


async def filled(runtime: RingKernelRuntime, kind: Kind, count: int, queue_size: int = 8) -> Any:
    """A kernel "k" with so many outputs that wait: 0, 1, 2, …"""
    kernel = await start(runtime, "k", kind(same), queue_size=queue_size)
    await runtime.send_batch("k", np.arange(count))
    await eventually(lambda: runtime.statistics("k").output_depth == count)
    return kernel


@pytest.mark.both_loops
async def test_all_outputs_are_seen_in_order_and_taken_once(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(same), queue_size=16)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(1000)))
    seen: list[int] = []
    while len(seen) < 1000:
        async with asyncio.timeout(5), runtime.peek("k", 7) as records:
            assert 1 <= len(records) <= 7
            await turns(len(seen) % 3)
            seen.extend(records.tolist())
    await sending
    assert seen == list(range(1000))
    assert check_books(runtime, "k").received == 1000


async def test_the_array_is_read_only_and_a_view_of_the_ring(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    async with runtime.peek("k") as records:
        assert records.tolist() == [0, 1, 2]
        assert records.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            records[0] = 1
        first = records
    await runtime.send_batch("k", np.arange(3, 8))
    await eventually(lambda: runtime.statistics("k").output_depth == 5)
    async with runtime.peek("k") as records:
        assert records.tolist() == [3, 4, 5, 6, 7]
        assert records.ctypes.data == first.ctypes.data + first.nbytes


async def test_what_lies_in_two_pieces_is_seen_in_two_looks(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 5)
    await runtime.receive_batch("k")
    await runtime.send_batch("k", np.arange(5, 11))
    await eventually(lambda: runtime.statistics("k").output_depth == 6)
    async with runtime.peek("k") as records:
        assert records.tolist() == [5, 6, 7]
    async with runtime.peek("k") as records:
        assert records.tolist() == [8, 9, 10]
    assert runtime.statistics("k").output_depth == 0


async def test_a_block_that_raises_takes_nothing(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    with pytest.raises(ZeroDivisionError):
        async with runtime.peek("k"):
            raise ZeroDivisionError
    assert runtime.statistics("k").output_depth == 3
    assert (await within(runtime.receive_batch("k"))).tolist() == [0, 1, 2]


async def test_a_cancelled_block_takes_nothing(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    inside = asyncio.Event()

    async def looks() -> None:
        async with runtime.peek("k"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(looks())
    await within(inside.wait())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (await within(runtime.receive_batch("k"))).tolist() == [0, 1, 2]


async def test_it_waits_for_the_first_message_or_times_out(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    kernel = await start(runtime, "k", typed_kind(same))
    for timeout in (0, 0.02):
        with pytest.raises(asyncio.TimeoutError, match="nothing came from kernel 'k'"):
            async with runtime.peek("k", timeout=timeout):
                raise AssertionError("there is nothing to look at")

    async def look() -> list[int]:
        async with runtime.peek("k") as records:
            return list(records.tolist())

    tasks = [await in_line(kernel.output_queue, look()) for _ in range(3)]
    tasks[1].cancel()  # in line: it takes nothing, and passes the wake-up on
    await runtime.send("k", 1)
    assert await within(tasks[0]) == [1]
    await runtime.send("k", 2)
    assert await within(tasks[2]) == [2]


async def test_other_receivers_wait_in_line_meanwhile(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    kernel = await filled(runtime, typed_kind, 3)
    async with runtime.peek("k", 2):
        receiving = await in_line(kernel.output_queue, runtime.receive("k"))
        batch = await in_line(kernel.output_queue, runtime.receive_batch("k"))
        with pytest.raises(QueueEmptyError, match=r"a peek\(\) has the queue to itself"):
            runtime.receive_nowait("k")
        with pytest.raises(asyncio.TimeoutError, match=r"a peek\(\) had kernel 'k' to itself"):
            await runtime.receive("k", timeout=0.02)
        await runtime.send("k", 3)
        await turns()
        assert not receiving.done()
    assert await within(receiving) == 2
    assert (await within(batch)).tolist() == [3]


async def test_the_kernel_waits_for_the_room_that_is_looked_at(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 4, queue_size=4)
    await runtime.send_batch("k", np.arange(4, 6))
    async with runtime.peek("k") as records:
        await turns()
        assert records.tolist() == [0, 1, 2, 3]
        assert runtime.statistics("k").output_depth == 4
    assert [await within(runtime.receive("k")) for _ in range(2)] == [4, 5]


async def test_the_kernel_may_be_paused_meanwhile(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    async with runtime.peek("k") as records:
        await within(runtime.deactivate("k"))
        await runtime.send("k", 3)
        await within(runtime.reactivate("k"))
        await eventually(lambda: runtime.statistics("k").output_depth == 4)
        assert records.tolist() == [0, 1, 2]
    assert await within(runtime.receive("k")) == 3
    assert check_books(runtime, "k").received == 4


async def test_the_kernel_may_end_meanwhile(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    async with runtime.peek("k", 2) as records:
        await within(runtime.terminate("k"))
        assert records.tolist() == [0, 1]
    assert await within(runtime.receive("k")) == 2
    with pytest.raises(KernelStateError, match="nothing is left"):
        async with runtime.peek("k"):
            raise AssertionError("there is nothing to look at")


async def test_the_kernel_may_be_removed_meanwhile(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    async with runtime.peek("k") as records:
        await within(runtime.terminate("k"))
        runtime.remove("k")
        await start(runtime, "k", typed_kind(same), queue_size=8)
        await runtime.send_batch("k", np.arange(100, 104))
        await eventually(lambda: runtime.statistics("k").output_depth == 4)
        assert records.tolist() == [0, 1, 2]
    assert (await within(runtime.receive_batch("k"))).tolist() == [100, 101, 102, 103]


async def test_the_runtime_may_be_closed_meanwhile(loop_errors: list[Any], typed_kind: Kind) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await filled(runtime, typed_kind, 3)
        async with runtime.peek("k") as records:
            await within(runtime.close())
            assert runtime.get_state("k") is KernelState.TERMINATED
            assert records.tolist() == [0, 1, 2]


async def test_maps_and_connections_are_refused_meanwhile(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    await runtime.launch("target", typed_kind(same))
    async with runtime.peek("k"):
        with pytest.raises(KernelStateError, match=r"map: a peek\(\) looks at outputs of kernel 'k'"):
            await runtime.map("k", [1])
        await runtime.deactivate("k")
        with pytest.raises(KernelStateError, match=r"connect: a peek\(\) looks at outputs of 'k'"):
            runtime.connect("k", "target")
    runtime.connect("k", "target")
    with pytest.raises(KernelStateError, match="go to 'target'"):
        async with runtime.peek("k"):
            raise AssertionError("there is nothing to look at")


async def test_what_a_cancelled_map_left_is_looked_at_first(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    mapping = asyncio.create_task(runtime.map("k", np.array([1, 2, -1, 3])))
    await eventually(lambda: gate.entered)
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await mapping
    gate.open()
    await eventually(lambda: runtime.kernels["k"].engine.inlet.kept)
    gotten = partial_of(cancelled.value)
    await runtime.send("k", 9)
    while 9 not in gotten:
        async with asyncio.timeout(5), runtime.peek("k", 1) as records:
            gotten.extend(records.tolist())
    assert gotten == [*[1, 2, -1, 3][: len(gotten) - 1], 9]


async def test_the_end_of_a_chain_is_looked_at(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start_chain(runtime, a=typed_kind(same), b=typed_kind(same))
    await runtime.send_batch("a", np.arange(5))
    await eventually(lambda: runtime.statistics("b").output_depth == 5)
    async with runtime.peek("b") as records:
        assert records.tolist() == [0, 1, 2, 3, 4]


async def test_a_peek_is_for_one_block(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await filled(runtime, typed_kind, 3)
    with pytest.raises(ConfigurationError, match="max_messages"):
        runtime.peek("k", 0)
    with pytest.raises(ConfigurationError, match="timeout"):
        runtime.peek("k", timeout=-1)
    looking = runtime.peek("k")
    async with looking:
        with pytest.raises(KernelStateError, match=r"call peek\(\) again"):
            async with looking:
                raise AssertionError("it has begun")
    assert runtime.statistics("k").output_depth == 0
