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

    from ringkernel.devices.event_loop.inlet import Lending
    from ringkernel.runtime.kernels.kernel import RingKernel


class Peek:
    """See `RingKernelRuntime.peek`. From the moment it has found messages until it is left, it has the head of the line
    of receivers: nobody else moves the cursor."""

    __slots__ = ("_kernel", "_lending", "_most", "_timeout")

    def __init__(self, kernel: RingKernel, most: int | None, timeout: float | None) -> None:
        output_type_of(kernel, "peek()")
        if most is not None:
            check_most(most)
        if timeout is not None:
            check_timeout(timeout)
        self._kernel, self._most, self._timeout = kernel, most, timeout
        self._lending: Lending | None = None

    async def __aenter__(self) -> npt.NDArray[Any]:
        if self._lending is not None:
            raise KernelStateError(f"this peek() at kernel {self._kernel.kernel_id!r} has begun; call peek() again")
        try:
            lending = await self._kernel.engine.inlet.lend(self._most, self._timeout, "a peek()")
        except TimeoutError:
            raise timeouts.nothing_came(self._kernel, self._timeout) from None
        except CancelledError as error:
            timeouts.stopped_receiving(self._kernel, error)
            raise
        try:
            records = self._records(lending)
        except BaseException:
            lending.give_back(0)
            raise
        self._lending = lending
        return records

    def _records(self, lending: Lending) -> npt.NDArray[Any]:
        ring = lending.edge.ring
        if not ring.is_on_host:
            raise DeviceUnavailableError(
                f"the outputs of kernel {self._kernel.kernel_id!r} lie in the memory of a device; "
                f"receive_batch() copies them"
            )
        records = from_array(ring.message_type, lending.records).view()
        records.flags.writeable = False
        return records

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lending = self._lending
        assert lending is not None
        self._lending = None
        lending.give_back(lending.count if exc is None else 0)
