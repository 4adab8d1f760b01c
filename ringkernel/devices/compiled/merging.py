"""A kernel that goes by time, as the supervisor sees it: how far its inputs have come, and its patience."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.codegen.faults import BACK, LATE, NO_TIME_VALUE
from ringkernel.memory.layout import NEVER, NO_TIME, RING
from ringkernel.memory.span_layout import LANE, SPAN, lane_at
from ringkernel.messages.time_words import time_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ringkernel.ring.host_api import HostApi

    from .kernel import Kernel

SHORTEST_LOOK_S = 0.001
"""A kernel with patience looks at the clock at least so seldom."""
LOOKS = 4
"""As often after the last news: twice its patience."""


class Merging:
    """The record of one kernel's span, and its patience: if it has some, the event loop rings it now
    and then, as long as messages wait, and until it is over after the last news: it may let time pass for a timer, and
    for kernels downstream."""

    __slots__ = ("_address", "_api", "_kernel", "_looks", "_loop", "_seen", "_timer", "patience_s")

    def __init__(
        self, kernel: Kernel, api: HostApi, loop: asyncio.AbstractEventLoop, ticks_of: Callable[[int], int]
    ) -> None:
        order = kernel.declaration.order
        assert order is not None
        self._kernel, self._api, self._loop = kernel, api, loop
        self._address = kernel.block.span_address
        self.patience_s = order.patience_s
        ticks = NEVER if order.patience_s is None else ticks_of(int(1e9 * order.patience_s))
        api.lay_out_span(self._address, ticks, len(kernel.declaration.input_names))
        self._timer: asyncio.TimerHandle | None = None
        self._seen: list[tuple[int, int]] = []
        self._looks = 0
        self._look_later()

    def _look_later(self) -> None:
        if self.patience_s is not None:
            self._timer = self._loop.call_later(max(SHORTEST_LOOK_S, self.patience_s / 2), self._look)

    def _look(self) -> None:
        kernel = self._kernel
        if kernel.has_ended:
            return
        seen = [
            (edge.published(), self._api.read_word(edge.ring.address + RING.progress)) for edge in kernel.rings.reading
        ]
        if seen != self._seen or any(edge.published() > edge.position() for edge in kernel.rings.reading):
            self._seen, self._looks = seen, LOOKS
        if kernel.is_running and self._looks > 0:
            self._looks -= 1
            self._api.ring_doorbell_at(kernel.doorbell_address)
        self._look_later()

    def release(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def late(self) -> int:
        """The number of messages whose time had passed."""
        return self._word(SPAN.late)

    def in_flight(self) -> list[int]:
        """Return how many messages of each input the span that runs now may have taken."""
        return [self._word(lane_at(number) + LANE.count) for number in range(len(self._kernel.rings.reading))]

    def holding_up(self) -> list[str]:
        """The inputs that the others wait for: nothing waits there, and more may come."""
        edges, names = self._kernel.rings.reading, self._kernel.declaration.input_names
        waits = [edge.published() > edge.position() for edge in edges]
        if not any(waits):
            return []
        return [
            names[edge.input]
            for edge, has_some in zip(edges, waits, strict=True)
            if not has_some and self._api.read_word(edge.ring.address + RING.ended) == 0
        ]

    def explain(self, code: int, number: int, message: Any) -> str | None:
        """Return in words what the merge found wrong with a message of an input; None for another fault."""
        declaration = self._kernel.declaration
        order, dtype = declaration.order, declaration.times
        assert order is not None
        name = declaration.input_names[number]
        where = f"input {name!r}" if name else "its input" if not declaration.inputs else "its first input"
        time = message[order.field]
        if code == NO_TIME_VALUE:
            return f"the {order.field!r} of a message in {where} is {time}, which is no time"
        if code == BACK:
            last = time_of(dtype, self._word(lane_at(number) + LANE.last))
            return f"times within an input never go back, but in {where} {order.field}={time} follows {last}"
        if code == LATE:
            passed = time_of(dtype, self._word(SPAN.passed))
            return (
                f'a message in {where} has {order.field}={time}, and {passed} has passed; late="drop" would leave it '
                f'out, late="take" handle it all the same'
            )
        return None

    def reached(self) -> Any:
        """The time that all inputs have come to, or None."""
        low = self._word(SPAN.low)
        return None if low == NO_TIME else time_of(self._kernel.declaration.times, low)

    @property
    def timer_record(self) -> int:
        """For which of the keys, in the order in which they came, the timer's handler is called next."""
        return self._word(SPAN.timer_record)

    def timer_time(self) -> Any:
        """The multiple that the timer's handler is called with next."""
        return time_of(self._kernel.declaration.times, self._word(SPAN.timer))

    def _word(self, offset: int) -> int:
        return self._api.read_word(self._address + offset)
