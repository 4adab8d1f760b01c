"""numba's CUDA simulator as a device that runs grids: what the threads of a block do together, in Python.

For tests, where `NUMBA_ENABLE_CUDASIM=1` is set: one kernel at a time, thousands of messages a second, and nothing is
said about memory order. The operations of `operations.py` are done by ctypes.
"""

from __future__ import annotations

import ctypes
import inspect
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import cuda, njit

from ringkernel.codegen import operations as ops
from ringkernel.codegen.faults import LARGEST
from ringkernel.codegen.span_body import ALL, DROP, EMIT, FAILED, FAULT_INFO
from ringkernel.declaration.rng import rng_of
from ringkernel.devices.compiled.handler_views import given
from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.context_layout import RNG_WORDS
from ringkernel.messages.time_words import time_of

from .handlers import Handlers
from .hardware import Code
from .loop import run_grid
from .program import GridTarget, build_grid_program, build_grid_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Span, SpanTypes
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.compiled.raised import Raised
    from ringkernel.memory.arenas import Arena, Region

_WORD = np.dtype(np.uint64)
MAX_THREADS = 8
"""A block has no more: each is a Python thread."""


def _load(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def _store(address: int, value: int) -> None:
    ctypes.c_int64.from_address(address).value = value


def _this_thread() -> Any:
    return threading.current_thread()


OPERATIONS: dict[Any, Any] = {
    **dict.fromkeys((ops.load, ops.load_acquire, ops.load_device, ops.peek, ops.peek_fixed), _load),
    **dict.fromkeys((ops.store, ops.store_release, ops.store_device, ops.poke), _store),
    **dict.fromkeys((ops.fence_acquire, ops.fence_release, ops.fence_device), lambda: None),
    ops.spin_hint: lambda: time.sleep(0),
    ops.nap: lambda ns: time.sleep(ns / 1e9),
    ops.ticks: time.monotonic_ns,
    ops.zero_bytes: lambda address, count: ctypes.memset(address, 0, count),
    ops.copy_bytes: ctypes.memmove,
    ops.thread_index: lambda: int(_this_thread().threadIdx.x),
    ops.barrier: lambda: _this_thread().syncthreads(),
    ops.mailbox_memory: lambda proposed: proposed,
}


def _as_it_is(function: Callable[..., Any]) -> Any:
    return function


def _operation(made: Any) -> Any:
    """An operation that is written as LLVM instructions, for functions in Python: compiled by itself."""
    words = ", ".join(list(inspect.signature(made.emit).parameters)[1:])
    return njit(eval(f"lambda {words}: made({words})", {"made": made}))  # noqa: S307 (our own names)


class _Calls:
    """Calls handlers on addresses, and numbers what they raise."""

    def __init__(self) -> None:
        self.raised: dict[int, Raised] = {}
        self.stops: set[int] = set()
        self._numbers = itertools.count(LARGEST + 1)

    def of(self, handler: Callable[..., Any], spec: SpanTypes) -> Callable[..., int]:
        """As `handler_call.handler_call`."""

        def call(source: int, index: int, out: int, out_index: int, held: int, fault: int, state: int = 0) -> int:
            words = _records(held + spec.context.rng_at, 0, _WORD, 2 * RNG_WORDS) if spec.rng else None
            rng = [] if words is None else [rng_of(words[:RNG_WORDS])]
            if spec.output is not None and spec.zeroed:
                ctypes.memset(out + out_index * spec.output.itemsize, 0, spec.output.itemsize)
            arguments = _arguments(spec, (source, index), (out, out_index), held, state or held)
            try:
                with np.errstate(all="ignore"):
                    returned = handler(*arguments, *rng)
            except Exception as error:  # noqa: BLE001 (whatever the handler raises)
                number = next(self._numbers)
                self.raised[number] = type(error), error.args
                if isinstance(error, StopIteration):
                    self.stops.add(number)
                _store(fault + FAULT_INFO, number)
                if words is not None:
                    words[RNG_WORDS:] = words[:RNG_WORDS]
                return FAILED
            if words is not None:
                words[:RNG_WORDS] = rng[0].__getstate__()
            if returned is None:
                return ALL if spec.is_end else EMIT
            return EMIT if returned else DROP

        return call


def _arguments(spec: SpanTypes, message: tuple[int, int], out: tuple[int, int], held: int, state: int) -> list[Any]:
    """Return what a handler is called with, besides random numbers; `message` and `out` are arrays and indices."""
    arguments: list[Any] = []
    if spec.input is not None:
        arguments.append(given(_records(*message, spec.input), one=True))
    if spec.time is not None:
        arguments.append(time_of(spec.time, message[0]))
    if spec.output is not None:
        arguments.append(given(_records(*out, spec.output), one=True))
    if spec.state is not None:
        dtype, shape = spec.state
        records = _records(state, 0, dtype, 1 if shape is None else int(np.prod(shape)))
        arguments.append(given(records if shape is None else records.reshape(shape), one=shape is None))
    if spec.params is not None:
        arguments.append(given(_records(held + spec.context.params_at, 0, spec.params), one=True))
    return arguments


def _records(address: int, index: int, dtype: np.dtype[Any], count: int = 1) -> Any:
    raw = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(address + index * dtype.itemsize)
    return np.frombuffer(memoryview(raw), dtype)


class SimulatedCode(Code):
    """A kernel's grid as a simulated kernel."""

    def __init__(self, kernel: Any, calls: _Calls, n_threads: int, *, has_end: bool) -> None:
        super().__init__(n_threads, calls.raised, calls.stops, has_end=has_end)
        self.kernel = kernel


class SimulatedGrid:
    """A grid in a thread of its own: launching simulated kernels waits for them."""

    def __init__(self, code: SimulatedCode, control: int, keepalive: Any) -> None:
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._run, args=(code, control, keepalive), name="grid", daemon=True)
        self._thread.start()

    def _run(self, code: SimulatedCode, control: int, keepalive: Any) -> None:
        try:
            code.kernel[1, code.n_threads](control)
        except Exception as error:  # noqa: BLE001 (whatever the simulator says is the reason)
            self._failure = repr(error)

    def is_done(self) -> bool:
        """See `hardware.py`."""
        return not self._thread.is_alive()

    def failure(self) -> str | None:
        """See `hardware.py`."""
        return self._failure


