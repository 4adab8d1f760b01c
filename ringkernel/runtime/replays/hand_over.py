"""Messages of a replay, from the event loop into a kernel's queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.waiting_line import Hold

    from .replay_plan import GivenInput


async def hand_over(one: GivenInput, batch: Any, hold: Hold) -> None:
    """Send a batch, and count it. Cancelled or failed, a prefix was sent, and is counted."""
    try:
        await one.outlet.put_many(batch, hold=hold)
    except BaseException as error:
        one.sent += getattr(error, "sent", 0)
        raise
    one.sent += len(batch)
