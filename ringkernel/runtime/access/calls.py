"""Calls: a message goes in, and its one output comes back, at the other end of one kernel or of a chain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.memory.call_layout import CALL_DTYPE
from ringkernel.ring.host.waiting import NOBODY, NOTHING
from ringkernel.ring.turns.loop_turns import TOOK
from ringkernel.runtime.graph.neighbours import foreign_sources
from ringkernel.runtime.kernels import timeouts
from ringkernel.runtime.maps.path import check_no_targets, check_not_fed

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.ring.host.kinds import Ring
    from ringkernel.runtime.kernels.kernel import RingKernel


NOT_SENT = object()
"""Instead of an answer: the message was not sent."""


class Calls:
    """The calls of one path. Messages and outputs are told apart by their order alone, so nothing else may be on its
    way: an output belongs to the oldest call that has none."""

    __slots__ = (
        "_ahead",
        "_call",
        "_dropping",
        "_edge",
        "_getting",
        "_output",
        "_path",
        "_putting",
        "_ring",
        "_waiting",
        "_words",
        "_words_address",
        "inlet",
        "last",
        "outlet",
    )

    def __init__(self, path: list[RingKernel]) -> None:
        _check(path)
        self._path, self.last = path, path[-1]
        self.outlet, self.inlet = path[0].engine.outlet, path[-1].engine.inlet
        self._putting, self._getting = self.outlet.line, self.inlet.line
        ring: Any = self.outlet.ring
        edge: Any = self.inlet.edges[0]
        self._ring, self._edge, self._output = ring, edge, edge.ring
        self._ahead = ring.position() - edge.position()
        self._call: Callable[[int], int] | None = None
        if _is_compiled(ring, edge.ring):
            self._call = ring.api.call
            self._words = np.zeros(1, CALL_DTYPE)
            self._words["ring_address"], self._words["edge_address"] = ring.address, edge.address
            self._words["here"] = ring.here
            self._words_address = ring.api.address_of(self._words)
        self._waiting = 0  # calls that have sent their messages, and wait for the outputs
        self._dropping: set[asyncio.Task[Any]] = set()
        if any(edge.published() > edge.position() for kernel in path for edge in kernel.engine.edges):
            raise self._busy()
        if self.inlet.available():
            raise self._busy()

    def goes_through(self, kernel: RingKernel) -> bool:
        """Return True if one of these calls waits, and this kernel is in its path."""
        return self._waiting > 0 and kernel in self._path

    def _busy(self) -> KernelStateError:
        return KernelStateError(
            f"call: messages that were sent before are on their way through kernel {self._path[-1].kernel_id!r}, or "
            f"their outputs wait; receive them first"
        )

    def at_once(self, message: Any) -> Any:
        """Send a message, and take its output; `NOTHING` if one would have to wait, and then nothing was sent."""
        for kernel in self._path:
            if not kernel.engine.runs_here(1):
                return NOTHING
        answer = self.pass_through(message)
        return NOTHING if answer is NOT_SENT else answer

    def pass_through(self, message: Any, *, yielding: bool = False) -> Any:
        """Send a message, and take its output if it is there then: otherwise `NOTHING`, and `answer` waits for it.
        `NOT_SENT` if one has to wait before, or is to let others run first (`yielding`). Raises `KernelStateError` if
        the call would get the output of something else."""
        ring, edge, call = self._ring, self._edge, self._call
        tail, head = ring.tail, edge.head
        if self._waiting or self._putting.waiters or self._getting.waiters:
            return NOT_SENT
        if tail - head != self._ahead:
            raise self._busy()
        if yielding:
            return NOT_SENT
        if call is None:
            return self.inlet.take() if self.outlet.offer(message) else NOT_SENT
        # `offer` and `take` written out: this is the call that is made once per message
        if tail >= ring.ceiling and ring.room() < 1:
            return NOT_SENT
        ring.encode(tail, message)
        ring.tail = tail + 1
        said = call(self._words_address)
        if said < TOOK:
            if said:
                ring.woke(said)
            return self.inlet.take()  # which may spin for it
        edge.head = head + 1
        edge.peak = edge.peak or 1
        answer = self._output.decode(head)
        if said > TOOK:
            ring.woke(said - TOOK)
        return answer

    async def in_turn(self, message: Any, timeout: float | None, *, yielding: bool) -> Any:
        """Send the message when there is room, and wait for its output, at most `timeout` seconds in all."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        try:
            await self.outlet.wait_put(message, timeout, yielding=yielding)
        except TimeoutError:
            raise timeouts.no_room(self._path[0], timeout) from None
        return await self.answer(timeout, None if deadline is None else max(0.0, deadline - loop.time()))

    async def answer(self, timeout: float | None, left: float | None) -> Any:
        """Wait for the output of the message that was just sent, for the time that is left of `timeout`. Cancelled or
        timed out, the output is taken when it comes, and dropped, so that no other call gets it."""
        self._waiting += 1
        taking = asyncio.get_running_loop().create_task(self._take())
        try:
            done, _ = await asyncio.wait([taking], timeout=left)
        except BaseException:
            self._drop(taking)
            raise
        if not done:
            self._drop(taking)
            raise timeouts.nothing_came(self._path[-1], timeout)
        return taking.result()

    async def _take(self) -> Any:
        try:
            return await self.inlet.get()
        finally:
            self._waiting -= 1

    def _drop(self, taking: asyncio.Task[Any]) -> None:
        self._dropping.add(taking)
        taking.add_done_callback(self._has_dropped)

    def _has_dropped(self, taking: asyncio.Task[Any]) -> None:
        self._dropping.discard(taking)
        if not taking.cancelled():
            taking.exception()  # nobody else will ask for it


def _is_compiled(ring: Ring, output: Ring) -> bool:
    """Return True if both are rings of records at whose other ends no task of the event loop is."""
    if not ring.holds_records or not output.holds_records:
        return False
    return ring.getting is NOBODY and output.putting is NOBODY


def _check(path: list[RingKernel]) -> None:
    """Raises `ConfigurationError` or `KernelStateError` if outputs could not be told apart."""
    for kernel in path:
        if not kernel.engine.answers_each:
            raise ConfigurationError(
                f"call: kernel {kernel.kernel_id!r} may have no output for a message, or several (it has no "
                f"output_type, max_outputs above 1, an on_end(), or a handler that returns a value); send() and "
                f"receive() instead"
            )
    check_not_fed("call", path)
    for source, target in foreign_sources(path):
        raise KernelStateError(
            f"call: kernel {target.kernel_id!r} is fed by {source.kernel_id!r}, too, whose outputs cannot be told from "
            f"answers"
        )
    check_no_targets(path[-1], "call", "call the whole chain")
