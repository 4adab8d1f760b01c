"""An engine runs one kernel: the contract that the runtime goes by, and what all engines share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ringkernel.errors import (
    ConfigurationError,
    KernelFailedError,
    KernelStateError,
    MessageTypeError,
    RingKernelError,
)
from ringkernel.messages.arrays import as_messages
from ringkernel.ring.host.waiting import NOTHING

from .event_loop.inlet import Inlet
from .event_loop.outlet import Outlet
from .event_loop.waiting_line import Line, check_timeout

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.memory.arenas import Arena, ResultPool
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.kinds import Edge, Ring
    from ringkernel.ring.host.record_ring import RecordRing

    from .event_loop.services import Services
    from .state_access import StateAccess
    from .thread_feeds import ThreadFeeds

OnEnd = Callable[[BaseException | None], None]

NO_FURTHER: Mapping[str, Any] = MappingProxyType({})
"""The further inputs of a kernel that has one."""
STALL_S = 0.1
"""A drain that can do nothing but wait for room ends after this."""
GRACE_S = 0.05
"""The time that a kernel has to obey a stop at once."""


def _nobody_minds(error: BaseException | None) -> None:
    """The supervisor says what the end of a kernel means before it starts one."""


class Engine(ABC):
    """Runs one kernel. The event loop is the producer into `outlets`, by the names of the inputs, and the consumer of
    `inlet`.

    `edges` are what the kernel reads from: first those that the host sends to. All methods belong to the loop's
    thread; the supervisor calls them one at a time, except `finish`, which may supersede a pending `pause`.
    """

    device: str
    task: asyncio.Task[None] | None = None
    """The task that it runs in, if it runs in one and was started."""
    outlet: Outlet
    """The host's end of the first input."""
    inlet: Inlet
    output: Ring | None
    edges: list[Edge]
    state_access: StateAccess
    """Its state and parameters; for compiled kernels."""
    thread_feeds: ThreadFeeds

    __slots__ = (
        "__weakref__",
        "_services",
        "closing",
        "declaration",
        "edges",
        "ending",
        "error",
        "further",
        "has_ended",
        "in_flight",
        "inlet",
        "is_told",
        "kernel_id",
        "on_end",
        "outlet",
        "output",
        "state_access",
        "taken",
        "thread_feeds",
    )

    def __init__(self, declaration: Declaration, services: Services) -> None:
        self.declaration = declaration
        self._services = services
        self.kernel_id = declaration.kernel_id
        self.on_end: OnEnd = _nobody_minds
        self.error: BaseException | None = None
        self.has_ended = False
        self.is_told = False  # whether somebody has heard of its failure
        self.ending = Line()
        self.in_flight = 0
        self.further: Mapping[str, Outlet] = NO_FURTHER
        self.closing: str | None = None  # why nothing more comes in, where the kernel goes on to its end by itself
        self.taken: list[Callable[[], object]] = []  # what gives it back, one by one

    @abstractmethod
    def build(self) -> None:
        """Take what the kernel needs, and note in `taken` how each thing goes back: `release` also does that for an
        engine that was built halfway. Memory goes back by itself."""

    def new_ring(self, message_type: MessageType, *, overhang: int = 0) -> RecordRing:
        """A ring of records, as long as the kernel's queues, with `overhang` slots beyond its end."""
        from ringkernel.ring.host.record_ring import RecordRing  # imports numba

        arena, woke = self._services.parker.arena, self._services.woke
        return RecordRing(arena, message_type, self.declaration.queue_size, overhang=overhang, woke=woke)

    def new_outlet(self, ring: Ring) -> Outlet:
        """The event loop's end of a ring that it, or the kernel in it, produces into; until the kernel's release."""
        outlet = Outlet(ring, self._services.budget, self._services)
        self.taken.append(outlet.release)
        return outlet

    def new_inlet(self) -> Inlet:
        """The event loop's end of rings that it, or the kernel in it, consumes from, likewise. It says why the kernel
        has ended."""
        inlet = Inlet(self._services.budget, self._services)
        self.taken.append(inlet.release)
        inlet.ended = self.told_reason
        return inlet

    @property
    @abstractmethod
    def is_running(self) -> bool:
        """True if the token is with who runs it."""

    @property
    def was_started(self) -> bool:
        """True if it is running and goes on: not if its start is being taken back."""
        return self.is_running

    def check_edges(self, inputs: int = 0, consumers: int = 0) -> None:  # noqa: B027 (most can have any number)
        """Raises `ConfigurationError` for more further inputs, or consumers of its output, than it can have."""

    def make_room(self) -> None:  # noqa: B027 (most keep nothing that grows)
        """The kernel is about to start, whose token is the host's: let what it keeps grow, if that is nearly full."""

    @abstractmethod
    async def start(self) -> None:
        """Take messages, for the first time or again."""

    @abstractmethod
    async def pause(self) -> None:
        """Take no more messages. The token is the host's when this returns."""

    @abstractmethod
    async def finish(self, timeout: float, *, drain: bool) -> None:
        """End, after what is queued now if `drain`. Returns when it has ended; it does within `timeout` and 0.1 s."""

    @abstractmethod
    async def end_by_force(self, error: Exception) -> None:
        """`finish` has failed with this: take the kernel from who runs it, or leave that one all that it can reach."""

    @abstractmethod
    def progress(self) -> tuple[int, ...]:
        """Numbers that change when the kernel gets on, or who takes its outputs does."""

    @abstractmethod
    def waits_for_room(self) -> bool:
        """Return whether it can do nothing else now."""

    async def wait_while_it_gets_on(self, deadline: float) -> None:
        """Wait until the kernel has ended, the time is over, or it has only waited for room for a while."""
        loop = asyncio.get_running_loop()
        seen, since = self.progress(), loop.time()
        while not self.has_ended and (left := deadline - loop.time()) > 0:
            if await self.has_ended_within(min(STALL_S / 2, left)):
                return
            progress = self.progress()
            if progress != seen or not self.waits_for_room():
                seen, since = progress, loop.time()
            elif loop.time() - since >= STALL_S:
                return

    @abstractmethod
    def ledger(self) -> dict[str, Any]:
        """The counts so far, consistent with each other, by the names of `KernelStatistics`; what is missing is 0. What
        `starved_by` and `blocked_by` are made of is in the order of the edges, in seconds; empty if not measured."""

    @property
    def takes_no_more(self) -> bool:
        """True if it has ended, or its handler has said so."""
        return self.has_ended

    def notify_senders(self) -> None:
        """Have all who wait for room look again: they may wait for nothing."""
        for outlet in self.outlets.values():
            outlet.line.notify()
        self.thread_feeds.wake()

    @abstractmethod
    def add_input(self, edge: Edge, number: int = 0) -> None:
        """Read from a further edge, as from the input of this number. The token is the host's."""

    @property
    def outlets(self) -> dict[str, Outlet]:
        """The host's ends of all inputs, by their names."""
        return {"": self.outlet, **self.further}

    def outlet_of(self, name: str) -> Outlet:
        """The host's end of the input of this name. Raises `ConfigurationError` if there is none, and
        `MessageTypeError` for a source."""
        if self.declaration.is_source:
            raise no_input_of(self.kernel_id)
        try:
            return self.further[name] if name else self.outlet
        except (KeyError, TypeError):
            known = ", ".join(map(repr, self.outlets))
            raise ConfigurationError(
                f"kernel {self.kernel_id!r} has no input {name!r}; its inputs are {known}"
            ) from None

    @abstractmethod
    def look_at_ends(self) -> None:
        """An input is at its end, and the kernel is to end by itself once all are, and everything is consumed."""

    def emit_records_of(self, message_type: MessageType) -> list[tuple[Edge, Edge]]:
        """Emit records of this type from now on; for kernels whose output has no type. Pairs of edges: who reads the
        first has to read the second instead. Raises `KernelStateError` if something was emitted already."""
        raise NotImplementedError

    def exchange_input(self, edge: Edge, fresh: Edge) -> None:
        """Read another edge instead of this one, from which nothing was taken; for kernels whose input has no type."""
        raise NotImplementedError

    def keys(self) -> tuple[int, int]:
        """Return the number of keys that there are states for, and the bytes of all that; 0 for kernels without a
        key."""
        return 0, 0

    def release(self) -> None:
        """The kernel has ended and is forgotten, or was never launched: give back what it took."""
        with ExitStack() as stack:  # last first, all of it, whatever one of them raises; as a list it takes 4 kB less
            for give_back in self.taken:
                stack.callback(give_back)
            self.taken = []

    @abstractmethod
    def watching(
        self, edge: Edge, sequence: int, reached: asyncio.Event
    ) -> AbstractContextManager[Callable[[], object]]:
        """Have `reached` set when everything below `sequence` on this input is processed, and when the kernel takes no
        more. Call what this gives before each look: it asks to be told once."""

    @abstractmethod
    def has_processed(self, edge: Edge, sequence: int) -> bool:
        """Return whether everything below `sequence` on this input is processed and its outputs are published."""

    async def settled(self) -> None:  # noqa: B027 (most know at once)
        """Wait until it is known why its handler has failed, if it has, and whether the kernel has ended."""

    async def processed_up_to(self, edge: Edge, sequence: int) -> None:
        """Wait until everything below `sequence` on this input is processed and its outputs are published.

        Raises `ended_reason()` if the kernel ends before that.
        """
        reached = asyncio.Event()
        with self.watching(edge, sequence, reached) as ask:
            while not self.has_processed(edge, sequence):
                if self.takes_no_more:
                    raise self.ended_error()
                ask()
                if not self.has_processed(edge, sequence):
                    await reached.wait()
                    reached.clear()
            await self.settled()
            if self.error is not None:  # the cursor has also moved over what the kernel failed on
                raise self.ended_error()

    @property
    def answers_each(self) -> bool:
        """True if each message has exactly one output, as far as can be known."""
        return self.output is not None

    def runs_here(self, count: int) -> bool:  # noqa: ARG002 (engines that may, ask)
        """Return whether so many messages, once published by this thread, would be through when the call returns."""
        return False

    def leftovers(self, number: int = 0) -> list[Any]:
        """Return what an ended kernel has never taken of the input of this number, edge by edge: arrays of records, or
        lists of messages."""
        parts: list[Any] = []
        for edge in self.edges:
            if edge.input != number:
                continue
            message_type: Any = getattr(edge.ring, "message_type", None)
            for part in edge.leftovers():
                # a kernel without an input type would have received messages, also from a record ring
                untyped = message_type is not None and self.declaration.input_type is None
                parts.append(as_messages(message_type, part) if untyped else part)
        return parts

    def unreadable(self) -> tuple[int, Exception | None]:
        """Return how many messages that it never took were lost with a device, and why."""
        edges: list[Any] = [edge for edge in self.edges if edge.ring.holds_records]
        lost = [edge.lost for edge in edges if edge.lost is not None]
        return sum(count for count, _ in lost), next((reason for _, reason in lost), None)

    def accepted(self) -> int:
        """Messages published to this kernel."""
        return sum(edge.published() - edge.start for edge in tuple(self.edges))  # some may go meanwhile

    def received(self) -> int:
        """Messages taken from its output by the slowest consumer."""
        if self.output is None:
            return 0
        open_edges = [edge for edge in self.output.edges if not edge.closed]
        return min((edge.position() for edge in open_edges), default=self.output.position())

    def emitted(self) -> int:
        """Messages published to its output."""
        return 0 if self.output is None else self.output.position()

    def ended_reason(self) -> RingKernelError | None:
        """Return why nothing more will come out, or None."""
        if not self.has_ended:
            return None
        if self.error is not None:
            failure = KernelFailedError(f"kernel {self.kernel_id!r} has failed: {brief(self.error)}")
            failure.__cause__ = self.error
            return failure
        return KernelStateError(f"kernel {self.kernel_id!r} has TERMINATED and nothing is left to receive")

    def told_reason(self) -> RingKernelError | None:
        """The same, for a caller who is told so."""
        self.is_told = self.error is not None
        return self.ended_reason()

    def ended_error(self) -> RingKernelError:
        """Return the error for those who still wait for something of a kernel that has ended."""
        return self.ended_reason() or KernelStateError(f"kernel {self.kernel_id!r} has ended")

    def holding_up(self) -> list[str]:
        """The inputs that keep it from taking what waits in others, since their time has not come yet."""
        return []

    def close_outlets(self) -> None:
        """Let nobody send or push any more."""
        for outlet in self.outlets.values():
            outlet.close()
        self.thread_feeds.shut()

    def close_inputs(self) -> None:
        """Take what was never taken, and let producers go on without this kernel."""
        for edge in self.edges:
            if not edge.closed:
                edge.close()

    async def wait_end(self, timeout: float | None = None) -> None:
        """Wait until the kernel has ended. Raises `asyncio.TimeoutError`."""
        if timeout is not None:
            check_timeout(timeout)
        if not self.has_ended:
            await self.ending.wait(lambda: self.has_ended or NOTHING, timeout)

    async def has_ended_within(self, timeout: float) -> bool:
        """Wait until the kernel has ended, at most so long. Return whether it has."""
        with suppress(asyncio.TimeoutError):
            await self.wait_end(timeout)
        return self.has_ended

    def end(self, error: BaseException | None) -> None:
        """The kernel is over: settle its inputs, wake who waits, tell the supervisor."""
        if self.has_ended:
            return
        self.has_ended = True
        self.error = error
        self.close_outlets()
        try:
            self.close_inputs()
        finally:  # whatever happens there: nobody may wait for this kernel for ever
            self.on_end(error)
            self.inlet.finish()
            for edge in self.output.edges if self.output is not None else ():
                edge.getting.notify()
            self.ending.notify_all()


