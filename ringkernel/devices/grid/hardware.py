"""A device that runs grids, and a grid that it runs, as the rest of the package sees them.

`cuda_driver.py` is such a device for a GPU, `cuda_simulator.py` for numba's simulator; the tests have one that runs
grids as threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .handlers import END, FIRST

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from ringkernel.codegen.span_types import Span
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.compiled.raised import Raised
    from ringkernel.memory.arenas import Arena, Bytes


class Grid(Protocol):
    """A grid that was started."""

    def is_done(self) -> bool:
        """Return whether all its threads have returned. Never waits."""

    def failure(self) -> str | None:
        """Return why the device has ended it, or None."""


class Code:
    """A kernel's grid as the device has loaded it, with all of the kernel's spans in it. `exceptions`: the class and
    arguments of what a fault's number means; `stops`: the numbers of a `raise StopIteration` of the handler itself."""

    def __init__(
        self, n_threads: int, exceptions: Mapping[int, Raised], stops: Container[int], *, has_end: bool
    ) -> None:
        self.n_threads = n_threads
        self.end_span = END if has_end else 0
        self._exceptions, self._stops = exceptions, stops

    def span_of(self, number: int) -> int:
        """Return what stands in a block for the span of the input of this number, from 0 on."""
        return FIRST + number

    def raised(self, number: int) -> Raised:
        """Return the class and arguments of the exception that a fault's number means."""
        return self._exceptions.get(number, (RuntimeError, ()))

    def is_stop(self, number: int) -> bool:
        """Return whether it means that the handler itself has raised `StopIteration`."""
        return number in self._stops


class Memory(Protocol):
    """A piece of device memory. It goes back when it is released; no grid may use it then.

    The host gets at it by copies only; one that the device fails raises `DeviceUnavailableError`.
    """

    address: int

    def read(self, offset: int, nbytes: int) -> Bytes:
        """A copy of what is there. Works while grids run, too."""

    def write(self, offset: int, source: Bytes) -> None:
        """Move bytes there: `source` does not count any more."""

    def release(self) -> None:
        """Give it back: nobody uses it any more."""


class Hardware(Protocol):
    """A device that runs grids. Methods belong to the event loop's thread, except `compile`.

    `ticks_per_ns` is the rate of its `ops.ticks`. A span should take `span_ns`; a grid with nothing to do looks again
    at once for `patience_ns`, then after naps of `max_nap_ns` at most.
    """

    name: str
    ticks_per_ns: float
    max_mailbox_nbytes: int
    span_ns: int
    patience_ns: int
    max_nap_ns: int

    def compile(self, declaration: Declaration, span: Span) -> Any:
        """Compile a kernel's grid; in any thread. Raises whatever the compiler raises."""

    def load(self, compiled: Any) -> Code:
        """Make it ready to be launched. No grid of this process may run on the device meanwhile."""

    def reaches(self, arena: Arena) -> bool:
        """Return whether grids can reach all of the arena's memory."""

    def adopt(self, arena: Arena) -> None:
        """Let grids reach the arena's memory, also what it grows by. No grid may run meanwhile."""

    def forget(self, arena: Arena) -> None:
        """No grid will reach the arena's memory again."""

    def allocate(self, nbytes: int, arena: Arena) -> Memory:
        """Device memory for a kernel's context, the threads' own outputs, or a ring. No grid may run meanwhile."""

    def start(self, code: Any, control: int, mailbox_nbytes: int) -> Grid:
        """Start a grid on its control lines. Returns at once."""
