"""A GPU as a device that runs grids: the only module that loads, launches and allocates there. Not run on a GPU yet.

Rules that keep a persistent kernel from blocking the host, and the host from blocking on it: everything is compiled,
loaded, pinned and allocated while no grid of this process runs on the device, and freed likewise; each grid has a
non-blocking stream of its own; nobody synchronizes, the end of a grid, or of a copy, is asked for (`event.is_done`); no
more grids than hardware queues, less one for copies, and multiprocessors. Grids are one block each, so each fits on a
multiprocessor of its own.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from cuda.bindings import driver
from cuda.core import Device, EventOptions, LaunchConfig, Linker, LinkerOptions, ObjectCode, StreamOptions, launch

from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.arenas import CHUNK_BYTES, Arena

from .cuda_probe import max_connections
from .cuda_program import GridCode, compile_grid
from .handlers import Handlers
from .hardware import Code
from .loop import run_grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Span
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.memory.arenas import Bytes

logger = logging.getLogger("ringkernel")

COPY_TIMEOUT_S = 2.0
_PINNED = driver.CU_MEMHOSTREGISTER_PORTABLE | driver.CU_MEMHOSTREGISTER_DEVICEMAP


def checked(outcome: tuple[Any, ...], what: str) -> Any:
    """Return the value of a driver call. Raises `DeviceUnavailableError`."""
    code, *values = outcome
    if int(code) != 0:
        _, text = driver.cuGetErrorString(code)
        raise DeviceUnavailableError(f"{what}: the driver says {text.decode() if text else code}")
    return values[0] if values else None


def _pin(chunk: Any, name: str) -> int:
    """Pin whole pages of memory. Return their address."""
    address = int(chunk.ctypes.data)
    checked(driver.cuMemHostRegister(address, chunk.nbytes, _PINNED), f"{name}: pinning memory")
    return address


def _unpin(chunk: Any) -> None:
    driver.cuMemHostUnregister(int(chunk.ctypes.data))


def _stream_of(device: Any) -> tuple[Any, Any]:
    """Return a new stream that waits for no other one, and an event for it."""
    stream = device.create_stream(options=StreamOptions(nonblocking=True))
    return stream, device.create_event(options=EventOptions(timing_enabled=False))


def assemble(code: GridCode, arch: str) -> Any:
    """PTX to machine code, by nvJitLink: no driver is asked, so it works in any thread and without a GPU."""
    ptx = ObjectCode.from_ptx(code.ptx.encode(), name=code.entry)
    return Linker(ptx, options=LinkerOptions(arch=arch)).link("cubin")


class CompiledGrid(NamedTuple):
    """A kernel's grid as machine code for one architecture."""

    code: GridCode
    cubin: Any
    n_threads: int


class CudaCode(Code):
    """A kernel's grid, loaded, with the stream and the event that its launches use."""

    def __init__(self, compiled: CompiledGrid, device: Any) -> None:
        code = compiled.code
        super().__init__(compiled.n_threads, code.raised, code.stops, has_end=code.has_end)
        self.kernel = compiled.cubin.get_kernel(code.entry)
        self.stream, self.event = _stream_of(device)


class CudaGrid:
    """A grid that was launched."""

    def __init__(self, event: Any) -> None:
        self._event = event
        self._failure: str | None = None
        self._is_done = False

    def is_done(self) -> bool:
        """See `hardware.py`. An error of the device, which ends all its grids, is kept for `failure()`."""
        if not self._is_done:
            try:
                self._is_done = bool(self._event.is_done)
            except Exception as error:  # noqa: BLE001 (whatever the driver says is the reason)
                self._is_done, self._failure = True, str(error)
        return self._is_done

    def failure(self) -> str | None:
        """See `hardware.py`."""
        self.is_done()
        return self._failure


