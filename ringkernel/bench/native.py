"""The floor in C++: the usual lock-free ring, compiled here and now, so that ours is compared on the same machine.

The source, `benchmarks/spsc_ring.cpp` in the repository, comes with the package as `spsc_ring.cpp`. Nothing here
imports numba. Calls release the GIL and cannot be interrupted while they run.
"""

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-pthread", "-shared", "-fPIC")
COMPILE_DEADLINE_S = 120
SOURCE = "spsc_ring.cpp"


class NativeUnavailable(Exception):  # noqa: N818 - it says what is the case, not what went wrong
    """There is no C++ floor here: no compiler, or it did not manage. The text is the reason."""


class Native:
    """The compiled functions. Each starts its own threads, pinned nowhere, and checks every record that it moves.

    Each raises `RuntimeError` when a record came out wrong, `MemoryError` when there is no memory or no thread for it,
    and `ValueError` for sizes that make no sense.
    """

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def one_way_ns(self, messages: int, *, capacity: int, batch: int = 1) -> float:
        """Ns per 16-byte record from one thread to another, without the start of the threads.

        The ring holds `capacity` records, a power of two. The producer publishes `batch` at a time, once there is room
        for all of them; the consumer takes what is there, up to as many.
        """
        if capacity & (capacity - 1):
            raise ValueError(f"capacity {capacity} is not a power of two")
        if batch > capacity > 0:
            raise ValueError(f"a batch of {batch} does not fit a ring of {capacity}")
        return self._ns("spsc_one_way", messages=messages, capacity=capacity, batch=batch) / messages

    def round_trip_ns(self, round_trips: int) -> float:
        """Mean time in ns of a 16-byte record to another thread and back over two rings, one under way at a time."""
        return self._ns("spsc_round_trip", round_trips=round_trips) / round_trips

    def _ns(self, name: str, **sizes: int) -> float:
        for what, size in sizes.items():
            if size < 1:
                raise ValueError(f"{what}={size}, which must be at least 1")
        seconds = ctypes.c_double()
        function = getattr(self._library, name)
        function.restype = ctypes.c_int64
        wrong = function(*map(ctypes.c_int64, sizes.values()), ctypes.byref(seconds))
        if wrong < 0:
            raise MemoryError(f"{name}{tuple(sizes.values())}: no memory, or no thread")
        if wrong:
            raise RuntimeError(f"{name}{tuple(sizes.values())}: {wrong} wrong")
        return 1e9 * seconds.value


@functools.cache
def native() -> Native:
    """The C++ floor, compiled at the first call of the process, which takes a second or two; after a failure the next
    call tries again. Raises `NativeUnavailable`."""
    return build()


def cpp_ring() -> tuple[Native | None, str]:
    """The C++ floor and "", or None and why there is none."""
    try:
        return native(), ""
    except NativeUnavailable as reason:
        return None, f"C++ ring: {reason}"


def build(defines: Sequence[str] = ()) -> Native:
    """Compile the source, with macros like "SEEDED_FAULT=7", into a directory that is gone when the process ends."""
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NativeUnavailable(f"no C++ compiler: none of {', '.join(COMPILERS)} is on the PATH")
    directory = Path(tempfile.mkdtemp(prefix="ringkernel-native-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = directory / "spsc_ring.so"
    _compile([compiler, *FLAGS, *(f"-D{define}" for define in defines), str(find_source()), "-o", str(library)])
    try:
        return Native(library)
    except OSError as error:
        raise NativeUnavailable(f"what {compiler} compiled cannot be loaded: {error}") from error


def find_source() -> Path:
    """Where the C++ source lies: beside this file when installed, under `benchmarks` in the repository."""
    here = Path(__file__).resolve()
    places = (here.with_name(SOURCE), here.parents[2] / "benchmarks" / SOURCE)
    for place in places:
        if place.is_file():
            return place
    raise NativeUnavailable(f"the source of the C++ floor is missing: neither {places[0]} nor {places[1]} exists")


def _compile(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that the user's PATH names
            command, capture_output=True, text=True, errors="replace", timeout=COMPILE_DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{command[0]} did not compile the C++ floor: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}, without a word"]
        raise NativeUnavailable(f"{command[0]} did not compile the C++ floor: {lines[-1]}")
