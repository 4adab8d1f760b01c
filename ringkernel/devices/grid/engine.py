"""Compiled kernels on a device that runs grids: the same handshakes, rings and ends as on a CPU worker."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.devices.cpu.engine import CompiledEngine
from ringkernel.errors import ConfigurationError, DeviceUnavailableError, KernelStateError
from ringkernel.memory.layout import BLOCK, COMMAND_PAUSE, COMMAND_RUN, LAST_WORDS, STATUS_DESERTED
from ringkernel.memory.mailbox_layout import CONTROL, mailbox_nbytes
from ringkernel.ring.record_edge import RecordEdge

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ringkernel.codegen.span_types import Span
    from ringkernel.declaration.decorator import Declaration
    from ringkernel.devices.services import Services
    from ringkernel.ring.kinds import Edge
    from ringkernel.ring.record_ring import RecordRing

    from .device import Code, GridDevice, Memory
    from .pool import GridRunEntry

logger = logging.getLogger("ringkernel")


class GridEngine(CompiledEngine):
    """Runs a compiled kernel as a grid, from each start to the next pause. The token is the grid's while there is a
    `run_entry`; the state is in device memory then, and in host memory otherwise."""

    reaches_arena_only = True
    __slots__ = (
        "_is_given_up",
        "_last_words",
        "_memory",
        "code",
        "device",
        "grid_device",
        "staging_address",
        "state_address",
    )

    def __init__(
        self, declaration: Declaration, span: Span, services: Services, device: GridDevice, code: Code
    ) -> None:
        self.grid_device, self.code, self.device = device, code, device.name
        self._is_given_up = False
        self._last_words: tuple[Any, int] | None = None
        self._memory: list[Memory] = []
        super().__init__(declaration, span, services)

    def build(self) -> None:
        super().build()
        declaration, code = self.declaration, self.code
        self.state_address = self._allocate(0 if declaration.state is None else declaration.state.nbytes)
        is_cooperative = declaration.output_type is not None and declaration.state is None
        itemsize = declaration.output_type.dtype.itemsize if declaration.output_type is not None else 0
        self.staging_address = self._allocate(code.n_threads * itemsize if is_cooperative else 0)
        if self.output is not None:
            self.output.want(0)  # the grid never sleeps for room, but its watcher does

    def _allocate(self, nbytes: int) -> int:
        if nbytes == 0:
            return 0
        memory = self.grid_device.allocate(nbytes + -nbytes % 8, self._parker.arena)
        self.taken.append(partial(self._release_memory, memory))
        self._memory.append(memory)
        return memory.address

    def _release_memory(self, memory: Memory) -> None:
        if not self._is_given_up:
            memory.release()

    def add_input(self, edge: Edge) -> None:
        """As for every kernel. Raises `ConfigurationError` if the device's block cannot hold that many."""
        limit = self.grid_device.max_mailbox_nbytes
        n_consumers = 0 if getattr(self, "output", None) is None else len(self.output.edges)  # type: ignore[union-attr]
        if mailbox_nbytes(len(self.edges) + 1, n_consumers, self.code.n_threads) > limit:
            raise ConfigurationError(
                f"kernel {self.kernel_id!r} on {self.device} cannot have {len(self.edges) + 1} inputs: what a block "
                f"keeps of them must fit in {limit} bytes; connect some of them through a kernel between"
            )
        super().add_input(edge)

    @property
    def connections(self) -> tuple[list[RecordEdge], RecordRing | None]:
        """The edges that it reads from now, its own or lent ones, and the ring that it writes to."""
        return self._reading, self._writing

    # --- the handshake ---------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        self.run_entry = self._services.grids.start(self)

    def _take_token(self) -> None:
        if self.run_entry is not None:
            self._services.grids.dequeue(self.run_entry)
            self.run_entry = None

    def _on_status(self) -> None:
        """As for every kernel; a grid that ended because it heard nothing of the host starts again.

        A last word counts once the watcher has told it. Before that the grid may still be writing it, and what stands
        there may be the last word of the grid before.
        """
        if (
            self.run_entry is not None
            and self.block.read(BLOCK.status) in LAST_WORDS
            and not self._is_told(self.run_entry)
        ):
            return
        if self.run_entry is not None and not self.has_ended and self.block.read(BLOCK.status) == STATUS_DESERTED:
            self._take_token()
            if not self._services.grids.is_closing:
                logger.warning(
                    "kernel %r: its grid had heard nothing of this process, and starts again", self.kernel_id
                )
                self._enqueue_again()
            return
        super()._on_status()

    def _is_told(self, run_entry: Any) -> bool:
        return bool(self._api.read_word(run_entry.control.address + CONTROL.is_over))

    @property
    def was_started(self) -> bool:
        return self.run_entry is not None and self._commanded != COMMAND_PAUSE

    def _retract(self, command: int) -> None:
        """A grid cannot be evicted: one that answers late is told to pause."""
        if command == COMMAND_RUN and self.run_entry is not None:
            if not self._is_ending:
                self._command(COMMAND_PAUSE)
            return
        super()._retract(command)

    # --- the end ---------------------------------------------------------------------------------------------

    def _take_by_force(self, timeout: float, cause: Exception | None = None) -> None:
        if self.run_entry is None:
            self._finished(cause)
        elif cause is None:
            self._abandon(f"did not acknowledge the stop within {timeout:g} s, so its handler has not returned")
        else:
            self._abandon("could not be ended properly", cause)

    def _give_up_worker(self) -> None:
        """`_abandon` does it."""

    def _abandon(self, why: str, cause: Exception | None = None) -> None:
        error = KernelStateError(
            f"kernel {self.kernel_id!r} on {self.device} {why}; it was abandoned: {self.block.read(BLOCK.in_flight)} "
            f"message(s) are in flight, its memory stays allocated"
        )
        error.__cause__ = cause
        self._give_up(error)

    def take_answer(self, before: int) -> bool:
        """A grid is over that has begun when there were `before` answers: take what it said. False if it said
        nothing."""
        if self.block.read(BLOCK.answers) == before or self.block.read(BLOCK.status) not in LAST_WORDS:
            return False
        self._api.write_word(self.run_entry.control.address + CONTROL.is_over, 1)  # type: ignore[union-attr]
        self._on_status()
        return True

    def is_lost(self, reason: str) -> None:
        """The device has ended the grid, or is gone."""
        if self.has_ended or self.run_entry is None:
            return
        self._give_up(DeviceUnavailableError(f"kernel {self.kernel_id!r}: {self.device} was lost: {reason}"))

    def _give_up(self, error: Exception) -> None:
        """Let everybody else go on without this grid, which may still reach what it could reach."""
        run_entry: GridRunEntry = self.run_entry  # type: ignore[assignment]
        self._is_given_up = True
        self._services.grids.give_up(run_entry)
        self.run_entry = None
        self.in_flight = self.block.read(BLOCK.in_flight)
        self._last_words = super().snapshot(), super().emitted()
        self.block.quarantine()
        rings = {edge.ring for edge in (*self.edges, *self._reading)}
        self._services.grids.keepalive.append((self.code, rings, self.output, self._writing, self._memory))
        logger.warning("%s", error)
        self._finished(error)

    def close_inputs(self) -> None:
        if self._is_given_up:
            for edge in self.edges:
                assert isinstance(edge, RecordEdge)
                edge.ring.quarantine()
            if self.output is not None:
                end = self.output.position()
                for consumer in self.output.edges:
                    consumer.limit = min(consumer.limit, end)  # what comes late is nobody's
                self.output.quarantine()
        super().close_inputs()
        lost, reason = self.unreadable()
        if lost:
            logger.warning("kernel %r: %d message(s) that it had not taken are lost: %s", self.kernel_id, lost, reason)

    async def _failed(self) -> None:
        try:
            await super()._failed()
        except DeviceUnavailableError as error:  # what it failed on cannot be read
            self._finished(error)

    # --- looking inside --------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """As for every kernel; of a grid that was given up, what it had said by then, whatever it does later."""
        return super().snapshot() if self._last_words is None else self._last_words[0]

    def emitted(self) -> int:
        return super().emitted() if self._last_words is None else self._last_words[1]

    def _ns_of(self, ticks: int) -> int:
        return int(ticks / self.grid_device.ticks_per_ns)

    def exception_of(self, number: int) -> tuple[type[BaseException] | None, tuple[Any, ...]]:
        return (None, ()) if number == 0 else self.code.raised(number)

    async def read_state(self) -> npt.NDArray[np.generic]:
        """A copy of the state between two spans, by taking the token for a moment: the grid then
        copies it to host memory."""
        async with self.token():
            return self.state_copy()
