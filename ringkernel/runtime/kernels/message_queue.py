"""A ring with the method names of `asyncio.Queue`."""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.options import DEFAULT_QUEUE_SIZE, check_queue_size
from ringkernel.devices.event_loop.budget import Budget
from ringkernel.devices.event_loop.inlet import Inlet
from ringkernel.devices.event_loop.outlet import Outlet
from ringkernel.errors import KernelStateError
from ringkernel.messages.arrays import as_array, as_objects, from_array
from ringkernel.messages.types import MessageType
from ringkernel.ring.host.object_ring import ObjectRing
from ringkernel.views.facts import facts_html
from ringkernel.views.view import QueueView

from .loop_affinity import LoopAffinity
from .queue_timeouts import queue_is_empty, queue_is_full

if TYPE_CHECKING:
    from ringkernel.devices.engine import Engine
    from ringkernel.messages.frames.options import Extra
    from ringkernel.ring.host.kinds import Ring


@dataclass(frozen=True)
class QueueStatistics:
    """Counts of a queue, in messages: what went in, what came out, what waits, and how many may wait.

    Example:
        >>> queue = rk.MessageQueue(capacity=8)
        >>> await queue.put_batch("abc")
        >>> counts = queue.statistics()
        >>> counts.put, counts.got, counts.depth, counts.capacity
        (3, 0, 3, 8)
    """

    put: int
    got: int
    depth: int
    capacity: int
    waiting_putters: int
    waiting_getters: int


