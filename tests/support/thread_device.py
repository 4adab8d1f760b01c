"""A device that runs grids as threads of this CPU, one thread per grid: the device loop without a GPU."""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import TYPE_CHECKING, Any

from numba import njit, types

from ringkernel import DeviceUnavailableError
from ringkernel.codegen import operations as ops
from ringkernel.codegen.handler_call import handler_call
from ringkernel.codegen.span import CPU_CALL
from ringkernel.codegen.targets import cpu_memory, cpu_threads
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.devices.compiled import raised
from ringkernel.devices.grid.handlers import END, FIRST, Handlers
from ringkernel.devices.grid.loop import run_grid
from ringkernel.devices.grid.program import INDIRECT, GridTarget, build_grid_program, build_grid_span
from ringkernel.memory.arenas import Arena
from ringkernel.memory.mailbox_layout import CONTROL
from ringkernel.ring.host.clock import tick_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Span


def jit(function: Any) -> Any:
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def operations(jit: Callable[[Any], Any]) -> dict[Any, Any]:
    """The operations of a grid of one thread on this CPU, with functions that `jit` compiles."""
    return {
        ops.load: cpu_memory.load_of("monotonic"),
        ops.load_acquire: cpu_memory.load_of("acquire"),
        ops.store: cpu_memory.store_of("monotonic"),
        ops.store_release: cpu_memory.store_of("release"),
        ops.fence_release: cpu_memory.fence_of("release"),
        ops.fence_acquire: cpu_memory.fence_of("acquire"),
        ops.load_device: cpu_memory.load_of("monotonic"),
        ops.store_device: cpu_memory.store_of("monotonic"),
        ops.fence_device: cpu_memory.fence_of("acq_rel"),
        ops.peek: cpu_memory.peek,
        ops.peek_fixed: cpu_memory.peek,
        ops.poke: cpu_memory.poke,
        ops.spin_hint: cpu_memory.spin_hint,
        ops.ticks: cpu_memory.cycle_counter if cpu_memory.IS_X86 else jit(cpu_threads.monotonic_ns),
        ops.copy_bytes: cpu_memory.copy_bytes,
        ops.zero_bytes: cpu_memory.zero_bytes,
        ops.nap: jit(cpu_threads.yield_or_sleep),
        ops.thread_index: jit(_zero),
        ops.barrier: jit(_nothing),
        ops.call_span: cpu_memory.call_function,
        ops.mailbox_memory: jit(_identity),
    }


def _identity(value: Any) -> Any:
    return value


def _nothing() -> None:
    return


def _zero() -> int:
    return 0


@functools.cache
def target_of(jit: Callable[[Any], Any]) -> GridTarget:
    return GridTarget(
        jit=jit,
        jit_handler=lambda check: njit(error_model="numpy", boundscheck=check),
        handler_call=lambda dispatcher, spec: handler_call(dispatcher, spec, CPU_CALL),
        operations=operations(jit),
        operation=_identity,
    )


@functools.cache
def any_grid() -> Any:
    """One compiled loop for all kernels, to be called without the GIL: it calls their spans by address. It knows words
    only, so it is compiled as the loops of CPU workers are: in 2 s, where numba takes 19."""
    return compile_entry(build_grid_program(target_of(_identity), run_grid, INDIRECT).entry, nogil=True)


def grid_of(handlers: Handlers) -> Any:
    """A compiled loop for one kernel, with the spans built in."""
    target = target_of(jit)
    span = build_grid_span(target, handlers, is_cooperative=handlers.is_cooperative)
    program = build_grid_program(target, run_grid, span)
    dispatcher = njit(types.void(types.int64), error_model="numpy", nogil=True)(program.entry)
    return dispatcher.overloads[dispatcher.signatures[0]].entry_point


class ThreadGrid:
    def __init__(self, entry: Any, control: int, keepalive: Any) -> None:
        self.reason: str | None = None
        self.thread = threading.Thread(target=self._run, args=(entry, control, keepalive), name="grid", daemon=True)
        self.thread.start()

    def _run(self, entry: Any, control: int, keepalive: Any) -> None:
        entry(control)

    def is_done(self) -> bool:
        return not self.thread.is_alive()

    def failure(self) -> str | None:
        return self.reason


