"""One input of a replay: its values are handed over, batch by batch, and then the input is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.runtime.graph.closing import close_input

from .hand_over import hand_over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ringkernel.devices.event_loop.waiting_line import Hold

    from .pace import Pace
    from .replay_lend import LentInputs
    from .replay_plan import GivenInput


async def feed(one: GivenInput, hold: Hold, lent: LentInputs | None, pace: Pace | None) -> None:
    """Hand all values over, at the head of the outlet's line, and close the input. `lent` is where they are taken
    from already, if they are; `pace` says when each is due, if that matters."""
    engine = one.kernel.engine
    if lent is not None:
        edge = lent.edges[one.name]
        await engine.processed_up_to(edge, edge.ring.position())
    else:
        async for batch in _batches(one):
            if pace is None:
                await hand_over(one, batch, hold)
            else:
                await pace.hand_over(one, batch, hold)
    if pace is not None:
        pace.leave(one)
    if not engine.has_ended:
        close_input(one.kernel, one.name)


async def _batches(one: GivenInput) -> AsyncIterator[Any]:
    """The values as they are sent. Raises `MessageTypeError` for a batch of another type."""
    if one.count is not None:
        yield one.values
    elif hasattr(one.values, "__aiter__"):
        async for values in one.values:
            yield one.batch_of(values)
    else:
        for values in one.values:
            yield one.batch_of(values)