class MessageQueue:
    """A bounded queue over a ring: of Python objects, or with `dtype` of records.

    On its own it belongs to the event loop in which it is first used, and any number of tasks may put and get. The
    queues of a kernel (`kernel.input_queue`, `kernel.output_queue`) have the kernel at the other end. Waiting tasks are
    served first in, first out; a cancelled or timed-out operation has either happened or not.

    Args:
        capacity: slots, a power of two.
        dtype: None for Python objects, or a message type: structured dtype, scalar type, message class.

    Example:
        >>> queue = rk.MessageQueue(capacity=8)
        >>> await queue.put("hello")
        >>> await queue.get()
        'hello'
    """

    __slots__ = ("_affinity", "_capacity", "_message_type", "_own")

    def __init__(self, capacity: int = DEFAULT_QUEUE_SIZE, dtype: Any = None) -> None:
        self._capacity = check_queue_size(capacity)
        self._message_type = dtype if dtype is None or isinstance(dtype, MessageType) else MessageType(dtype)
        self._own: tuple[Ring, Outlet, Inlet] | None = None
        self._affinity = LoopAffinity(self._name)

    def __repr__(self) -> str:
        kind = "objects" if self._message_type is None else self._message_type.name
        return f"<MessageQueue of {kind}, {self.qsize()}/{self._capacity}>"

    def _repr_html_(self) -> str | None:
        kind = "objects" if self._message_type is None else self._message_type.description
        return facts_html(f"queue of {kind}", {"waiting": QueueView(self.qsize(), self._capacity)})

    @property
    def capacity(self) -> int:
        """How many messages fit.

        Example:
            >>> rk.MessageQueue(capacity=8).capacity
            8
        """
        return self._capacity

    def qsize(self) -> int:
        """How many messages wait for the slowest consumer.

        Example:
            >>> queue = rk.MessageQueue(capacity=8)
            >>> await queue.put_batch("abc")
            >>> queue.qsize()
            3
        """
        ring = self._parts()[0]
        if ring is None or all(edge.closed for edge in ring.edges):
            return 0
        low = min(edge.position() for edge in ring.edges if not edge.closed)
        return max(0, min(ring.position() - low, self._capacity))  # both ends may move between the two looks

    def empty(self) -> bool:
        """Return whether no message waits.

        Example:
            >>> rk.MessageQueue(capacity=8).empty()
            True
        """
        return self.qsize() == 0

    def full(self) -> bool:
        """Return whether there is no room.

        Example:
            >>> queue = rk.MessageQueue(capacity=2)
            >>> await queue.put_batch("ab")
            >>> queue.full()
            True
        """
        return self.qsize() >= self._capacity

    async def put(self, message: Any, *, timeout: float | None = None) -> None:
        """Append a message, waiting for room.

        Raises `asyncio.TimeoutError` after `timeout` seconds, `MessageTypeError`, and `KernelStateError` for a kernel's
        output, or the input of one that has ended.

        Example:
            >>> queue = rk.MessageQueue(capacity=8, dtype=float)
            >>> await queue.put(1.5, timeout=1)
            >>> queue
            <MessageQueue of float64, 1/8>
        """
        try:
            await self._producer().put(message, timeout)
        except (TimeoutError, CancelledError) as error:
            raise queue_is_full(error, self.capacity, timeout) from None

    def put_nowait(self, message: Any) -> None:
        """Append a message. Raises `QueueFullError`, and what `put` raises.

        Example:
            >>> queue = rk.MessageQueue(capacity=1)
            >>> queue.put_nowait("a")
            >>> queue.put_nowait("b")
            Traceback (most recent call last):
            QueueFullError: ...
        """
        self._producer().put_nowait(message)

    async def put_batch(self, messages: Any, *, timeout: float | None = None, extra: Extra = "refuse") -> None:
        """Append all messages in order: an array, a sequence, or a frame, of which `RingKernelRuntime.map` says more.

        Raises `BatchTimeoutError` with `.sent`, how many were appended, and what `put` raises. Cancelled, a prefix was
        appended.

        Example:
            >>> queue = rk.MessageQueue(capacity=8, dtype=float)
            >>> await queue.put_batch(np.arange(3.0))
            >>> await queue.get_batch()
            array([0., 1., 2.])
        """
        producer = self._producer()
        await producer.put_many(as_batch(self._message_type, messages, extra), timeout)

    async def get(self, *, timeout: float | None = None) -> Any:
        """Take a message, waiting for it.

        Raises `asyncio.TimeoutError` after `timeout` seconds, and `KernelStateError` for a kernel's input, or an output
        whose kernel has ended, when it is empty.

        Example:
            >>> queue = rk.MessageQueue(capacity=8)
            >>> await queue.get(timeout=0.01)
            Traceback (most recent call last):
            TimeoutError: nothing came within 0.01 s
        """
        try:
            return await self._consumer().get(timeout)
        except (TimeoutError, CancelledError) as error:
            raise queue_is_empty(error, timeout) from None

    def get_nowait(self) -> Any:
        """Take a message. Raises `QueueEmptyError`, and what `get` raises.

        Example:
            >>> queue = rk.MessageQueue(capacity=8)
            >>> queue.get_nowait()
            Traceback (most recent call last):
            QueueEmptyError: ...
        """
        return self._consumer().get_nowait()

    async def get_batch(self, max_messages: int | None = None, *, timeout: float | None = None) -> Any:
        """Take at least one and up to `max_messages` messages: a 1-D array for records, a list for objects.

        Raises what `get` raises.

        Example:
            >>> queue = rk.MessageQueue(capacity=8)
            >>> await queue.put_batch("abc")
            >>> await queue.get_batch(2)
            ['a', 'b']
        """
        try:
            batch = await self._consumer().get_many(max_messages, timeout)
        except (TimeoutError, CancelledError) as error:
            raise queue_is_empty(error, timeout) from None
        return batch if self._message_type is None else from_array(self._message_type, batch)

    def statistics(self) -> QueueStatistics:
        """Counts so far.

        Example:
            >>> queue = rk.MessageQueue(capacity=8)
            >>> await queue.put("a")
            >>> queue.statistics().depth
            1
        """
        depth, (ring, outlet, inlet) = self.qsize(), self._parts()
        put = 0 if ring is None else ring.position()
        return QueueStatistics(
            put=put,
            got=put - depth,
            depth=depth,
            capacity=self._capacity,
            waiting_putters=outlet.line.length if outlet is not None else 0,
            waiting_getters=inlet.line.length if inlet is not None else 0,
        )

    @property
    def _name(self) -> str:
        return "this queue"

    # --- the ends --------------------------------------------------------------------------------------------

    def _producer(self) -> Outlet:
        self._affinity.bind()
        outlet = self._parts()[1]
        if outlet is None:
            raise KernelStateError(f"{self._name}: only the kernel puts messages here")
        return outlet

    def _consumer(self) -> Inlet:
        self._affinity.bind()
        inlet = self._parts()[2]
        if inlet is None:
            raise KernelStateError(f"{self._name}: only the kernel takes messages from here")
        return inlet

    def _parts(self) -> tuple[Ring | None, Outlet | None, Inlet | None]:
        """Return the ring, and the two ends that the host has."""
        if self._own is None:
            ring: Ring
            if self._message_type is None:
                ring = ObjectRing(self._capacity)
            else:
                from ringkernel.memory.arenas import Arena
                from ringkernel.ring.host.record_ring import RecordRing

                ring = RecordRing(Arena(), self._message_type, self._capacity)
            budget = Budget()
            inlet = Inlet(budget)
            self._own = ring, Outlet(ring, budget), inlet
            inlet.attach(ring.add_edge())
        return self._own


class KernelQueue(MessageQueue):
    """The queue at a kernel's input, or with `output` at its output, seen by the host."""

    __slots__ = ("_engine", "_output")

    def __init__(self, engine: Engine, affinity: LoopAffinity, *, output: bool) -> None:
        declaration = engine.declaration
        self._capacity = declaration.queue_size
        self._message_type = declaration.output_type if output else declaration.input_type
        self._affinity = affinity
        self._engine = engine
        self._output = output

    @property
    def _name(self) -> str:
        return f"{'output' if self._output else 'input'} of kernel {self._engine.kernel_id!r}"

    def _parts(self) -> tuple[Ring | None, Outlet | None, Inlet | None]:
        engine = self._engine
        return (engine.output, None, engine.inlet) if self._output else (engine.outlet.ring, engine.outlet, None)


def as_batch(message_type: MessageType | None, messages: Any, extra: str = "refuse") -> Any:
    """Return messages as `put_many` takes them: an array of records, or a list of objects."""
    return as_objects(messages) if message_type is None else as_array(message_type, messages, extra)
