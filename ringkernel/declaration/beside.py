"""The decorators of what stands beside a kernel's own handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ringkernel.errors import ConfigurationError, MessageTypeError

from .annotations import first_type_of
from .companions import Companion, EndHandler, InputHandler, TimerHandler
from .decorator import KernelId, id_of
from .options import message_type_of
from .registry import registry
from .signature import check_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])


def on_input(kernel_id: KernelId, name: str, input_type: Any = None, *, batch: bool = False) -> Callable[[F], F]:
    """Declare a further input of a compiled kernel, with a type and a handler of its own.

    `f(msg[, out][, state][, params][, rng])` shares all but the input with the kernel's own handler. Messages come by
    `input=name`, of `send`, `send_batch`, `connect` and others. Which input is served next is their turn, or the time
    of their messages, see `order_by` of `ring_kernel`. The function itself is returned unchanged. Declaring it again,
    by a function of the same name or after its kernel, replaces it.

    Args:
        kernel_id: the kernel, by its id or its function; it may be declared later.
        name: the input's name; "" is the first one, that of `ring_kernel`.
        input_type: as in `ring_kernel`; by default the annotation of the first parameter.
        batch: the function gets contiguous slices, as in `ring_kernel`.

    Raises:
        MessageTypeError: a type that cannot be a message's.
        ConfigurationError: a name that is empty, or is another function's; a function of another kind.

    Example:
        >>> @rk.ring_kernel("level", input_type=float, output_type=float, state=np.zeros(1))
        ... def level(msg, out, state):
        ...     state[0] += msg.value
        ...     out.value = state[0]
        >>> @rk.on_input("level", "reset", float)
        ... def reset(msg, out, state):
        ...     state[0] = msg.value
        ...     return False
        >>> async with rk.managed_kernel(runtime, level):
        ...     await runtime.send(level, 100.0, input="reset")
        ...     await runtime.send(level, 1.0)
        ...     await runtime.receive(level)
        101.0
    """
    where = f"kernel {id_of(kernel_id)!r}"
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}: the name of an input is {name!r}; it must be a non-empty string")
    if not isinstance(batch, bool):
        raise ConfigurationError(f"{where}, input {name!r}: batch is {batch!r}; it must be True or False")

    def handler_of(kernel_id: str, func: Callable[..., Any]) -> InputHandler:
        given = first_type_of(kernel_id, func) if input_type is None else input_type
        message_type = message_type_of(kernel_id, f"input {name!r}", given)
        if message_type is None:
            raise MessageTypeError(
                f"{where}, input {name!r}: {func.__name__} needs a type: annotate its first parameter, as "
                f"in `msg: float`, or give it to on_input()"
            )
        return InputHandler(name, func, message_type, batch)

    return _declares(kernel_id, handler_of)


def on_timer(kernel_id: KernelId, *, every: Any) -> Callable[[F], F]:
    """Declare what a compiled kernel that goes by time does at each multiple of a period.

    It is called as `f(time[, out][, state][, params][, rng])`. Time is the field that `order_by` of `ring_kernel`
    names, and never the clock's: a multiple is passed as soon as all inputs have come to it or beyond. From the first
    message on, each multiple is handled once, in order, before the messages at or after it: so a window is
    [k, k + every). The handler returns nothing or True to emit `out`, False to emit nothing. The function itself is
    returned unchanged.

    Args:
        kernel_id: the kernel, by its id or its function; it may be declared later.
        every: the period: a number above zero in the time's unit; for a datetime64 also a `timedelta64`, or a string
            such as "1s", "250ms" or "5min".

    Raises `ConfigurationError` for a second timer of the same declaration (the same function, edited, replaces it);
    when the kernel is launched, at the latest, for a period that is not above zero, or beyond its type.

    Example:
        >>> tick = np.dtype([("time", "i8"), ("price", "f8")])
        >>> @rk.ring_kernel("candles", input_type=tick, output_type=tick, state=np.zeros(1), order_by="time")
        ... def candles(msg, out, state):
        ...     state[0] = msg.price
        ...     return False
        >>> @rk.on_timer("candles", every=10)
        ... def close_of_candle(time, out, state):
        ...     out.time, out.price = time, state[0]
        >>> async with rk.managed_kernel(runtime, candles):
        ...     await runtime.send_batch(candles, np.array([(1, 5.0), (7, 6.0), (12, 7.0)], tick))
        ...     await runtime.receive(candles)
        Record(time=10, price=6.0)
    """
    return _declares(kernel_id, lambda _, func: TimerHandler(func, every))


def on_end(kernel_id: KernelId) -> Callable[[F], F]:
    """Declare what a compiled kernel does after its last message: `f([out][, state][, params][, rng])`.

    That is when all its inputs are closed and consumed, after a `terminate` from ACTIVE has drained it, and after a
    handler has raised `StopIteration`. The function returns True to emit `out` and to be called again, nothing to emit
    it once, False to emit nothing; where there is no room it waits for some. The function itself is returned unchanged.

    Args:
        kernel_id: the kernel, by its id or its function; it may be declared later.

    Raises `ConfigurationError` for a function of another kind, or a second one. If it fails, the kernel has failed. If
    a `terminate` is not through with it in its time, or has only waited for room for a while, the kernel's `error` says
    so.

    Example:
        >>> @rk.ring_kernel("mean", input_type=float, output_type=float, state=np.zeros(2))
        ... def mean(msg, out, state):
        ...     state[0] += msg.value
        ...     state[1] += 1
        ...     return False
        >>> @rk.on_end("mean")
        ... def mean_of_all(out, state):
        ...     out.value = state[0] / state[1]
        >>> async with rk.managed_kernel(runtime, mean):
        ...     await runtime.send_batch(mean, [1.0, 2.0, 6.0])
        ...     await runtime.close_input(mean)
        ...     await runtime.receive(mean)
        3.0
    """
    return _declares(kernel_id, lambda _, func: EndHandler(func))


def _declares(kernel_id: Any, handler_of: Callable[[str, Callable[..., Any]], Companion]) -> Callable[[F], F]:
    """Return a decorator that declares a handler beside a kernel. `handler_of` makes it of the id and the function."""
    found = id_of(kernel_id)
    if not isinstance(found, str) or not found:
        raise ConfigurationError(f"{kernel_id!r} is no kernel; name it by its id, or by its function")

    def decorate(func: F) -> F:
        check_kind(found, func)
        registry.add_beside(found, handler_of(found, func))
        return func

    return decorate
