"""Messages in every form that `send` takes, each with a kernel that copies it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import ringkernel as rk

from .kernels import Tick, tick_array, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH = 8
NESTED = "nested array"
TICK_DTYPE = np.dtype([("id", np.int64), ("value", np.float64)])
WINDOW_DTYPE = np.dtype([("id", np.int64), ("samples", np.float32, (WIDTH,))])


class Form(NamedTuple):
    """A handler, messages for it, and whether a reply is the message."""

    handler: Callable[..., Any]
    messages: Sequence[Any]
    is_right: Callable[[Any, Any], bool]


def _value_kernel(name: str, dtype: Any) -> Callable[..., Any]:
    @rk.ring_kernel(f"bench.form {name}", input_type=dtype, output_type=dtype)
    def copy_value(msg: Any, out: Any) -> None:
        out.value = msg.value

    return copy_value


def _tick_kernel(name: str, dtype: Any) -> Callable[..., Any]:
    @rk.ring_kernel(f"bench.form {name}", input_type=dtype, output_type=dtype)
    def copy_tick(msg: Any, out: Any) -> None:
        out.id = msg.id
        out.value = msg.value

    return copy_tick


def _window_kernel(name: str, dtype: Any) -> Callable[..., Any]:
    @rk.ring_kernel(f"bench.form {name}", input_type=dtype, output_type=dtype)
    def copy_window(msg: Any, out: Any) -> None:
        out.id = msg.id
        for i in range(WIDTH):
            out.samples[i] = msg.samples[i]

    return copy_window


def _is_equal(message: Any, reply: Any) -> bool:
    return bool(message == reply)


def _is_tick(message: Any, reply: Any) -> bool:
    number, value = (message.id, message.value) if isinstance(message, Tick) else message
    return bool(reply.id == number and reply.value == value)


def _is_window(message: Any, reply: Any) -> bool:
    return bool(reply.id == message[0]) and np.array_equal(reply.samples, message[1])


def message_forms(count: int) -> dict[str, Form]:
    """So many messages of each form, by its name."""
    records = tick_array(count)
    values = np.arange(count * WIDTH, dtype=np.float32).reshape(count, WIDTH)
    scalars: dict[str, tuple[Any, Sequence[Any]]] = {
        "float": (float, [0.5 * i for i in range(count)]),
        "bool": (bool, [i % 3 == 0 for i in range(count)]),
        "datetime64": (np.dtype("M8[us]"), [np.datetime64(i, "us") for i in range(count)]),
    }
    shaped: dict[str, tuple[Any, Sequence[Any]]] = {
        "tuple": (TICK_DTYPE, records.tolist()),
        "np.void": (TICK_DTYPE, list(records)),
        "np.record": (TICK_DTYPE, list(records.view(np.recarray))),
        "dataclass": (Tick, ticks(count)),
    }
    nested = list(zip(range(count), values, strict=True))
    return {
        **{name: Form(_value_kernel(name, dtype), given, _is_equal) for name, (dtype, given) in scalars.items()},
        **{name: Form(_tick_kernel(name, dtype), given, _is_tick) for name, (dtype, given) in shaped.items()},
        NESTED: Form(_window_kernel(NESTED, WINDOW_DTYPE), nested, _is_window),
    }