class SimulatedMemory:
    """Host memory that stands for a device's."""

    def __init__(self, region: Region) -> None:
        self._region: Region | None = region
        self.address = region.address

    def read(self, offset: int, nbytes: int) -> Any:
        """See `ring/host/storage.py`."""
        assert self._region is not None
        return self._region.bytes[offset : offset + nbytes].copy()

    def write(self, offset: int, source: Any) -> None:
        """See `ring/host/storage.py`."""
        assert self._region is not None
        self._region.bytes[offset : offset + len(source)] = source

    def release(self) -> None:
        """See `ring/host/storage.py`."""
        self._region = None


class SimulatedDevice:
    """See `hardware.py`."""

    ticks_per_ns = 1.0
    max_mailbox_nbytes = 48 * 1024
    span_ns = 10_000_000_000
    patience_ns = 0
    max_nap_ns = 1_000_000

    def __init__(self, name: str) -> None:
        self.name = name
        self._grid: SimulatedGrid | None = None
        self._chunks: list[Any] = []

    def compile(self, declaration: Declaration, span: Span) -> SimulatedCode:
        """See `hardware.py`."""
        calls, handlers = _Calls(), Handlers.of(declaration, span)
        is_cooperative = handlers.is_cooperative
        target = GridTarget(_as_it_is, lambda _check: _as_it_is, calls.of, OPERATIONS, _operation)
        body = build_grid_span(target, handlers, is_cooperative=is_cooperative)
        kernel = cuda.jit(build_grid_program(target, run_grid, body).entry)
        n_threads = min(declaration.block_size, MAX_THREADS) if is_cooperative else 1
        return SimulatedCode(kernel, calls, n_threads, has_end=handlers.end is not None)

    def load(self, compiled: SimulatedCode) -> SimulatedCode:
        """See `hardware.py`."""
        return compiled

    def reaches(self, arena: Arena) -> bool:
        """See `hardware.py`."""
        return True

    def adopt(self, arena: Arena) -> None:
        """See `hardware.py`."""
        self._chunks.append(arena.chunks)

    def forget(self, arena: Arena) -> None:
        """See `hardware.py`."""
        self._chunks = [chunks for chunks in self._chunks if chunks is not arena.chunks]

    def allocate(self, nbytes: int, arena: Arena) -> SimulatedMemory:
        """See `hardware.py`."""
        return SimulatedMemory(arena.allocate(nbytes))

    def start(self, code: SimulatedCode, control: int, mailbox_nbytes: int) -> SimulatedGrid:
        """See `hardware.py`. Raises `DeviceUnavailableError` while another one runs."""
        if self._grid is not None and not self._grid.is_done():
            self._grid._thread.join(0.5)  # a grid that has just given its token back still has to return
        if self._grid is not None and not self._grid.is_done():
            raise DeviceUnavailableError("the CUDA simulator runs one kernel at a time; deactivate the other one first")
        self._grid = SimulatedGrid(code, control, (list(self._chunks), code))
        return self._grid
