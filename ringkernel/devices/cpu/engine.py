"""Compiled kernels on CPU workers: the handshakes over a block, its rings, and how one ends."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ringkernel.devices.control_block import ControlBlock
from ringkernel.devices.engine import GRACE_S, STALL_S, Engine, Ledger
from ringkernel.devices.failure import described, failure_of
from ringkernel.devices.inlet import Inlet
from ringkernel.devices.outlet import Outlet
from ringkernel.errors import DeviceUnavailableError, KernelStateError, MessageTypeError
from ringkernel.memory.layout import (
    BLOCK,
    COMMAND_DRAIN,
    COMMAND_NONE,
    COMMAND_PAUSE,
    COMMAND_RUN,
    COMMAND_STOP,
    NEVER,
    STATUS_ACTIVE,
    STATUS_DEACTIVATED,
    STATUS_FAILED,
    STATUS_TERMINATED,
)
from ringkernel.ring.record_edge import RecordEdge
from ringkernel.ring.record_ring import RecordRing

from .pool import Eviction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ringkernel.codegen.span_types import Span
    from ringkernel.declaration.decorator import Declaration
    from ringkernel.devices.services import Services
    from ringkernel.memory.arenas import Arena, ResultPool
    from ringkernel.ring.kinds import Edge

    from .pool import RunEntry, Worker

logger = logging.getLogger("ringkernel")

ANSWER_TIMEOUT_S = 5.0


class CompiledEngine(Engine):
    """Runs a compiled kernel on a worker. The token is the worker's while there is a `run_entry`."""

    device = "cpu"
    lends = True
    output: RecordRing | None
    __slots__ = (
        "_answer",
        "_api",
        "_commanded",
        "_enqueued_at",
        "_epoch",
        "_failing",
        "_last_word",
        "_mapped_in",
        "_mapped_out",
        "_parker",
        "_reading",
        "_services",
        "_terminating",
        "_waiters",
        "_writing",
        "block",
        "doorbell_address",
        "run_entry",
        "span",
        "worker",
    )

    def __init__(self, declaration: Declaration, span: Span, services: Services) -> None:
        super().__init__(declaration)
        self.span = span
        self._services = services
        self._parker = services.parker
        self._api = self._parker.api
        self.run_entry: RunEntry | None = None
        self.worker: Worker | None = None
        self._epoch = self._enqueued_at = 0
        self._commanded = COMMAND_NONE
        self._answer: asyncio.Future[int] | None = None
        self._waiters: tuple[asyncio.Event, ...] = ()
        self._failing: asyncio.Task[None] | None = None
        self._terminating = False
        self._last_word: tuple[int, int] | None = None
        self._mapped_in = self._mapped_out = 0

    def build(self) -> None:
        parker = self._parker
        status_doorbell = parker.doorbell(self._on_status, standing=True)
        self.taken.append(status_doorbell.release)
        self.doorbell_address = parker.new_doorbell_address()
        self.taken.append(self._release_doorbell_address)
        self.block = ControlBlock(self.declaration, self.span.address, status_doorbell.address, parker.arena, self._api)
        self._make_rings()

    @property
    def arena(self) -> Arena:
        """Where its rings live."""
        return self._parker.arena

    @property
    def results(self) -> ResultPool:
        """Where the results of maps live."""
        return self._parker.results

    # --- memory ----------------------------------------------------------------------------------------------

    def _make_rings(self) -> None:
        services, declaration = self._services, self.declaration
        assert declaration.input_type is not None
        arena, size = self._parker.arena, declaration.queue_size
        ring = RecordRing(arena, declaration.input_type, size, woke=services.woke)
        self.outlet = Outlet(ring, services.budget, services)
        self.taken.append(self.outlet.release)
        self.edges: list[Edge] = []
        self.add_input(ring.add_edge())
        self.inlet = Inlet(services.budget, services)
        self.taken.append(self.inlet.release)
        self.inlet.ended = self.ended_reason
        self.output = None
        self._writing: RecordRing | None = None
        if declaration.output_type is None:
            self.inlet.ended = lambda: MessageTypeError(
                f"kernel {self.kernel_id!r} has no output_type, so there is nothing to receive"
            )
            self.inlet.over = True
        else:
            overhang = declaration.max_outputs - 1
            self.output = RecordRing(arena, declaration.output_type, size, overhang=overhang, woke=services.woke)
            self.output.set_doorbell(self.doorbell_address)
            self.output.engine = self
            self.inlet.attach(self.output.add_edge())
            self._write_to(self.output)

    def add_input(self, edge: Edge) -> None:
        assert isinstance(edge, RecordEdge)
        self.edges.append(edge)
        edge.engine = self
        edge.set_doorbell(self.doorbell_address)
        self._read_from(self.edges)

    def _read_from(self, edges: list[Edge]) -> None:
        """Let the kernel read from these edges. The token is the host's."""
        reading = cast("list[RecordEdge]", edges)
        self.block.read_from(reading)
        self._reading = reading  # only now are the rings before let go of

    def _write_to(self, ring: RecordRing | None) -> None:
        """Let the kernel write to this ring. The token is the host's."""
        if ring is not None:
            ring.set_doorbell(self.doorbell_address)
            self.block.write_to(ring)
        self._writing = ring  # likewise

    # --- the handshake ---------------------------------------------------------------------------------------

    def _command(self, command: int) -> None:
        self._epoch += 1
        self._commanded = command
        self.block.command(command, self._epoch, self.doorbell_address)
        self._services.woke()

    def _on_status(self) -> None:
        """The kernel's poller has answered, or given the token back."""
        if self.has_ended:
            return
        echo = self.block.read(BLOCK.echo)  # first: the status is then at least that of this echo
        status = self.block.read(BLOCK.status)
        if status == STATUS_DEACTIVATED and echo < self._enqueued_at:
            return  # the answer to a pause before this start: it was acted on when only half was written
        if status in (STATUS_TERMINATED, STATUS_FAILED, STATUS_DEACTIVATED):
            word = echo, status
            if word == self._last_word:
                return  # it was seen after an earlier ring; this is the ring that belongs to it
            self._last_word = word
            self._take_token()
            if status == STATUS_DEACTIVATED and self._commanded != COMMAND_PAUSE:
                self._enqueue_again()  # that pause was superseded, but the worker obeyed it before it could know
        if status == STATUS_TERMINATED:
            self._finished(None)
        elif status == STATUS_FAILED:
            self._answer_with(STATUS_FAILED)
            self._failing = self._services.loop.create_task(self._failed())  # the loop itself holds tasks weakly
        elif echo == self._epoch or (status == STATUS_DEACTIVATED and self._commanded == COMMAND_PAUSE):
            # (the second: it obeyed an earlier pause, which was taken back and given again before this was noticed)
            self._answer_with(status)

    def _take_token(self) -> None:
        if self.run_entry is not None:
            self._services.pool.dequeue(self.run_entry)
            self.run_entry = None

    def _answer_with(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)

    async def _handshake(self, command: int, wanted: int) -> None:
        """Give a command and wait for the answer to it. Raises `KernelStateError` if something else happened."""
        self._answer = asyncio.get_running_loop().create_future()
        answer = self._answer
        try:
            self._command(command)
            if command == COMMAND_RUN and self.run_entry is None:
                self._enqueue()
            status = await self._await_answer(answer, command)
        except asyncio.CancelledError:
            if command == COMMAND_PAUSE or not answer.done():
                self._retract(command)
            raise
        except TimeoutError:
            self._retract(command)
            raise KernelStateError(
                f"kernel {self.kernel_id!r} did not answer within {ANSWER_TIMEOUT_S:g} s: it is still in its "
                f"handler, or its worker is; nothing was changed, terminate() can end it"
            ) from None
        finally:
            if self._answer is answer:
                self._answer = None
        if status != wanted and not (command == COMMAND_RUN and status == STATUS_FAILED):  # it ran, and then failed
            raise self.ended_reason() or KernelStateError(
                f"kernel {self.kernel_id!r} ended, or was told to, before it answered"
            )

    async def _await_answer(self, answer: asyncio.Future[int], command: int) -> int:
        """The status that answers a command. Cancelled, a start is waited for all the same. Raises `TimeoutError`."""
        try:
            await asyncio.wait([answer], timeout=ANSWER_TIMEOUT_S)
        except asyncio.CancelledError:
            if command == COMMAND_RUN:
                await _wait_out(answer)
            raise
        if not answer.done():
            raise TimeoutError
        return answer.result()

    def _retract(self, command: int) -> None:
        """Nobody waits any more: take back a pause, whether it has been obeyed yet or not, or a start."""
        if self._is_ending:
            return
        if command == COMMAND_PAUSE:
            self._command(COMMAND_RUN)
            if self.run_entry is None:
                self._enqueue_again()
        elif self.run_entry is not None and self._services.pool.evict(self.run_entry) is Eviction.FREE:
            self.run_entry = None

    def _enqueue(self) -> None:
        """Give the token to who will run the kernel. Raises `KernelStateError` for a block that is damaged, and
        `DeviceUnavailableError` when nobody can be had; then the token is the host's."""
        self.block.check(self.kernel_id)
        self._enqueued_at = self._epoch
        try:
            self._hand_over()
        except DeviceUnavailableError as error:
            raise DeviceUnavailableError(f"kernel {self.kernel_id!r} cannot run now: {error}") from error

    def _hand_over(self) -> None:
        self.run_entry = self._services.pool.enqueue(
            self.block.address, self.span.address, self.doorbell_address, self._neighbour()
        )
        self.worker = self.run_entry.worker

    def _enqueue_again(self) -> None:
        """As `_enqueue`, where nobody waits for it: a kernel that cannot go on has ended."""
        try:
            self._enqueue()
        except Exception as error:  # noqa: BLE001 (whatever it is)
            self._finished(error)

    def _neighbour(self) -> Worker | None:
        """The worker of a kernel that this one is connected to, so that a chain stays together."""
        for edge in self.edges:
            engine = getattr(edge.ring, "engine", None)
            if engine is not None and engine.worker is not None:
                return engine.worker  # type: ignore[no-any-return]
        return self.worker

    @property
    def is_running(self) -> bool:
        return self.run_entry is not None

    @property
    def _is_ending(self) -> bool:
        """Whether it has ended, or will without further commands."""
        return self.has_ended or self._terminating or self._failing is not None

    async def start(self) -> None:
        await self._check_usable()
        await self._handshake(COMMAND_RUN, STATUS_ACTIVE)

    async def pause(self) -> None:
        await self._check_usable()
        if self.run_entry is not None:
            await self._handshake(COMMAND_PAUSE, STATUS_DEACTIVATED)
            self._let_in()

    def _let_in(self) -> None:
        """Producers wait for half a ring of room, and a paused kernel makes no more: let them use what there is."""
        for edge in self.edges:
            edge.ring.putting.notify()
            if isinstance(edge, RecordEdge):
                self._api.ring_doorbell_at(edge.ring.doorbell_address)

    async def _check_usable(self) -> None:
        """Raises if the kernel has failed, or was told to end, and the supervisor does not know yet."""
        if self._failing is not None:
            await self.wait_end()
        if self.has_ended or self._terminating:
            raise self.ended_reason() or KernelStateError(f"kernel {self.kernel_id!r} is TERMINATING")

    @asynccontextmanager
    async def token(self) -> AsyncIterator[None]:
        """Hold the token for a moment, whatever the state; the kernel runs on afterwards if it ran.

        Of a kernel that is ending, the token is had when it has ended.
        """
        running = self.run_entry is not None
        if running:
            try:
                await self.pause()
            except KernelStateError:
                if not self._is_ending:
                    raise
        if self._terminating or self._failing is not None:
            await self.wait_end()
        try:
            yield
        finally:
            if running and self.run_entry is None and not self._is_ending:
                await self._go_on()

    async def _go_on(self) -> None:
        """Run again after somebody has held the token. A kernel that cannot has ended; that is nothing to whoever held
        it."""
        try:
            await self.start()
        except Exception as error:
            if self._is_ending:
                return
            if self.run_entry is not None:
                raise
            self._finished(error)

    # --- the end ---------------------------------------------------------------------------------------------

    async def finish(self, timeout: float, *, drain: bool) -> None:
        self._terminating = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(-1)  # a pending pause is superseded
        if self.has_ended:
            return
        if self.run_entry is None and self._failing is None:
            self._finished(None)
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if drain:
            for edge in self._reading:
                edge.limit = edge.published()
            self._command(COMMAND_DRAIN)
            await self._wait_while_it_gets_on(deadline)
        if not self.has_ended:
            self._command(COMMAND_STOP)
            await self._wait_over(max(GRACE_S, deadline - loop.time() if not drain else 0.0))
        if not self.has_ended and self._failing is None:
            self._take_by_force(timeout)
        await self.wait_end()

    async def end_by_force(self, error: Exception) -> None:
        with suppress(Exception):
            self._command(COMMAND_STOP)
            await self._wait_over(GRACE_S)
        if self.has_ended or self._failing is not None:
            return
        try:
            self._take_by_force(0.0, error)
        except Exception as worse:  # noqa: BLE001 (whatever it is)
            if not self.has_ended:
                self._give_up_worker()
                self._abandon("could not be taken from who runs it", worse)

    def _give_up_worker(self) -> None:
        """Nobody knows what has become of an eviction: leave the kernel its worker."""
        if self.run_entry is not None:
            self._services.pool.abandon(self.run_entry)
            self.run_entry = None

    async def _wait_over(self, timeout: float) -> bool:
        with suppress(asyncio.TimeoutError):
            await self.wait_end(timeout)
        return self.has_ended

    async def _wait_while_it_gets_on(self, deadline: float) -> None:
        """Until the kernel has ended, the time is over, or it has only waited for room for a while."""
        loop = asyncio.get_running_loop()
        seen, since = self._progress(), loop.time()
        while not self.has_ended and (left := deadline - loop.time()) > 0:
            if await self._wait_over(min(STALL_S / 2, left)):
                return
            progress = self._progress()
            if progress != seen or not self.block.read(BLOCK.blocked):
                seen, since = progress, loop.time()
            elif loop.time() - since >= STALL_S:
                return

    def _progress(self) -> tuple[int, int]:
        low = 0 if self.output is None else self._api.slowest_head(self.output.address)
        return self.block.read(BLOCK.turns), low

    def _take_by_force(self, timeout: float, cause: Exception | None = None) -> None:
        """The kernel has not answered, or could not be asked because of `cause`. Unless it only waits for a worker
        that another one holds, its handler does not return."""
        outcome = Eviction.FREE if self.run_entry is None else self._services.pool.evict(self.run_entry)
        if outcome is Eviction.GIVING_BACK:
            return  # its answer is on the way
        self.run_entry = None
        if outcome is Eviction.FREE:
            self._finished(cause)
        elif cause is None:
            self._abandon(f"did not return from its handler within {timeout:g} s")
        else:
            self._abandon("could not be ended properly", cause)

    def _abandon(self, why: str, cause: Exception | None = None) -> None:
        """Leave the kernel its memory and its thread, and let everybody else go on."""
        self.in_flight = self.block.read(BLOCK.in_flight)
        self.block.quarantine()
        rings = {edge.ring for edge in (*self.edges, *self._reading)}
        self._services.pool.keepalive.append((self.span, rings, self.output, self._writing))
        error = KernelStateError(
            f"kernel {self.kernel_id!r} {why} and was abandoned: its thread is lost, {self.in_flight} message(s) are "
            f"in flight"
        )
        error.__cause__ = cause
        logger.warning("%s", error)
        self._finished(error)

    def close_inputs(self) -> None:
        stuck = self.block.address + self.block.read(BLOCK.fault_edge) if self.in_flight else 0
        for edge in self.edges:
            assert isinstance(edge, RecordEdge)
            if edge.address == stuck:
                edge.quarantine(self.in_flight)
        if self.in_flight and self.output is not None:
            self.output.quarantine()
        super().close_inputs()

    async def _failed(self) -> None:
        error = await failure_of(self)
        self._finished(error)

    def _finished(self, error: BaseException | None) -> None:
        self._take_token()
        self.end(error)
        self._answer_with(STATUS_TERMINATED)
        for waiter in self._waiters:
            waiter.set()

    # --- looking inside --------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """A consistent copy of the block's counters, as a record."""
        return self.block.counters(lambda: self.has_ended)

    def _ns_of(self, ticks: int) -> int:
        return self._parker.clock.ns_of(ticks)

    def exception_of(self, number: int) -> tuple[type[BaseException] | None, tuple[Any, ...]]:
        """The class and arguments of the exception that a fault's `info` means; None if none was raised."""
        return described(number)

    def ledger(self) -> Ledger:
        block = self.snapshot()
        histogram = tuple(
            (self._ns_of(2**i), int(count)) for i, count in enumerate(block["histogram"].tolist()) if count
        )
        return Ledger(
            processed=int(block["processed"]),
            failed=int(block["failed"]),
            in_flight=self.in_flight or (0 if self.run_entry is None else int(block["in_flight"])),
            dropped=int(block["dropped"]),
            busy_s=self._ns_of(int(block["busy_ticks"])) / 1e9,
            turns=int(block["turns"]),
            peak_input=int(block["peak_input"]),
            peak_output=int(block["peak_output"]),
            histogram=histogram,
        )

    async def read_state(self) -> npt.NDArray[Any]:
        """A copy of the state between two spans: without stopping the kernel if it leaves a gap, else by taking the
        token for a moment."""
        view = self.block.state
        assert view is not None
        copy = np.empty_like(view)
        for _ in range(1_000):
            if self.block.copy_state(copy):
                return copy
        async with self.token():
            copy[...] = view
        return copy

    def state_copy(self) -> npt.NDArray[Any]:
        """A copy of the state. The token is the host's."""
        assert self.block.state is not None
        return self.block.state.copy()

    def take_failed(self, edge_offset: int, count: int) -> npt.NDArray[Any]:
        """The messages that the handler failed on."""
        return next(e for e in self._reading if e.address == self.block.address + edge_offset).take_failed(count)

    def write_state(self, value: npt.NDArray[Any]) -> None:
        """Replace the state. The token is the host's."""
        assert self.block.state is not None
        self.block.state[...] = value

    async def processed_up_to(self, edge: Edge, sequence: int) -> None:
        assert isinstance(edge, RecordEdge)
        reached = asyncio.Event()
        doorbell = self._parker.doorbell(reached.set)
        edge.watch(sequence, doorbell.doorbell_address)
        self._waiters += (reached,)
        try:
            while edge.position() < sequence:
                if self.has_ended:
                    raise self.ended_error()
                doorbell.arm()
                if edge.position() < sequence:
                    await reached.wait()
                    reached.clear()
            if self._failing is not None:
                await self.wait_end()
            if self.error is not None:  # the cursor has also moved over what the kernel failed on
                raise self.ended_error()
        finally:
            self._waiters = tuple(waiter for waiter in self._waiters if waiter is not reached)
            edge.watch(NEVER, 0)
            doorbell.release()

    def accepted(self) -> int:
        return super().accepted() + self._mapped_in + sum(edge.position() for edge in self._lent_edges())

    def emitted(self) -> int:
        return super().emitted() + self._through_maps()

    def received(self) -> int:
        return super().received() + self._through_maps() - self.inlet.kept

    def _through_maps(self) -> int:
        """What was written to lent rings: the map has it, up to what it has left to receivers."""
        lent = self._writing if self._writing is not self.output else None
        return self._mapped_out + (0 if lent is None else lent.position())

    def _lent_edges(self) -> list[RecordEdge]:
        return [edge for edge in self._reading if edge not in self.edges]

    def lend(self, source: RecordRing | None, result: RecordRing | None) -> None:
        """Read from `source`, and write to `result`, instead of the kernel's own rings, where they are given. The token
        is the host's. They are the engine's until `take_back`, and a worker may reach their arrays until then."""
        if source is not None:
            edge = source.edges[0]
            edge.set_doorbell(self.doorbell_address)
            self.arena.lend(source.slots)
            self._read_from([edge])
        if result is not None:
            self.arena.lend(result.slots)
            self._write_to(result)

    def take_back(self) -> None:
        """Read from, and write to, the kernel's own rings again. The token is the host's, or the kernel has ended."""
        lent = {edge.ring for edge in self._lent_edges()}
        self._mapped_in += sum(edge.position() for edge in self._lent_edges())
        self._mapped_out = self._through_maps()
        if self._writing is not None and self._writing is not self.output:
            lent.add(self._writing)
        self._read_from(self.edges)
        self._write_to(self.output)
        for ring in lent:
            if self.in_flight:
                ring.quarantine()  # a handler that does not return may reach it for ever
            else:
                self.arena.take_back(ring.slots)

    def _release_doorbell_address(self) -> None:
        if not self.in_flight:
            self._parker.release_doorbell_address(self.doorbell_address)


async def _wait_out(answer: asyncio.Future[int]) -> None:
    """Wait for the answer to a start, however often that is cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ANSWER_TIMEOUT_S
    while not answer.done() and (left := deadline - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([answer], timeout=left)