class LendingEngine(Engine):
    """An engine that can read and write arrays in the place of its rings.

    `is_reached`: it has ended, and a handler that does not return may go on reading and writing what was its.
    """

    is_reached: bool
    doorbell_address: int
    """The address of the word that holds the doorbell to ring when there is something to do."""

    __slots__ = ("doorbell_address", "is_reached")

    @property
    @abstractmethod
    def arena(self) -> Arena:
        """The arena of its rings."""

    @property
    @abstractmethod
    def results(self) -> ResultPool:
        """The memory for results of maps."""

    @property
    @abstractmethod
    def arena_only(self) -> bool:
        """True if an array that it is lent has to be in the arena."""

    @property
    @abstractmethod
    def block_address(self) -> int:
        """The address of its control block."""

    @property
    @abstractmethod
    def turns_by(self) -> LendingEngine | None:
        """By whose turns it runs: its own, or those of the first stage of a fused chain. None if nobody can say whether
        that one rests, or something waits for it that is to have it run by itself."""

    @property
    @abstractmethod
    def rests(self) -> bool:
        """True if it runs, and nothing waits for it, and nobody touches it before this thread rings it, if the event
        loop alone feeds it and takes what it emits: then its rings may be exchanged without the token."""

    @abstractmethod
    def token(self) -> AbstractAsyncContextManager[None]:
        """Hold the token for a moment, whatever the state; the kernel runs on afterwards if it ran.

        Of a kernel that is ending, the token is had when it has ended. Raises `KernelStateError` if its handler does
        not return.
        """

    @abstractmethod
    def attach(self, inputs: Mapping[int, RecordRing], output: RecordRing | None, *, alone: bool) -> None:
        """Read the inputs of these numbers from there, and with `alone` no others; write to `output`, if it is given.
        The token is the host's. The rings are the engine's until `detach`, and who runs it may reach their arrays until
        then."""

    @abstractmethod
    def detach(self) -> None:
        """Read from, and write to, the kernel's own rings again. The token is the host's, or the kernel has ended."""

    @abstractmethod
    def detach_output(self) -> None:
        """Write to the kernel's own ring again, and go on reading what is attached. As `detach`."""

    @abstractmethod
    def note_map(self, taken: int, emitted: int) -> None:
        """Count messages that were read from an array, and written to one, without `attach`."""


def no_input_of(kernel_id: str) -> MessageTypeError:
    """Return the error for sending to a source."""
    return MessageTypeError(f"kernel {kernel_id!r} is a source: it has no input to send to, or to connect to")


def brief(error: BaseException) -> str:
    """An exception in a line: its class, and what it says, if it says something."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 (the user's class; whoever is told of the failure must not hang on it)
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