class CudaCopies:
    """Copies to and from device memory, also while grids run: on a stream of their own, through a piece of pinned
    memory, and with a deadline, since a copy that waits for a grid would wait for ever. From any thread, one by one."""

    def __init__(self, name: str, device: Any) -> None:
        self._name = name
        self._stream, self._event = _stream_of(device)
        self._arena = Arena()
        self._bounce = self._arena.allocate(CHUNK_BYTES)
        _pin(self._arena.grown[0], name)
        self._problem: str | None = None
        self._lock = threading.Lock()

    def read(self, address: int, nbytes: int) -> Bytes:
        """Return a copy of device memory. Raises `DeviceUnavailableError`."""
        result = np.empty(nbytes, np.uint8)
        for start in range(0, nbytes, CHUNK_BYTES):
            size = min(CHUNK_BYTES, nbytes - start)
            with self._lock:
                self._run(driver.cuMemcpyDtoHAsync, self._bounce.address, address + start, size)
                result[start : start + size] = self._bounce.bytes[:size]
        return result

    def write(self, address: int, source: Bytes) -> None:
        """Copy to device memory. Raises `DeviceUnavailableError`."""
        for start in range(0, len(source), CHUNK_BYTES):
            size = min(CHUNK_BYTES, len(source) - start)
            with self._lock:
                self._bounce.bytes[:size] = source[start : start + size]
                self._run(driver.cuMemcpyHtoDAsync, address + start, self._bounce.address, size)

    def _run(self, copy: Callable[..., Any], target: int, source: int, nbytes: int) -> None:
        what = f"{self._name}: copying {nbytes} bytes"
        if self._problem is not None:
            raise DeviceUnavailableError(f"{what}: {self._problem}")
        checked(copy(target, source, nbytes, self._stream.handle), what)
        self._stream.record(self._event)
        deadline = time.monotonic() + COPY_TIMEOUT_S
        while not self._is_done(what):
            if time.monotonic() > deadline:
                self._problem = f"an earlier copy has not ended within {COPY_TIMEOUT_S:g} s"  # and may write there yet
                raise DeviceUnavailableError(f"{what} did not end within {COPY_TIMEOUT_S:g} s")

    def _is_done(self, what: str) -> bool:
        try:
            return bool(self._event.is_done)
        except Exception as error:  # whatever the driver says is the reason
            raise DeviceUnavailableError(f"{what}: the driver says {error}") from error


class CudaMemory:
    """A piece of device memory. It is freed when no grid runs."""

    def __init__(self, device: CudaDevice, nbytes: int) -> None:
        self._device = device
        self.address = int(checked(driver.cuMemAlloc(nbytes), f"{device.name}: allocating {nbytes} bytes"))

    def read(self, offset: int, nbytes: int) -> Bytes:
        """See `ring/host/storage.py`."""
        return self._device.copies().read(self.address + offset, nbytes)

    def write(self, offset: int, source: Bytes) -> None:
        """See `ring/host/storage.py`."""
        self._device.copies().write(self.address + offset, source)

    def release(self) -> None:
        """See `ring/host/storage.py`."""
        self._device.later(lambda: checked(driver.cuMemFree(self.address), f"{self._device.name}: freeing"))


