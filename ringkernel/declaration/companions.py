"""Handlers beside a kernel's own: of its further inputs, for times that pass, for the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ringkernel.errors import ConfigurationError

from .registry import check_module, place_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.messages.types import MessageType


@dataclass(frozen=True, eq=False, slots=True)
class InputHandler:
    """Handles the messages of a further input."""

    name: str
    func: Callable[..., Any]
    message_type: MessageType
    batch: bool


@dataclass(frozen=True, eq=False, slots=True)
class TimerHandler:
    """Handles each multiple of a period that time passes. `every` as it was given."""

    func: Callable[..., Any]
    every: Any
    name: str = "timer"


@dataclass(frozen=True, eq=False, slots=True)
class EndHandler:
    """Is called after the last message."""

    func: Callable[..., Any]
    name: str = "end"


Companion: TypeAlias = InputHandler | TimerHandler | EndHandler


class Companions:
    """All that is declared in this process, by the id of the kernel; each in the order of its first declaration."""

    def __init__(self) -> None:
        self._by_id: dict[str, dict[tuple[type, str], Companion]] = {}
        self._beside: dict[tuple[str, type, str], Any] = {}

    def add(self, kernel_id: str, companion: Companion, declaration: Any) -> None:
        """Let this be the kernel's handler of its kind and name; `declaration` is what its id means, None if nothing
        yet. Raises `ConfigurationError` if another module has declared one, or another function is one already of the
        same declaration."""
        of_kernel = self._by_id.setdefault(kernel_id, {})
        key = type(companion), companion.name
        if key in of_kernel:
            check_module(kernel_id, of_kernel[key].func, companion.func)
            if self._beside.get((kernel_id, *key)) in (None, declaration):
                _check_again(kernel_id, of_kernel[key], companion)
        of_kernel[key] = companion
        self._beside[kernel_id, *key] = declaration

    def inputs(self, kernel_id: str) -> tuple[InputHandler, ...]:
        """The further inputs of a kernel."""
        return tuple(one for one in self._of(kernel_id) if isinstance(one, InputHandler))

    def timer(self, kernel_id: str) -> TimerHandler | None:
        """Its timer, if it has one."""
        return next((one for one in self._of(kernel_id) if isinstance(one, TimerHandler)), None)

    def end(self, kernel_id: str) -> EndHandler | None:
        """Return the handler of its end, if it has one."""
        return next((one for one in self._of(kernel_id) if isinstance(one, EndHandler)), None)

    def _of(self, kernel_id: str) -> tuple[Companion, ...]:
        return tuple(self._by_id.get(kernel_id, {}).values())


def _check_again(kernel_id: str, before: Companion, after: Companion) -> None:
    """Refuse a second handler of a kind and name. One of the same name is the first one, edited. Raises
    `ConfigurationError`."""
    one, other = before.func, after.func
    places = place_of(one), place_of(other)
    has_name = one.__name__ not in NAMELESS
    is_elsewhere = one.__code__.co_filename == other.__code__.co_filename and places[0] != places[1]
    if one.__qualname__ == other.__qualname__ and (has_name or not is_elsewhere):
        return
    what, remedy = {
        InputHandler: (f"input {before.name!r} is", "give the second input a name of its own"),
        TimerHandler: ("timer is", "a kernel has one timer, so let it do both: its period divides the longer one"),
        EndHandler: ("end is", "a kernel has one on_end(), so let it do both"),
    }[type(before)]
    raise ConfigurationError(
        f"kernel {kernel_id!r}: its {what} handled by {one.__name__}, at {places[0]}, which {other.__name__}, at "
        f"{places[1]}, would replace; {remedy}. To replace it, declare the kernel again first"
    )


NAMELESS = ("<lambda>", "_")
"""Names that say nothing of whether a function is the same one, edited."""
companions = Companions()
