"""The event loop's end of rings that it consumes from: one edge, or several in turn.

The fast path of a message is the lone edge's own `take` and never suspends; who has to wait stands in a `Line`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, QueueEmptyError
from ringkernel.ring.host.waiting import NOBODY, NOTHING

from .spinning import Spin
from .waiting_line import Hold, Line, check_timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.ring.host.kinds import Edge
    from ringkernel.ring.host.record_edge import RecordEdge

    from .budget import Budget
    from .loop_parker import Doorbell
    from .services import Services


def _take_nothing() -> Any:
    return NOTHING


def check_most(most: Any) -> None:
    """Raises `ConfigurationError` for what is no number of messages."""
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise ConfigurationError(f"max_messages is {most!r}; it must be 1 or more, or None for all")


class Inlet:
    """Consumes from edges, in turn. Closed, it hands out nothing. Once it is `over`, `ended` says why nothing more
    will come, if so.

    The fast path of a message is `take`, the lone edge's own; while others wait in `line`, it must not be taken.
    """

    __slots__ = (
        "_doorbell",
        "_first",
        "_lone",
        "_next",
        "_open",
        "_services",
        "_spin",
        "budget",
        "edges",
        "ended",
        "line",
        "over",
        "run_producer",
        "take",
    )

    def __init__(self, budget: Budget, services: Services | None = None) -> None:
        self.edges: list[Edge] = []
        self.take: Callable[[], Any] = _take_nothing
        self.line = Line()
        self.over = False
        self.ended: Callable[[], BaseException | None] = lambda: None
        self.run_producer: Callable[[], bool] | None = None  # see `produce`
        self.budget = budget
        self._open = True
        self._lone: Edge | None = None
        self._first: tuple[RecordEdge, ...] = ()
        self._services = services
        self._doorbell: Doorbell | None = None
        self._next = 0
        self._spin: Spin | None = None

    def set_open(self, is_open: bool) -> None:
        """Hand out messages, or none."""
        self._open = is_open
        self._choose()

    def _choose(self) -> None:
        """Single out the edge of the common case: there is one, and it may be read."""
        self._lone = self.edges[0] if self._open and len(self.edges) == 1 and not self._first else None
        if not self._open:
            self.take = _take_nothing
        else:
            self.take = self._take_in_turn if self._lone is None else self._lone.take

    def attach(self, edge: Edge) -> None:
        """Consume from this edge, too."""
        edge.getting = self.line
        self.edges.append(edge)
        self._choose()
        edge.refresh()
        if edge.ring.holds_records and self._services is not None:
            self.line.prepare = self._ask_for_messages
            if self._doorbell is not None:
                edge.set_doorbell(self._doorbell.doorbell_address)

    def detach(self, edge: Edge) -> None:
        """Leave an edge to somebody else."""
        edge.getting = NOBODY
        edge.set_doorbell(0)
        if self._spin is not None:
            self._spin.leave(edge)
        self.edges.remove(edge)
        self._choose()

    def exchange(self, edge: Edge, fresh: Edge) -> None:
        """Consume from another edge instead of this one."""
        self.detach(edge)
        self.attach(fresh)

    def take_first_from(self, edge: RecordEdge) -> None:
        """Hand out what is left in an edge before what the others have. Nothing more comes there."""
        self._first += (edge,)
        self._choose()
        self.line.notify()

    @property
    def kept(self) -> int:
        """The number of messages that are left to be handed out first."""
        return sum(edge.available() for edge in self._first)

    def finish(self) -> None:
        """Nothing more may come: `ended` knows."""
        self.over = True
        self.line.notify()

    def consumes(self, edge: RecordEdge) -> bool:
        """Return True if this is still a consumer of that edge."""
        return edge in self.edges or edge in self._first

    def available(self) -> int:
        """Return how many messages wait."""
        return self.kept + sum(edge.available() for edge in self.edges)

    def try_get(self) -> Any:
        """Take a message; `NOTHING` if there is none now. Raises what `ended` says."""
        message = self.take()
        return self._nothing() if message is NOTHING else message

    def try_get_many(self, most: int | None, target: Any = None) -> Any:
        """Take up to `most` messages of one edge, as an array of records or a list, or into the `target` array, and
        then how many they are; otherwise as `try_get`."""
        edge = self._lone or self._ready_edge()
        count = 0 if edge is None else edge.look()  # all that is there, not only what was known to be
        if edge is None or count <= 0:
            return self._nothing()
        if most is not None and most < count:
            count = most
        if target is None:
            return edge.take_many(count)
        edge.take_into(target, count)  # type: ignore[union-attr]  # there is an array for records only
        return count

    def _take_in_turn(self) -> Any:
        edge = self._ready_edge()
        return NOTHING if edge is None else edge.take()

    def produce(self) -> Any:
        """Take what there is after all, when `take` has found nothing: whoever would wait runs who produces here, if
        that is a task which is ready to run. Otherwise as `try_get`."""
        run = self.run_producer
        return self.try_get() if run is not None and run() else self._nothing()

    def _nothing(self) -> Any:
        if self.over:
            reason = self.ended()
            try:
                if reason is not None:
                    raise reason
            finally:
                del reason  # or it and this frame keep each other alive, and what those hold who wait
        return NOTHING

    def _ready_edge(self) -> Edge | None:
        """The next edge in turn that has a message."""
        while self._first:
            edge = self._first[0]
            if edge.available() > 0:
                return edge
            edge.ring.dispose()
            self._first = self._first[1:]
            self._choose()
        if self._open:
            for _ in range(len(self.edges)):
                self._next = (self._next + 1) % len(self.edges)
                if self.edges[self._next].available() > 0:
                    return self.edges[self._next]
        return None

    async def get(self, timeout: float | None = None) -> Any:
        """Take a message, waiting for it."""
        if timeout is not None:
            check_timeout(timeout)
        budget = self.budget
        budget.left -= 1
        if budget.left <= 0 and budget.due():
            return await self.wait_get(timeout, yielding=True)
        message: Any = NOTHING
        if not self.line.waiters:
            message = self.take()
            if message is NOTHING:
                message = self.produce()
        return await self.wait_get(timeout) if message is NOTHING else message

    async def wait_get(self, timeout: float | None, *, yielding: bool = False) -> Any:
        """The slow part of `get`: stand in line for a message, or, `yielding`, to let other tasks run first."""
        if self.over and not yielding and not self.line.waiters:
            self._nothing()
        return await self.line.wait(self.try_get, timeout, yielding=yielding)

    async def get_many(self, most: int | None = None, timeout: float | None = None, hold: Hold | None = None) -> Any:
        """Take at least one and up to `most` messages, waiting for the first: in the line, or at its head with the
        `hold` of it."""
        if most is not None:
            check_most(most)
        if timeout is not None:
            check_timeout(timeout)
        yielding = self.budget.spend()
        messages = NOTHING if yielding or (hold or self.line).waiters else self.try_get_many(most)
        if messages is not NOTHING:
            return messages
        return await self.wait_get_many(most, timeout, hold, yielding=yielding)

    async def wait_get_many(
        self,
        most: int | None,
        timeout: float | None,
        hold: Hold | None = None,
        *,
        target: Any = None,
        yielding: bool = False,
    ) -> Any:
        """The slow part of `get_many`, after `try_get_many` has found nothing; `target` is as there."""
        line = hold or self.line
        return await line.wait(lambda: self.try_get_many(most, target), timeout, yielding=yielding)

    async def look(self, found: Callable[[RecordEdge], Any], timeout: float | None) -> Any:
        """Return what is `found` in a record ring that has messages, waiting for the first. None of them are taken."""

        def attempt() -> Any:
            edge: Any = self._ready_edge()
            return self._nothing() if edge is None else found(edge)

        yielding = self.budget.spend()
        result = NOTHING if yielding or self.line.waiters else attempt()
        return await self.line.wait(attempt, timeout, yielding=yielding) if result is NOTHING else result

    def get_nowait(self) -> Any:
        """Take a message or raise `QueueEmptyError`, without spinning for one."""
        message: Any = NOTHING
        if not self.line.waiters:
            edge = self._ready_edge()
            message = self._nothing() if edge is None else edge.take()
        if message is NOTHING:
            self.budget.let_threads_run()  # it may be asked again and again until one of them has sent something
            holder = self.line.holder
            why = f"{holder} has the queue to itself" if holder else "no message is waiting"
            raise QueueEmptyError(f"{why}; await get() or receive() to wait for one")
        return message

    def _ask_for_messages(self) -> None:
        """Ask to be woken when something comes."""
        if self._doorbell is None:  # as for an outlet
            assert self._services is not None
            self._doorbell = self._services.parker.doorbell(self._on_doorbell)
            self._spin = Spin(self._services.spinner, self._services.parker)
            for edge in self.edges:
                edge.set_doorbell(self._doorbell.doorbell_address)
        assert self._spin is not None
        self._spin.sleep()
        self._doorbell.arm()

    def _on_doorbell(self) -> None:
        """Something has come. If this thread has run who sent it, there is nobody to spin for."""
        if self._spin is not None and not self._services.parker.is_own:  # type: ignore[union-attr]  # made with it
            self._spin.wake(self._edge_to_spin_on())
        self.line.notify()

    def _edge_to_spin_on(self) -> RecordEdge | None:
        """The lone edge, if its producer runs on another thread: only then can spinning help."""
        edge: Any = self._lone
        return edge if edge is not None and edge.ring.holds_records and edge.ring.putting is NOBODY else None

    def release(self) -> None:
        """Consume nothing any more."""
        self._first = ()
        for edge in list(self.edges):
            self.detach(edge)
        if self._doorbell is not None:
            self._doorbell.release()
            self._doorbell = self.line.prepare = None
            assert self._services is not None
            self._services.spinner.forget(self._spin)
