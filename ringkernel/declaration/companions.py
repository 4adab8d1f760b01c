"""Handlers beside a kernel's own: of its further inputs, for times that pass, for the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .registry import check_module

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

    def add(self, kernel_id: str, companion: Companion) -> None:
        """Let this be the kernel's handler of its kind and name. Raises `ConfigurationError` if another module has
        declared that."""
        of_kernel = self._by_id.setdefault(kernel_id, {})
        key = type(companion), companion.name
        if key in of_kernel:
            check_module(kernel_id, of_kernel[key].func, companion.func)
        of_kernel[key] = companion

    def inputs(self, kernel_id: str) -> tuple[InputHandler, ...]:
        """The further inputs of a kernel."""
        return tuple(one for one in self._of(kernel_id) if isinstance(one, InputHandler))

    def timer(self, kernel_id: str) -> TimerHandler | None:
        """Its timer, if it has one."""
        return next((one for one in self._of(kernel_id) if isinstance(one, TimerHandler)), None)

    def end(self, kernel_id: str) -> EndHandler | None:
        """What is called at its end, if anything."""
        return next((one for one in self._of(kernel_id) if isinstance(one, EndHandler)), None)

    def _of(self, kernel_id: str) -> tuple[Companion, ...]:
        return tuple(self._by_id.get(kernel_id, {}).values())


companions = Companions()
