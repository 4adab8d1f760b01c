"""All that comes out of a kernel, as one array: it grows while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.messages.arrays import from_array
from ringkernel.ring.host.waiting import NOTHING

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.inlet import Inlet
    from ringkernel.devices.event_loop.waiting_line import Hold
    from ringkernel.messages.types import MessageType

_LEAST = 1024
WASTE = 8
"""A result that fills a smaller part of its array is copied, and the array given back. A copy of 160 MB takes 40 ms, as
long as a join of ten million messages."""


class Growing:
    """Outputs of one kernel: records in an array, or objects in a list. Records are appended to the first `filled` of
    an array, if that is given."""

    def __init__(self, message_type: MessageType | None, records: Any = None) -> None:
        self._type = message_type
        self._objects: list[Any] = []
        self.filled = 0
        if message_type is not None:
            self._records = np.empty(_LEAST, message_type.dtype) if records is None else records

    async def take_all(self, inlet: Inlet, hold: Hold) -> None:
        """Take what comes, at the head of the inlet's line, until it says why nothing more will."""
        while True:
            if self._type is None:
                self._objects += await inlet.get_many(hold=hold)
                continue
            room = self._records[self.filled :]
            is_full = not len(room)
            if is_full:  # as it is, too, when all has come that does
                room = np.empty(_LEAST, self._records.dtype)
            yielding = inlet.budget.spend()
            count: Any = NOTHING if yielding else inlet.try_get_many(len(room), room)
            if count is NOTHING:
                count = await inlet.wait_get_many(len(room), None, hold, target=room, yielding=yielding)
            if is_full:
                self._grow(room[:count])
            self.filled += count

    def _grow(self, more: Any) -> None:
        """Make room behind what is there, and put these first."""
        grown = np.empty(2 * (self.filled + len(more)), self._records.dtype)
        grown[: self.filled] = self._records
        grown[self.filled : self.filled + len(more)] = more
        self._records = grown

    def result(self) -> Any:
        """All of it; nothing may be taken after that."""
        if self._type is None:
            return self._objects
        records = self._records[: self.filled]
        return from_array(self._type, records.copy() if len(records) * WASTE < len(self._records) else records)
