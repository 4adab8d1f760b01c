"""What rings know of those who wait for them in the event loop: next to nothing."""

from __future__ import annotations

from typing import Final, Protocol


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"

    def __bool__(self) -> bool:
        return False


NOTHING: Final = _Nothing()
"""What an attempt returns that has to wait."""


class Waiting(Protocol):
    """A line of waiters. `asks`: the first one sleeps, and is to be notified."""

    asks: bool

    def notify(self) -> None:
        """Something may have changed for the first waiter."""


class Nobody:
    """A line that nobody stands in."""

    asks = False

    def notify(self) -> None:
        """Nobody to notify."""


NOBODY: Final[Waiting] = Nobody()
