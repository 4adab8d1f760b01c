"""Handlers beside a kernel's own: of its further inputs, for times that pass, for the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

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
