"""The executor of one compiled kernel, which runs its turns: the contract of CPU workers and grids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any

from ringkernel.ring.host.clock import tick_clock

if TYPE_CHECKING:
    from .kernel import Kernel
    from .raised import Raised


class Eviction(Enum):
    """The outcome of taking a kernel from its executor."""

    FREE = "it was not in a turn, and is the caller's"
    GIVING_BACK = "it is about to give its token back by itself"
    ABANDONED = "it is in its handler; nothing that it does from now on counts"


class Executor(ABC):
    """Runs the turns of one kernel. It has the token from `hand_over` on, until `take_token`."""

    device: str
    """The name that users see."""
    arena_only = False
    """True if it reaches no memory but the arena's."""
    outlives_end = False
    """True if one that was abandoned may go on reading and writing all that it reaches, cursors too."""
    finds_new_memory = True
    """True if it reaches memory that was allocated since it was last started by the supervisor."""
    shares_state = True
    """True if the host can read the state while the kernel runs."""
    measures_waits = True
    """True if the block says what the kernel waits for, see `ring/waits.py`."""
    cost: str
    """The loss with an abandoned kernel, in words."""
    span_address: int
    end_span_address = 0
    """The address of what the kernel does at its end, or 0."""
    never_drops: bool
    """True if the handler emits for every message."""
    appends_inputs = False
    """True if the kernel finds an input that is appended while it runs."""
    max_threads = 1
    """The number of threads that may share a span of messages, see `ring/sharing/share.py`."""
    kernel: Kernel

    __slots__ = ("kernel",)

    def build(self) -> None:
        """Take what `kernel` needs, whose block and rings are there; how it goes back is noted in `kernel.taken`."""

    def check_edges(self, n_inputs: int, n_consumers: int) -> None:
        """Raises `ConfigurationError` for more than it can have."""

    def note_source(self) -> None:
        """Another compiled kernel feeds the kernel from now on."""

    def span_of(self, number: int) -> int:
        """The address of what handles the messages of the input of this number; 0 for `span_address`."""
        return 0

    def woken_doorbell(self) -> int:
        """The doorbell to ring for a thread that is nobody's and has woken who runs the kernel; 0 for none."""
        return 0

    @property
    def is_bounded(self) -> bool:
        """True if its handler is known to end soon, see `codegen/bounded.py`."""
        return False

    @property
    @abstractmethod
    def has_token(self) -> bool:
        """True if the kernel runs there."""

    @abstractmethod
    def hand_over(self) -> None:
        """Run the kernel, whose token is the host's. Raises `DeviceUnavailableError`, and then has not got it."""

    def runs_here(self, count: int) -> bool:
        """Return whether the event loop's thread would run so many messages itself, and at once."""
        return False

    can_rest = False
    """True if it can tell that a kernel rests."""

    @property
    def rests(self) -> bool:
        """True if nobody touches the kernel before this thread rings it, if the event loop alone feeds it and takes
        what it emits."""
        return False

    @abstractmethod
    def take_token(self) -> None:
        """The token has come back."""

    def has_told(self) -> bool:
        """Return whether what the block says now may be believed."""
        return True

    @abstractmethod
    def take_back(self) -> bool:
        """Take the token back after a start that was cancelled. Return False if a command has to do it."""

    @abstractmethod
    def evict(self) -> Eviction:
        """Take the kernel from whatever it is doing. If it is abandoned, the token is nobody's."""

    @abstractmethod
    def abandon(self) -> None:
        """`evict` has failed halfway: leave the kernel to who runs it."""

    @abstractmethod
    def keep(self, reachable: Any) -> None:
        """Hold, for as long as the process lives, what an abandoned kernel may reach."""

    @abstractmethod
    def unanswered(self, timeout: float) -> str:
        """Return in words how a kernel did not end within `timeout` seconds."""

    def can_restart(self) -> bool:
        """Return whether to start the kernel again when who ran it has left by itself."""
        return True

    def ns_of(self, ticks: int) -> int:
        """Nanoseconds of a duration in its ticks."""
        return tick_clock().ns_of(ticks)

    def ticks_of(self, ns: int) -> int:
        """The same duration in its ticks."""
        return tick_clock().ticks_of(ns)

    def is_stop(self, number: int) -> bool:
        """Return whether a fault's `info` means that the handler has raised `StopIteration`."""
        return False

    @abstractmethod
    def exception_of(self, number: int) -> Raised:
        """The class and arguments of the exception that a fault's `info` means; None if none was raised."""
