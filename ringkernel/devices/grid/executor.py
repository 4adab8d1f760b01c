"""Runs a compiled kernel as a grid, from each start to the next pause."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.codegen.faults import LARGEST
from ringkernel.devices.compiled.executor import Eviction, Executor
from ringkernel.errors import ConfigurationError, DeviceUnavailableError
from ringkernel.memory.layout import BLOCK, LAST_WORDS
from ringkernel.memory.mailbox_layout import places

if TYPE_CHECKING:
    from ringkernel.codegen.span_types import Span
    from ringkernel.devices.compiled.raised import Raised
    from ringkernel.memory.arenas import Arena

    from .hardware import Code, Memory
    from .pool import GridPool, GridRunEntry


class GridExecutor(Executor):
    """Runs a kernel as a grid. Its state, its parameters and its random numbers are in device memory while the grid
    runs, and in host memory otherwise; a table of keys is in host memory, which the grid reaches."""

    arena_only = True
    outlives_end = True
    finds_new_memory = shares_state = False
    measures_waits = False
    cost = "its memory stays allocated"

    def __init__(self, span: Span, code: Code, arena: Arena, pool: GridPool) -> None:
        self.hardware, self.device = pool.hardware, pool.hardware.name
        self.run(span, code)
        self._arena, self._pool = arena, pool
        self.run_entry: GridRunEntry | None = None
        self._is_given_up = False
        self._memory: list[Memory] = []

    def run(self, span: Span, code: Code) -> None:
        """Run this from now on, by as many threads as before. The token is the host's."""
        self.code = code
        self.span_address, self.end_span_address = code.span_of(0), code.end_span
        self.never_drops, self._n_spans = span.never_drops, 1 + len(span.further)

    # --- memory ----------------------------------------------------------------------------------------------

    def build(self) -> None:
        declaration, output = self.kernel.declaration, self.kernel.rings.output
        self.context_nbytes = self.kernel.block.context_nbytes
        self.context_address = self._allocate(self.context_nbytes)
        itemsize = declaration.output_type.dtype.itemsize if declaration.output_type is not None else 0
        self.staging_address = self._allocate(self.code.n_threads * itemsize)
        if output is not None:
            output.want(0)  # the grid never sleeps for room, but its watcher does

    def _allocate(self, nbytes: int) -> int:
        if nbytes == 0:
            return 0
        memory = self.hardware.allocate(nbytes + -nbytes % 8, self._arena)
        self.kernel.taken.append(partial(self._release, memory))
        self._memory.append(memory)
        return memory.address

    def _release(self, memory: Memory) -> None:
        if not self._is_given_up:
            memory.release()

    def check_edges(self, n_inputs: int, n_consumers: int) -> None:
        limit = self.hardware.max_mailbox_nbytes
        by_time = self.kernel.declaration.order is not None
        if places(n_inputs, n_consumers, self.code.n_threads, by_time=by_time).nbytes > limit:
            raise ConfigurationError(
                f"kernel {self.kernel.kernel_id!r} on {self.device} cannot have {n_inputs} inputs, and {n_consumers} "
                f"consumers of its output: what a block keeps of them must fit in {limit} bytes; connect some of them "
                f"through a kernel between"
            )

    def span_of(self, number: int) -> int:
        return self.code.span_of(number) if 0 < number < self._n_spans else 0

    def keep(self, reachable: Any) -> None:
        self._pool.keepalive.append((self.code, reachable, self._memory))

    # --- the token -------------------------------------------------------------------------------------------

    @property
    def has_token(self) -> bool:
        return self.run_entry is not None

    def hand_over(self) -> None:
        self.run_entry = self._pool.start(self)

    def take_token(self) -> None:
        if self.run_entry is not None:
            self._pool.dequeue(self.run_entry)
            self.run_entry = None

    def has_told(self) -> bool:
        """A last word counts once the watcher has told of it. Before that the grid may still be writing it, and what
        stands there may be the last word of the grid before."""
        if self.run_entry is None or self.kernel.block.read(BLOCK.status) not in LAST_WORDS:
            return True
        return self._pool.is_over(self.run_entry)

    def can_restart(self) -> bool:
        return not self._pool.is_closing

    def take_back(self) -> bool:
        return False  # a grid cannot be evicted: one that answers late is told to pause

    # --- the end ---------------------------------------------------------------------------------------------

    def evict(self) -> Eviction:
        if self.run_entry is None:
            return Eviction.FREE
        self.abandon()
        return Eviction.ABANDONED

    def abandon(self) -> None:
        self._is_given_up = True
        if self.run_entry is not None:
            self._pool.give_up(self.run_entry)
            self.run_entry = None

    def unanswered(self, timeout: float) -> str:
        return f"did not acknowledge the stop within {timeout:g} s, so its handler has not returned,"

    def take_answer(self, before: int) -> bool:
        block = self.kernel.block
        if block.read(BLOCK.answers) == before or block.read(BLOCK.status) not in LAST_WORDS:
            return False
        assert self.run_entry is not None
        self._pool.set_over(self.run_entry)
        self.kernel.on_status()
        return True

    def lose(self, reason: str) -> None:
        if not self.kernel.has_ended and self.run_entry is not None:
            self.abandon()
            self.kernel.lose(
                DeviceUnavailableError(f"kernel {self.kernel.kernel_id!r}: {self.device} was lost: {reason}")
            )

    # --- looking inside --------------------------------------------------------------------------------------

    def ns_of(self, ticks: int) -> int:
        return int(ticks / self.hardware.ticks_per_ns)

    def ticks_of(self, ns: int) -> int:
        return int(ns * self.hardware.ticks_per_ns)

    def is_stop(self, number: int) -> bool:
        return number > LARGEST and self.code.is_stop(number)

    def exception_of(self, number: int) -> Raised:
        return (None, ()) if number == 0 else self.code.raised(number)
