"""What a map does with its messages, in whichever way: put them in, wait, take back, give the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringkernel.ring.host.kinds import Edge
    from ringkernel.runtime.kernels.kernel import RingKernel

    from .lease import Lease


class Transfer(ABC):
    """The messages of one map and their results: `count` messages, which the first kernel has taken when its cursor on
    `source` is at `end`."""

    source: Edge
    count: int
    end: int

    lease: Lease

    def __init__(self, path: list[RingKernel], lease: Lease | None = None) -> None:
        self._path = path
        if lease is not None:
            self.lease = lease
        self._first, self._last = path[0], path[-1]

    @abstractmethod
    def position(self) -> int:
        """How many messages have been taken."""

    @abstractmethod
    async def put(self) -> None:
        """Let the first kernel have the messages. Cancelled or failed, it has none of them."""

    def end_at_once(self) -> bool:
        """As `take_back`, if that takes no waiting. Whether it is done."""
        return False

    @abstractmethod
    async def take_back(self) -> None:
        """Let the kernels go on with their own queues; they take no more of the messages. As long as it takes."""

    @abstractmethod
    def result(self) -> Any:
        """Everything that has come out by now, to be asked for once: in the array that was given, if it has the room.
        What comes later is left to receivers."""