class ThreadCode:
    """Calls spans by their addresses, or, where they are built in, by numbers."""

    n_threads = 1

    def __init__(self, span: Span, entry: Any, *, is_built_in: bool = False) -> None:
        self.span, self.entry = span, entry
        self.is_built_in = is_built_in
        at_end = 0 if span.end is None else span.end.address
        self.end_span = END if is_built_in and at_end else at_end

    def span_of(self, number: int) -> int:
        spans = self.span, *self.span.further
        return FIRST + number if self.is_built_in else spans[number].address

    def raised(self, number: int) -> Any:
        return raised.described(number)

    def is_stop(self, number: int) -> bool:
        return raised.is_stop(number)


POISON = 0xA5
"""Every byte of what must not be read."""


class ThreadMemory:
    """Device memory. What was moved here is poisoned in host memory, so that reading the wrong copy shows."""

    def __init__(self, device: ThreadDevice, region: Any) -> None:
        self.device, self.region = device, region
        self.address = region.address
        region.bytes[:] = POISON

    def read(self, offset: int, nbytes: int) -> Any:
        if self.device.is_lost:
            raise DeviceUnavailableError(f"{self.device.name}: reading {nbytes} bytes: the driver says it is lost")
        return self.region.bytes[offset : offset + nbytes].copy()

    def write(self, offset: int, source: Any) -> None:
        self.region.bytes[offset : offset + len(source)] = source
        source[:] = POISON

    def release(self) -> None:
        self.region = None


class ThreadDevice:
    """See `devices/grid/hardware.py`. `is_built_in`: have the spans in the grid's own code, as for a GPU."""

    max_mailbox_nbytes = 48 * 1024
    span_ns = 50_000
    patience_ns = 20_000
    max_nap_ns = 1_000_000

    def __init__(self, name: str = "cuda:0", *, is_built_in: bool = False) -> None:
        self.name = name
        self.is_built_in = is_built_in
        self.ticks_per_ns = tick_clock().ticks_per_ns()
        self.grids: list[ThreadGrid] = []
        self.is_lost = False
        self.memory = Arena()
        self._chunks: list[Any] = [self.memory.chunks]
        self._reached: dict[Any, int] = {}

    def compile(self, declaration: Any, span: Span) -> Any:
        if not self.is_built_in:
            return ThreadCode(span, any_grid())
        return ThreadCode(span, grid_of(Handlers.of(declaration, span)), is_built_in=True)

    def load(self, compiled: ThreadCode) -> ThreadCode:
        return compiled

    def reaches(self, arena: Any) -> bool:
        return self._reached.get(arena) == len(arena.grown)

    def adopt(self, arena: Any) -> None:
        if arena not in self._reached:
            self._chunks.append(arena.chunks)
        self._reached[arena] = len(arena.grown)

    def _is_reached(self, address: int) -> bool:
        chunks = (chunk for arena, count in self._reached.items() for chunk in arena.grown[:count])
        return any(0 <= address - int(chunk.ctypes.data) < chunk.nbytes for chunk in chunks)

    def forget(self, arena: Any) -> None:
        self._reached.pop(arena, None)

    def allocate(self, nbytes: int, arena: Any) -> ThreadMemory:
        return ThreadMemory(self, self.memory.allocate(nbytes))

    def start(self, code: ThreadCode, control: int, mailbox_nbytes: int) -> ThreadGrid:
        assert mailbox_nbytes <= self.max_mailbox_nbytes
        assert self._is_reached(control), "a grid would run on memory that was not adopted"
        mailbox = Arena().allocate(mailbox_nbytes)  # a memory of its own, as the threads of a GPU's block have
        mailbox.bytes[:] = POISON
        ctypes.c_int64.from_address(control + CONTROL.mailbox_address).value = mailbox.address
        grid = ThreadGrid(code.entry, control, (self._chunks, mailbox, code))
        self.grids = [old for old in self.grids if not old.is_done()]
        self.grids.append(grid)
        return grid

    def join(self) -> None:
        for grid in self.grids:
            grid.thread.join(5.0)
            assert grid.is_done()
