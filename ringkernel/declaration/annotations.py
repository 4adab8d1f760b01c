"""What a handler's parameters say of its types: `def f(msg: Tick, out: Quote, state=np.zeros(2))`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ringkernel.errors import MessageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable


def input_type_of(kernel_id: str, func: Callable[..., Any]) -> Any:
    """The annotation of the first parameter, or None. Raises `MessageTypeError` if it cannot be evaluated."""
    return next((_annotation(kernel_id, func, one) for one in _parameters(func)[:1]), None)


def output_type_of(kernel_id: str, func: Callable[..., Any], *, has_state: bool) -> Any:
    """The annotation of `out`, or None: of the second parameter, if that is not the state (the last one, if there is a
    state) and has no default. Raises `MessageTypeError` if it cannot be evaluated."""
    rest = _parameters(func)[1:]
    if has_state:
        rest = rest[:-1]
    return next((_annotation(kernel_id, func, one) for one in rest[:1] if one.default is one.empty), None)


def state_of(func: Callable[..., Any]) -> Any:
    """What a last parameter called `state` is by default, or None."""
    last = _parameters(func)[1:][-1:]
    return next((one.default for one in last if one.name == "state" and one.default is not one.empty), None)


def _parameters(func: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(func).parameters.values())


def _annotation(kernel_id: str, func: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """What stands behind a parameter's colon; None if nothing does, or if that may be anything."""
    given = parameter.annotation
    if isinstance(given, str):
        nonlocals = inspect.getclosurevars(func).nonlocals
        try:
            given = eval(given, dict(func.__globals__), dict(nonlocals))  # noqa: S307 (the function's own text)
        except Exception as error:
            raise MessageTypeError(
                f"kernel {kernel_id!r}: the annotation of `{parameter.name}`, {given!r}, cannot be evaluated: {error}; "
                f"define it at the top of the module, or give the types to ring_kernel()"
            ) from error
    return None if given in (parameter.empty, Any) else given
