"""A launch that fails, at whatever step, leaves nothing: no callback, no doorbell, no memory, no address space."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import inside
import numpy as np
import pytest
from helpers import check_books, within
from inside import arena_of, fail, parker_of, replace, use_devices
from thread_device import ThreadDevice

import ringkernel
from ringkernel import DeviceUnavailableError, KernelState, RingKernelRuntime, ring_kernel
from ringkernel.memory.arenas import CHUNK_BYTES, Arena, Slab
from ringkernel.runtime.lifecycle import launch as launching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PACKAGE = str(Path(ringkernel.__file__).parent)
LARGE = CHUNK_BYTES // 4  # of 8-byte slots: twice a chunk
HUGE = np.dtype([("x", "f8", (4096,))])


@ring_kernel("fl_double", input_type=int, output_type=int, state=np.zeros(3))
def double(msg: Any, out: Any, state: Any) -> None:
    out.value = 2 * msg.value


@ring_kernel("fl_plain", input_type=int, output_type=int)
def plain(msg: Any, out: Any) -> None:
    out.value = 2 * msg.value


@ring_kernel("fl_coroutine", input_type=int, output_type=int)
async def coroutine(ctx: Any) -> None:
    async for value in ctx:
        await ctx.send(2 * value)


@ring_kernel("fl_half", input_type=int, output_type=HUGE, queue_size=2**25)
def half(msg: Any, out: Any) -> None:
    """Its input is 256 MiB, its output 1 TiB, which the system refuses."""
    out.x[0] = msg.value


@ring_kernel("fl_coroutine_half", input_type=int, output_type=HUGE, queue_size=2**25)
async def coroutine_half(ctx: Any) -> None:
    raise AssertionError("it is never started")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made = ThreadDevice(is_built_in=True)
    use_devices(monkeypatch, made)
    yield made
    made.join()


def used_by(arena: Arena) -> tuple[int, int]:
    """Bytes that were handed out and are not back, and bytes of address space."""
    current = [chunk for chunk in arena.grown if chunk is arena._chunk]
    whole = sum(chunk.nbytes for chunk in arena.grown) - sum(chunk.nbytes for chunk in current)
    free = sum(size * len(pieces) for size, pieces in arena._free.items())
    return whole + arena._used - free, sum(chunk.nbytes for chunk in arena.chunks)


def held(runtime: RingKernelRuntime) -> Any:
    """Everything that a kernel takes from what it shares with others."""
    parker = parker_of(runtime)

    def records(slab: Slab) -> int:
        return len(slab._regions) * slab._per_region - len(slab._free)

    return (
        len(parker._callbacks),
        records(parker._doorbells),
        records(parker.run_entries),
        used_by(parker.arena),
        list(runtime.kernels),
    )


async def warm_up(runtime: RingKernelRuntime, function: Any, **options: Any) -> None:
    """So that what all kernels share is there, and does not have to grow."""
    await runtime.launch("warm", function, **options)
    await within(runtime.terminate("warm"))
    runtime.remove("warm")
    gc.collect()
    await runtime.launch("other", plain)
    await runtime.activate("other")


async def check_works(runtime: RingKernelRuntime, name: str) -> None:
    await runtime.send(name, 21)
    assert await within(runtime.receive(name)) == 42
    check_books(runtime, name)


LEFT_OUT = ("__del__", "release", "trial", "quiesced", "keep")
"""What gives back; and once a device may reach the memory, it stays the arena's: see the tests further down."""


