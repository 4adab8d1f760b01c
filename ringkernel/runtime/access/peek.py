"""`peek`: outputs where they lie in the ring, lent to the caller for as long as a `with` block lasts."""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from ringkernel.devices.event_loop.inlet import check_most
from ringkernel.devices.event_loop.waiting_line import check_timeout
from ringkernel.errors import DeviceUnavailableError, KernelStateError
from ringkernel.messages.arrays import from_array
from ringkernel.runtime.kernels import timeouts
from ringkernel.runtime.maps.given_array import output_type_of

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

    from ringkernel.devices.event_loop.waiting_line import Hold
    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.runtime.kernels.kernel import RingKernel


class Peek:
    """See `RingKernelRuntime.peek`. From the moment it has found messages until it is left, it has the head of the line
    of receivers: nobody else moves the cursor."""

    __slots__ = ("_count", "_edge", "_hold", "_kernel", "_most", "_timeout")

    def __init__(self, kernel: RingKernel, most: int | None, timeout: float | None) -> None:
        output_type_of(kernel, "peek()")
        if most is not None:
            check_most(most)
        if timeout is not None:
            check_timeout(timeout)
        self._kernel, self._most, self._timeout = kernel, most, timeout
        self._hold: Hold | None = None

    async def __aenter__(self) -> npt.NDArray[Any]:
        if self._hold is not None:
            raise KernelStateError(f"this peek() at kernel {self._kernel.kernel_id!r} has begun; call peek() again")
        try:
            return await self._kernel.engine.inlet.look(self._found, self._timeout)  # type: ignore[no-any-return]
        except TimeoutError:
            raise timeouts.nothing_came(self._kernel, self._timeout) from None
        except CancelledError as error:
            timeouts.stopped_receiving(self._kernel, error)
            raise

    def _found(self, edge: RecordEdge) -> npt.NDArray[Any]:
        """Return the messages of an edge where they lie, as many as are in one piece."""
        ring: Any = edge.ring
        if not ring.is_on_host:
            raise DeviceUnavailableError(
                f"the outputs of kernel {self._kernel.kernel_id!r} lie in the memory of a device; "
                f"receive_batch() copies them"
            )
        count = edge.look()
        records = from_array(ring.message_type, edge.in_one_piece(min(count, self._most or count))).view()
        records.flags.writeable = False
        self._edge, self._count = edge, len(records)
        self._hold = self._kernel.engine.inlet.line.hold("a peek()")  # last: nothing can fail with the line held
        return records

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the messages, unless it raises. Where another consumer has the edge by now, or the kernel was removed,
        that is nothing."""
        hold, self._hold = self._hold, None
        assert hold is not None
        try:
            if exc is None and self._kernel.engine.inlet.consumes(self._edge):
                self._edge.give_back(self._count)
        finally:
            hold.release()
