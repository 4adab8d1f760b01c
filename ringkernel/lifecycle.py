"""The lifecycle as data: states, commands, and the one table that supervisor, documentation and tests read."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType

from .errors import KernelStateError


class KernelState(Enum):
    """The state of a kernel.

    Example:
        >>> kernel = await runtime.launch(double)
        >>> kernel.state is rk.KernelState.LAUNCHED
        True
    """

    CREATED = "created"
    """Declared, not launched: there is nothing but the declaration."""
    LAUNCHED = "launched"
    """Queues, memory and compiled code exist; nothing of the user's has run."""
    ACTIVE = "active"
    """Takes messages."""
    DEACTIVATED = "deactivated"
    """Takes no messages; they queue up. Can be reactivated."""
    TERMINATING = "terminating"
    """Finishes what was queued when it was told to end."""
    TERMINATED = "terminated"
    """Over. What it emitted and what it never took can still be had."""


class Command(Enum):
    """An event in a kernel's life: a method of the runtime, or `FINISH` and `FAIL`, which the kernel does itself.

    Example:
        >>> rk.TRANSITIONS[rk.KernelState.LAUNCHED, rk.Command.ACTIVATE].name
        'ACTIVE'
    """

    LAUNCH = "launch"
    ACTIVATE = "activate"
    DEACTIVATE = "deactivate"
    REACTIVATE = "reactivate"
    TERMINATE = "terminate"
    FINISH = "finish"
    FAIL = "fail"


_S, _C = KernelState, Command

TRANSITIONS: MappingProxyType[tuple[KernelState, Command], KernelState] = MappingProxyType(
    {
        (_S.CREATED, _C.LAUNCH): _S.LAUNCHED,
        (_S.LAUNCHED, _C.ACTIVATE): _S.ACTIVE,
        (_S.ACTIVE, _C.DEACTIVATE): _S.DEACTIVATED,
        (_S.DEACTIVATED, _C.REACTIVATE): _S.ACTIVE,
        (_S.ACTIVE, _C.TERMINATE): _S.TERMINATING,
        (_S.DEACTIVATED, _C.TERMINATE): _S.TERMINATING,
        (_S.LAUNCHED, _C.TERMINATE): _S.TERMINATING,
        # a kernel that ends by itself; a paused coroutine kernel may still return or raise
        (_S.TERMINATING, _C.FINISH): _S.TERMINATED,
        (_S.ACTIVE, _C.FINISH): _S.TERMINATED,
        (_S.DEACTIVATED, _C.FINISH): _S.TERMINATED,
        (_S.TERMINATING, _C.FAIL): _S.TERMINATED,
        (_S.ACTIVE, _C.FAIL): _S.TERMINATED,
        (_S.DEACTIVATED, _C.FAIL): _S.TERMINATED,
    }
)

OPEN = (KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED)
"""The states in which a kernel takes messages, or will do so."""

_AUTOMATIC = (Command.FINISH, Command.FAIL)


def allowed_commands(state: KernelState) -> list[str]:
    """Return the methods that a kernel in this state accepts."""
    return [command.value for (source, command) in TRANSITIONS if source is state and command not in _AUTOMATIC]


def next_state(kernel_id: str, state: KernelState, command: Command) -> KernelState:
    """Return the state that a command leads to. Raises `KernelStateError` when the table has no such row."""
    try:
        return TRANSITIONS[state, command]
    except KeyError:
        allowed = allowed_commands(state)
        choices = " or ".join(f"{name}()" for name in allowed) if allowed else "nothing: this state is final"
        if state is KernelState.TERMINATING:
            choices = "only waiting for its end"
        raise KernelStateError(
            f"kernel {kernel_id!r}: cannot {command.value} while it is {state.name}; allowed is {choices}"
        ) from None
