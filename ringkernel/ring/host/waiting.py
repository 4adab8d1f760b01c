"""The waiters of a ring in the event loop, as the ring knows them: whether one sleeps, and how to notify it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"

    def __bool__(self) -> bool:
        return False


NOTHING: Final = _Nothing()
"""Returned by an attempt that has to wait."""


class Waiting(Protocol):
    """A line of waiters. `asks`: the first one sleeps, and is to be notified."""

    @property
    def asks(self) -> bool:
        """True while a waiter sleeps."""

    def notify(self) -> None:
        """Something may have changed for the first waiter."""


class Nobody:
    """A line that nobody stands in."""

    asks = False

    def notify(self) -> None:
        """Do nothing."""


NOBODY: Final[Waiting] = Nobody()


class Lines:
    """Several lines as one."""

    def __init__(self, lines: Iterable[Waiting]) -> None:
        self._lines = tuple(lines)

    @property
    def asks(self) -> bool:
        """True while a waiter sleeps in one of them."""
        return any(line.asks for line in self._lines)

    def notify(self) -> None:
        """Something may have changed for the first waiter of each."""
        for line in self._lines:
            if line.asks:
                line.notify()


def together(lines: Iterable[Waiting]) -> Waiting:
    """These lines as one, without those that nobody stands in."""
    real = [line for line in lines if line is not NOBODY]
    return Lines(real) if len(real) > 1 else real[0] if real else NOBODY
