"""Leases: for its length, a map or a replay has its kernels to itself.

Others wait until all of them are free. Whoever sends to one of them, or receives from the last, waits in line behind
the lease, which holds the heads of these lines. What other kernels feed to one of them waits in its queue.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.runtime.graph.neighbours import edges_between, foreign_sources

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.waiting_line import Hold
    from ringkernel.ring.host.kinds import Edge
    from ringkernel.runtime.kernels.kernel import RingKernel


class Lease:
    """The kernels of a path, held. `putting` is the head of the line of the first one's input, once `close_inputs` has
    been called, `getting` that of the last one's output, once `close_output` has."""

    putting: Hold
    getting: Hold

    def __init__(self, path: list[RingKernel], who: str | None = None) -> None:
        self._path = path
        self._held = ExitStack()
        self._who = who or f"a map over {path[0].kernel_id!r}" + (f" to {path[-1].kernel_id!r}" if path[1:] else "")

    @classmethod
    def at_once(cls, path: list[RingKernel], who: str) -> Lease | None:
        """Return a lease whose inputs are closed, or None if somebody else holds one of these kernels."""
        taking = cls.of(path, who)
        try:
            taking.send(None)
        except StopIteration as done:
            lease: Lease = done.value
            lease.close_inputs()
            return lease
        taking.close()
        return None

    @classmethod
    async def of(cls, path: list[RingKernel], who: str | None = None) -> Lease:
        """Wait until nobody else holds one of these kernels. Cancelled, nothing is held."""
        lease = cls(path, who)
        with ExitStack() as held:
            for kernel in sorted(path, key=id):  # all in the same order, so that no two wait for each other
                await kernel.leasing.acquire()
                held.callback(kernel.leasing.release)
            lease._held = held.pop_all()
        return lease

    def close_inputs(self) -> dict[tuple[RingKernel, str], Hold]:
        """Let senders to all inputs wait from now on. Return the heads of their lines, by kernel and name."""
        holds = {
            (kernel, name): outlet.line.hold(self._who)
            for kernel in self._path
            for name, outlet in kernel.engine.outlets.items()
        }
        for hold in holds.values():
            self._held.callback(hold.release)
        self.putting = holds[self._path[0], ""]
        return holds

    def close_output(self) -> None:
        """Let receivers wait from now on. Raises `KernelStateError` while one looks at outputs."""
        check_not_lent(self._path[-1])
        self.getting = self._path[-1].engine.inlet.line.hold(self._who)
        self._held.callback(self.getting.release)

    async def hold_foreign_sources(self) -> None:
        """Let what other kernels feed to the path wait in its queues from now on; returns when what was there is
        processed. Until then receivers get what comes of it."""
        pairs = foreign_sources(self._path)
        edges = [(target, edge) for source, target in pairs for edge in edges_between(source, target)]
        for target, edge in edges:
            edge.limit = edge.published()
            self._held.callback(_let_in, target, edge)
        for target, edge in edges:
            await target.engine.processed_up_to(edge, edge.limit)

    def release(self) -> None:
        """Others may go on."""
        self._held.close()


def _let_in(target: RingKernel, edge: Edge) -> None:
    if target.state not in (KernelState.TERMINATING, KernelState.TERMINATED):  # there it may take no more
        edge.lift_limit()


def check_not_lent(last: RingKernel, what: str = "map") -> None:
    """Raises `KernelStateError` while somebody looks at outputs of the last kernel."""
    if last.engine.inlet.line.holder:
        raise KernelStateError(f"{what}: {last.engine.inlet.line.holder} looks at outputs of kernel {last.kernel_id!r}")