class Failing:
    """Raises in the nth call of a function of this package within a launch, once."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.where = ""

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE) or code.co_name in LEFT_OUT:
            return None
        caller = frame
        while caller is not None and caller.f_code.co_filename != launching.__file__:
            caller = caller.f_back
        if caller is None:
            return None
        self.left -= 1
        if self.left < 0:
            self.where = f"{code.co_filename}:{code.co_name}"
            raise MemoryError(self.where)  # which also ends the tracing
        return None


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (double, {"device": "cpu"}),
        pytest.param(double, {"device": "cuda"}, marks=pytest.mark.long),
        pytest.param(plain, {"device": "cuda"}, marks=pytest.mark.long),
        (coroutine, {}),
    ],
    ids=["worker", "grid", "cooperative grid", "coroutine"],
)
@pytest.mark.parametrize("size", [64, pytest.param(LARGE, marks=pytest.mark.long)])
async def test_a_launch_may_fail_in_any_call_and_leaves_nothing(
    runtime: RingKernelRuntime, device: ThreadDevice, function: Any, options: Any, size: int
) -> None:
    await warm_up(runtime, function, **options)
    before, n, before_trace = held(runtime), 0, sys.gettrace()
    on_device = used_by(device.memory)[0]
    while True:
        failing = Failing(n)
        sys.settrace(failing)
        try:
            await runtime.launch("k", function, queue_size=size, **options)
        except MemoryError as error:
            sys.settrace(before_trace)
            assert held(runtime) == before, error  # while the error still holds the frames of the launch
        else:
            sys.settrace(before_trace)
            break
        assert used_by(device.memory)[0] == on_device  # its own allocation may have failed halfway
        n += 1
    assert n > 20
    await runtime.activate("k")
    await check_works(runtime, "k")
    await check_works(runtime, "other")


@pytest.mark.parametrize("function", [half, coroutine_half], ids=["worker", "coroutine"])
async def test_a_launch_that_the_system_has_no_memory_for_leaves_nothing(
    runtime: RingKernelRuntime, device: ThreadDevice, function: Any
) -> None:
    await warm_up(runtime, plain)
    before = held(runtime)
    for _ in range(50):
        with pytest.raises(MemoryError):
            await runtime.launch("k", function)
        assert held(runtime) == before
    await check_works(runtime, "other")


@pytest.mark.long  # as all here that compile a grid
async def test_a_device_that_refuses_to_reach_the_memory_leaves_nothing(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm_up(runtime, double, device="cuda")
    before = held(runtime)

    with monkeypatch.context() as patch:
        fail(patch, inside.ADOPT, DeviceUnavailableError("no memory can be pinned"))
        for _ in range(3):
            with pytest.raises(DeviceUnavailableError, match="pinned"):
                await runtime.launch("k", double, device="cuda", queue_size=LARGE)
            assert held(runtime) == before
    await runtime.launch("k", double, device="cuda")
    await runtime.activate("k")
    await check_works(runtime, "k")


@pytest.mark.long  # as all here that compile a grid
async def test_kernels_that_cannot_go_on_fail_the_launch_and_it_leaves_nothing(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They had stopped for it. By then the memory is the arena's, and goes back when the kernel is collected."""
    await warm_up(runtime, double, device="cuda")
    before = held(runtime)

    @asynccontextmanager
    async def quiesced(*_: Any) -> AsyncIterator[None]:
        yield
        raise MemoryError

    replace(monkeypatch, inside.QUIESCED, quiesced)
    for _ in range(3):
        with pytest.raises(MemoryError):
            await runtime.launch("k", double, device="cuda")
        assert held(runtime)[:3] == before[:3]
    gc.collect()
    assert held(runtime) == before


@pytest.mark.long  # as all here that compile a grid
async def test_memory_that_a_device_may_reach_is_not_unmapped(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the next kernel's instead."""
    await warm_up(runtime, double, device="cuda")
    adopt = device.adopt

    def adopt_and_fail(arena: Arena) -> None:
        adopt(arena)
        raise DeviceUnavailableError("halfway")

    arena, seen = arena_of(runtime), []
    with monkeypatch.context() as patch:
        patch.setattr(device, "adopt", adopt_and_fail)
        for _ in range(3):
            with pytest.raises(DeviceUnavailableError, match="halfway"):
                await runtime.launch("k", double, device="cuda", queue_size=LARGE)
            seen.append(used_by(arena))
            assert device._reached[arena] == len(arena.grown)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1] > 16 * LARGE
    await runtime.launch("k", double, device="cuda", queue_size=LARGE)
    await runtime.activate("k")
    await check_works(runtime, "k")


async def test_what_the_failing_step_raises_comes_through(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, inside.MAKE_RINGS, OSError("whatever"))
    with pytest.raises(OSError, match="whatever"):
        await runtime.launch("k", plain)
    assert "k" not in runtime.kernels
    assert runtime.get_state("fl_plain") is KernelState.CREATED


async def test_a_kernel_that_cannot_be_made_of_its_engine_leaves_nothing(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm_up(runtime, plain)
    before = held(runtime)
    fail(monkeypatch, inside.NEW_KERNEL, MemoryError())
    with pytest.raises(MemoryError):
        await runtime.launch("k", plain)
    assert held(runtime) == before
