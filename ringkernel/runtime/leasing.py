"""Leases: for its length, a map has the kernels of its path to itself.

Other maps wait until all of them are free. Whoever sends to one of them, or receives from the last, waits in line
behind the map, which holds the heads of these lines.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringkernel.devices.pacing import Hold

    from .kernel import RingKernel


class Lease:
    """The kernels of a path, held. `putting` is the head of the line of the first one's input, `getting` that of the
    last one's output, once `close_lines` has been called."""

    putting: Hold
    getting: Hold

    def __init__(self, path: list[RingKernel]) -> None:
        self._path = path
        self._held = ExitStack()

    @classmethod
    async def of(cls, path: list[RingKernel]) -> Lease:
        """Wait until nobody else holds one of these kernels. Cancelled, nothing is held."""
        lease = cls(path)
        with ExitStack() as held:
            for kernel in sorted(path, key=id):  # all in the same order, so that no two wait for each other
                await kernel.leasing.acquire()
                held.callback(kernel.leasing.release)
            lease._held = held.pop_all()
        return lease

    def close_lines(self) -> None:
        """Let senders and receivers wait from now on."""
        first, last = self._path[0], self._path[-1]
        who = f"a map over {first.kernel_id!r}"
        if last is not first:
            who += f" to {last.kernel_id!r}"
        holds = [kernel.engine.outlet.line.hold(who) for kernel in self._path]
        self.putting, self.getting = holds[0], last.engine.inlet.line.hold(who)
        for hold in (*holds, self.getting):
            self._held.callback(hold.release)

    def release(self) -> None:
        """Others may go on."""
        self._held.close()
