"""A small map through the kernels' own queues: the event loop's thread runs it, at once.

Nothing is awaited and nobody is asked: it is for a path that rests, and is nobody's, whose queues are empty and have
room for all of it, and whose kernels this thread runs itself (`ring/loop_turns.py`). It is through when the messages
have been published, unless a kernel fails, or takes far longer than it did before; then it goes on as any other map,
and what has not been taken by then can be withdrawn.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from ringkernel.messages.arrays import from_array
from ringkernel.ring.waiting import NOTHING

from .lend import hold_at_last
from .path import is_nobodys
from .transfer import Transfer

if TYPE_CHECKING:
    from .kernel import RingKernel


def map_at_once(path: list[RingKernel], messages: Any, out: Any) -> Any:
    """The result of a map that is through already; or what has been sent for it, if that is not so; `NOTHING`, if it
    was not to be expected, and nothing was sent."""
    if not _runs_at_once(path, len(messages)):
        return NOTHING
    ring: Any = path[0].engine.outlet.ring
    start = ring.tail
    ring.offer_many(messages)
    for kernel in path:
        if not kernel.engine.runs_here(0):  # it has not gone to rest again
            return Queued(path, start, len(messages), out)
    return _outputs_of(path[-1], out)


class Queued(Transfer):
    """What was sent for a map to the first kernel's queue: `count` messages from the sequence `start` on."""

    def __init__(self, path: list[RingKernel], start: int, count: int, out: Any) -> None:
        super().__init__(path)
        self.source = path[0].engine.edges[0]
        self.count = count
        self.end = start + count
        self._start = start
        self._out = out

    def position(self) -> int:
        return self.source.position() - self._start

    async def put(self) -> None:
        """They are there already."""
        self.lease.close_output()

    async def take_back(self) -> None:
        """Stop reading at a span's edge, and withdraw what nobody has taken. The rest comes out, and can be
        received."""
        engine = self._first.engine
        if self.source.position() >= self.end or engine.has_ended:
            return
        self.source.limit = self._start
        async with AsyncExitStack() as stack:
            await hold_at_last(stack, self._first)
            if not engine.has_ended:
                ring: Any = engine.outlet.ring
                ring.withdraw(self.source.position())
                self.source.lift_limit()

    def result(self) -> Any:
        return _outputs_of(self._last, self._out)


def _outputs_of(kernel: RingKernel, out: Any) -> Any:
    """Take all that waits to be received: into `out` if it is given."""
    message_type = kernel.engine.declaration.output_type
    if message_type is None:
        return None
    edge: Any = kernel.engine.inlet.edges[0]
    count = edge.look()
    if out is None:
        return from_array(message_type, edge.take_many(count))
    edge.take_into(out, count)
    return out[:count]


def _runs_at_once(path: list[RingKernel], count: int) -> bool:
    """Whether this thread would run so many messages all the way, in queues that are empty, and nobody else's."""
    ring: Any = path[0].engine.outlet.ring
    room = ring.room()
    for kernel in path:
        engine = kernel.engine
        if count > room or not engine.runs_here(count):
            return False
        count *= engine.declaration.max_outputs
        room = count if engine.output is None else engine.output.capacity
    return count <= room and is_nobodys(path)
