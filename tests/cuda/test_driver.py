"""The module for CUDA's driver keeps the rules of devices: a driver that only takes notes shows it, without a GPU."""

from __future__ import annotations

import ctypes
import itertools
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ringkernel import DeviceUnavailableError
from ringkernel.devices.grid import cuda_driver
from ringkernel.devices.grid.cuda_driver import CudaDevice
from ringkernel.memory.arenas import CHUNK_BYTES, Arena


class Driver:
    """Answers as CUDA's driver does; `calls` are the notes."""

    CU_MEMHOSTREGISTER_PORTABLE, CU_MEMHOSTREGISTER_DEVICEMAP = 1, 2

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.next_address = 4096
        self.copies_say, self.moved = 0, b""

    def cuMemHostRegister(self, address: int, nbytes: int, flags: int) -> tuple[int]:  # noqa: N802 (CUDA's names)
        self.calls.append(("pin", address, nbytes, flags))
        return (0,)

    def cuMemHostUnregister(self, address: int) -> tuple[int]:  # noqa: N802
        self.calls.append(("unpin", address))
        return (0,)

    def cuMemHostGetDevicePointer(self, address: int, flags: int) -> tuple[int, int]:  # noqa: N802
        return (0, address)

    def cuMemAlloc(self, nbytes: int) -> tuple[int, int]:  # noqa: N802
        if nbytes > 10**9:
            return (2, 0)
        self.next_address += nbytes
        return (0, self.next_address)

    def cuMemFree(self, address: int) -> tuple[int]:  # noqa: N802
        self.calls.append(("free", address))
        return (0,)

    def cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: Any) -> tuple[int]:  # noqa: N802
        self.calls.append(("copy", target, source, nbytes, stream))
        ctypes.memset(target, source & 0xFF, nbytes)
        return (self.copies_say,)

    def cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: Any) -> tuple[int]:  # noqa: N802
        self.calls.append(("copy", target, source, nbytes, stream))
        self.moved += ctypes.string_at(source, nbytes)
        return (self.copies_say,)

    def cuGetErrorString(self, code: int) -> tuple[int, bytes]:  # noqa: N802
        return (0, b"out of memory")


class Event:
    def __init__(self) -> None:
        self.state: bool | Exception = False

    @property
    def is_done(self) -> bool:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


class Board:
    """A device with `multiprocessor_count` of 3; the streams and events that it made."""

    compute_capability = (9, 0)
    properties = SimpleNamespace(multiprocessor_count=3)

    def __init__(self, index: int) -> None:
        self.index = index
        self.streams: list[Any] = []
        self.events: list[Event] = []

    def set_current(self) -> None:
        pass

    def create_stream(self, *, options: Any) -> Any:
        assert options.nonblocking
        self.streams.append(SimpleNamespace(record=lambda event: None, handle=len(self.streams)))
        return self.streams[-1]

    def create_event(self, *, options: Any) -> Event:
        self.events.append(Event())
        return self.events[-1]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Any:
    taken: list[tuple[Any, ...]] = []
    monkeypatch.setattr(cuda_driver, "driver", Driver())
    monkeypatch.setattr(cuda_driver, "Device", Board)
    monkeypatch.setattr(cuda_driver, "launch", lambda *given: taken.append(given))
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    return taken


@pytest.fixture
def device(launches: Any) -> Any:
    return CudaDevice(0)


def compiled(blocks: int = 4, n_threads: int = 128) -> Any:
    occupancy = SimpleNamespace(max_active_blocks_per_multiprocessor=lambda threads, nbytes: blocks)
    kernel = SimpleNamespace(occupancy=occupancy)
    return SimpleNamespace(
        n_threads=n_threads,
        cubin=SimpleNamespace(get_kernel=lambda entry: kernel),
        code=SimpleNamespace(entry="grid", raised={3: (ValueError, ("no",))}, stops=frozenset(), has_end=False),
    )


def noted() -> Any:
    """The driver that takes notes."""
    return vars(cuda_driver)["driver"]


def notes(kind: str) -> list[tuple[Any, ...]]:
    return [call[1:] for call in noted().calls if call[0] == kind]


def test_a_launch_is_one_block_that_gets_its_control_lines(device: CudaDevice, launches: Any) -> None:
    code = device.load(compiled())
    grid = device.start(code, 12_345, 4_000)
    ((stream, config, kernel, argument),) = launches
    assert (stream, kernel) == (code.stream, code.kernel)
    assert (config.grid, config.block, config.shmem_size) == ((1, 1, 1), (128, 1, 1), 4_000)
    assert argument == 12_345
    assert isinstance(argument, np.int64)
    assert not grid.is_done()
    code.event.state = True
    assert grid.is_done()
    assert grid.failure() is None
    assert code.raised(3) == (ValueError, ("no",))
    assert code.raised(99)[0] is RuntimeError