class CudaDevice:
    """See `hardware.py`."""

    ticks_per_ns = 1.0  # `ops.ticks` is the global timer there
    max_mailbox_nbytes = 48 * 1024  # of shared memory, without asking for more
    span_ns = 50_000
    patience_ns = 200_000
    max_nap_ns = 2_000

    def __init__(self, index: int) -> None:
        self.name = f"cuda:{index}"
        self._device = Device(index)
        self._device.set_current()
        self.cc: tuple[int, int] = tuple(self._device.compute_capability)
        self.arch = f"sm_{self.cc[0]}{self.cc[1]}"
        properties = self._device.properties
        self.max_grids = min(max_connections() - 1, properties.multiprocessor_count)
        self._grids: list[CudaGrid] = []
        self._pinned: dict[Arena, list[Any]] = {}
        self._later: list[Callable[[], Any]] = []
        self._copies = CudaCopies(self.name, self._device)  # now, since nothing is pinned while a grid runs

    def copies(self) -> CudaCopies:
        """Copies to and from the device's memory, in whichever thread asks."""
        self._device.set_current()
        return self._copies

    def compile(self, declaration: Declaration, span: Span) -> CompiledGrid:
        """See `hardware.py`. Handlers that keep something from one message to the next run on one thread, others in a
        cooperative span."""
        handlers = Handlers.of(declaration, span)
        is_cooperative = handlers.is_cooperative
        code = compile_grid(run_grid, handlers, is_cooperative=is_cooperative, cc=self.cc, fma=declaration.fma)
        return CompiledGrid(code, assemble(code, self.arch), declaration.block_size if is_cooperative else 1)

    def load(self, compiled: CompiledGrid) -> CudaCode:
        """See `hardware.py`. Raises `DeviceUnavailableError` if a block of it does not fit on the device."""
        self._device.set_current()
        self.tidy()
        code = CudaCode(compiled, self._device)
        fits = code.kernel.occupancy.max_active_blocks_per_multiprocessor(code.n_threads, self.max_mailbox_nbytes)
        if fits < 1:
            raise DeviceUnavailableError(
                f"{self.name}: a block of {code.n_threads} threads of this kernel does not fit on a multiprocessor; "
                f"use a smaller block_size"
            )
        return code

    def reaches(self, arena: Arena) -> bool:
        """See `hardware.py`."""
        return len(self._pinned.get(arena, ())) == len(arena.grown)

    def adopt(self, arena: Arena) -> None:
        """See `hardware.py`. The memory is pinned where it is; host and device use the same addresses."""
        self._device.set_current()
        self.tidy()
        pinned = self._pinned.setdefault(arena, [])
        for chunk in arena.grown[len(pinned) :]:
            address = _pin(chunk, self.name)
            seen = int(checked(driver.cuMemHostGetDevicePointer(address, 0), f"{self.name}: mapping memory"))
            if seen != address:
                raise DeviceUnavailableError(f"{self.name} cannot use the addresses of host memory")
            pinned.append(chunk)

    def forget(self, arena: Arena) -> None:
        """See `hardware.py`."""
        for chunk in self._pinned.pop(arena, ()):
            self.later(functools.partial(_unpin, chunk))
        self.tidy()

    def allocate(self, nbytes: int, arena: Arena) -> CudaMemory:
        """See `hardware.py`."""
        self._device.set_current()
        return CudaMemory(self, nbytes)

    def later(self, work: Callable[[], Any]) -> None:
        """Do this when no grid runs on the device."""
        self._later.append(work)

    def tidy(self) -> None:
        """Do what had to wait, if no grid runs. A device that refuses, since it is lost, keeps nobody from the rest."""
        self._grids = [grid for grid in self._grids if not grid.is_done()]
        if not self._grids:
            pending, self._later = self._later, []
            for work in pending:
                try:
                    work()
                except DeviceUnavailableError as error:
                    logger.warning("%s", error)

    def start(self, code: CudaCode, control: int, mailbox_nbytes: int) -> CudaGrid:
        """See `hardware.py`. Raises `DeviceUnavailableError` if as many run as can run at the same time."""
        self._grids = [grid for grid in self._grids if not grid.is_done()]
        if len(self._grids) >= self.max_grids:
            raise DeviceUnavailableError(
                f"{self.name} runs {len(self._grids)} kernels, and a further one might never start: it has "
                f"{self._device.properties.multiprocessor_count} multiprocessors, and this process "
                f"{max_connections()} hardware queues (CUDA_DEVICE_MAX_CONNECTIONS, at most 32), one of which is kept "
                f"free; deactivate a kernel first"
            )
        self._device.set_current()
        config = LaunchConfig(grid=1, block=code.n_threads, shmem_size=mailbox_nbytes)
        launch(code.stream, config, code.kernel, np.int64(control))
        code.stream.record(code.event)
        grid = CudaGrid(code.event)
        self._grids.append(grid)
        return grid
