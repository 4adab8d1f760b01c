"""Read types and defaults from a handler's parameters: `def f(msg: Tick, out: Quote, state=np.zeros(2))`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ringkernel.errors import MessageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable


def first_type_of(kernel_id: str, func: Callable[..., Any]) -> Any:
    """Return the annotation of the first parameter, a message's type or a source's output type; None if there is none.
    Raises `MessageTypeError` if it cannot be evaluated."""
    return next((_annotation(kernel_id, func, one) for one in _parameters(func)[:1]), None)


def is_source(func: Callable[..., Any]) -> bool:
    """Return whether a handler is a source, without messages: its first parameter is called `out`."""
    return [one.name for one in _parameters(func)[:1]] == ["out"]


def output_type_of(kernel_id: str, func: Callable[..., Any], *, n_behind: int) -> Any:
    """Return the annotation of `out`, or None: of the second parameter, if that is none of the last `n_behind` and has
    no default. Raises `MessageTypeError` if it cannot be evaluated."""
    parameters = _parameters(func)
    rest = parameters[1 : len(parameters) - n_behind]
    return next((_annotation(kernel_id, func, one) for one in rest[:1] if one.default is one.empty), None)


def with_defaults(func: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a handler behind its messages, by name and in order. One that is given as None becomes
    the default of the last parameter, if that has its name."""
    rest = _parameters(func)[1:]
    while rest and rest[-1].name not in given and rest[-1].default is not inspect.Parameter.empty:
        rest = rest[:-1]  # a constant of the handler
    found = dict(given)
    for name in reversed(given):
        last = rest[-1] if rest else None
        if last is not None and given[name] is None and last.name == name and last.default is not last.empty:
            found[name] = last.default
        if found[name] is not None:
            rest = rest[:-1]
    return found


def _parameters(func: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(func).parameters.values())


def _annotation(kernel_id: str, func: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation; None if it has none, or `Any`."""
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