def test_an_error_of_the_device_is_the_grids_failure(device: CudaDevice) -> None:
    code = device.load(compiled())
    grid = device.start(code, 1, 1)
    code.event.state = RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")
    assert grid.failure() == "CUDA_ERROR_ILLEGAL_ADDRESS"
    assert grid.is_done()


def test_no_more_grids_than_can_run_at_once(device: CudaDevice, launches: Any) -> None:
    codes = [device.load(compiled()) for _ in range(4)]
    for code in codes[:3]:
        device.start(code, 1, 1)
    with pytest.raises(DeviceUnavailableError, match=r"runs 3 kernels.*3 multiprocessors.*32 hardware queues"):
        device.start(codes[3], 1, 1)
    assert len(launches) == 3
    codes[0].event.state = True
    device.start(codes[3], 1, 1)


def test_hardware_queues_bound_it_too(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "2")
    assert CudaDevice(0).max_grids == 1


def test_a_block_that_does_not_fit_is_refused(device: CudaDevice) -> None:
    with pytest.raises(DeviceUnavailableError, match="smaller block_size"):
        device.load(compiled(blocks=0, n_threads=1024))


def test_an_arena_is_pinned_page_by_page_once(device: CudaDevice) -> None:
    arena = Arena()
    arena.allocate(100)
    assert not device.reaches(arena)
    device.adopt(arena)
    device.adopt(arena)
    assert device.reaches(arena)
    arena.allocate(10 << 20)
    assert not device.reaches(arena)
    device.adopt(arena)
    pinned = notes("pin")[1:]  # the first is for copies
    assert [address for address, _, _ in pinned] == [int(chunk.ctypes.data) for chunk in arena.grown]
    assert all(address % 4096 == 0 and nbytes % 4096 == 0 and flags == 3 for address, nbytes, flags in pinned)


def test_what_a_grid_may_hold_up_waits_until_none_runs(device: CudaDevice) -> None:
    arena = Arena()
    arena.allocate(100)
    device.adopt(arena)
    memory = device.allocate(64, arena)
    code = device.load(compiled())
    device.start(code, 1, 1)
    memory.release()
    device.forget(arena)
    assert notes("free") == notes("unpin") == []
    code.event.state = True
    device.tidy()
    assert notes("free") == [(memory.address,)]
    assert len(notes("unpin")) == 1


def test_what_a_lost_device_refuses_to_free_keeps_nobody_from_the_rest(
    device: CudaDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arena = Arena()
    arena.allocate(100)
    device.adopt(arena)
    device.allocate(64, arena).release()
    monkeypatch.setattr(noted(), "cuMemFree", lambda address: (719,))
    device.forget(arena)
    assert len(notes("unpin")) == 1
    assert "cuda:0: freeing: the driver says out of memory" in caplog.text


def test_the_drivers_words_are_in_the_error(device: CudaDevice) -> None:
    with pytest.raises(DeviceUnavailableError, match="allocating 2000000000 bytes: the driver says out of memory"):
        device.allocate(2_000_000_000, Arena())


def test_a_copy_goes_in_pieces_over_a_stream_of_its_own(device: CudaDevice) -> None:
    memory = device.allocate(10_000_000, Arena())
    copies = device._copies
    copies._event.state = True
    read = memory.read(256, 10_000_000)
    pieces = notes("copy")
    assert [nbytes for *_, nbytes, _ in pieces] == [CHUNK_BYTES, CHUNK_BYTES, 10_000_000 - 2 * CHUNK_BYTES]
    assert [source for _, source, _, _ in pieces] == [memory.address + 256 + CHUNK_BYTES * i for i in range(3)]
    assert {target for target, *_ in pieces} == {copies._bounce.address}
    assert {stream for *_, stream in pieces} == {copies._stream.handle}
    assert (read == (memory.address & 0xFF)).all()
    source = np.arange(10_000_000).astype(np.uint8)
    memory.write(0, source)
    assert noted().moved == source.tobytes()
    code = device.load(compiled())
    assert code.stream is not copies._stream


def test_a_copy_waits_for_its_end_and_for_no_grid(device: CudaDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = device.allocate(64, Arena())
    seconds = itertools.count(step=0.5)
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    for reason in (r"did not end within 2 s", r"an earlier copy has not ended"):
        with pytest.raises(DeviceUnavailableError, match=rf"cuda:0: copying 8 bytes:? {reason}"):
            memory.read(0, 8)
    assert len(notes("copy")) == 1  # what comes late must not hit the next one


def test_a_copy_on_a_device_that_is_lost(device: CudaDevice) -> None:
    memory = device.allocate(64, Arena())
    noted().copies_say = 700
    with pytest.raises(DeviceUnavailableError, match="copying 8 bytes: the driver says"):
        memory.read(0, 8)
    noted().copies_say = 0
    device._copies._event.state = RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceUnavailableError, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        memory.read(0, 8)
