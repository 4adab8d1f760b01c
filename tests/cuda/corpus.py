"""Handlers of every shape: what must compile to PTX, for the gate and for comparisons with the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import ringkernel as rk
from ringkernel.codegen.span_types import SpanTypes
from ringkernel.devices.compiled import compiling
from ringkernel.devices.grid.handlers import Handler, Handlers

WIDTHS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "b1"]
ALL = np.dtype([(width, width) for width in WIDTHS], align=True)
VALUE = np.dtype([("value", "f8")])
NUMBER = np.dtype([("value", "i8")])
TICK = np.dtype([("price", "f8"), ("volume", "f4"), ("id", "i4")], align=True)
GRID = np.dtype([("id", "i4"), ("a", "f4", (5,)), ("m", "i2", (2, 3))], align=True)
PART = np.dtype([("x", "f8"), ("n", "i4")], align=True)
NESTED = np.dtype([("id", "i8"), ("part", PART), ("parts", "f8", (3,))], align=True)
ODD = np.dtype([("a", "u1"), ("b", "u1"), ("c", "u1")], align=True)


@dataclass(frozen=True)
class Case:
    """A handler and what it is compiled for. `mathematics`: calls of the math library are to be expected."""

    name: str
    handler: Any
    spec: SpanTypes
    never_drops: bool = True
    mathematics: bool = False

    @property
    def handlers(self) -> Handlers:
        return Handlers((Handler(self.handler, self.spec, self.never_drops),))


def copy(msg: Any, out: Any) -> None:
    out.value = msg.value


def copy_all(msg: Any, out: Any) -> None:
    out.i1, out.i2, out.i4, out.i8 = msg.i1, msg.i2, msg.i4, msg.i8
    out.u1, out.u2, out.u4, out.u8 = msg.u1, msg.u2, msg.u4, msg.u8
    out.f4, out.f8, out.b1 = msg.f4, msg.f8, msg.b1


def keep_positive(msg: Any, out: Any) -> Any:
    out.price, out.volume, out.id = msg.price, msg.volume, msg.id
    return msg.price > 0


def early(msg: Any, out: Any) -> Any:
    if msg.id < 0:
        return False
    for i in range(msg.id):
        if msg.price > i:
            out.price = i
            return True
    out.volume = msg.volume
    return msg.volume != 0


def arrays(msg: Any, out: Any) -> Any:
    total = np.float32(0)
    for i in range(5):
        total += msg.a[i]
        out.a[i] = msg.a[4 - i]
    out.id = msg.m[1, 2]
    return total > 0


def picks(msg: Any, out: Any) -> None:
    out.value = msg.a[msg.id]


def nested(msg: Any, out: Any) -> None:
    out.id = msg.part.n
    for i in range(3):
        out.parts[i] = msg.parts[i] + msg.part.x


def odd(msg: Any, out: Any) -> Any:
    out.a, out.b, out.c = msg.c, msg.b, msg.a
    return msg.a != msg.b


def watches(msg: Any) -> None:
    if msg.value < 0:
        raise ValueError("negative")


def counts(msg: Any, out: Any, state: Any) -> None:
    state[0] += msg.value
    out.value = state[0]


def averages(msg: Any, out: Any, state: Any) -> None:
    state.price += 0.1 * (msg.price - state.price)
    state.id += 1
    out.price, out.id = state.price, state.id


def table(msg: Any, out: Any, state: Any) -> Any:
    out.value = state[msg.id, 1]
    return msg.id != 3


def remembers(msg: Any, state: Any) -> None:
    state[0] = max(state[0], msg.value)


def raises(msg: Any, out: Any) -> None:
    if msg.value > 1e9:
        raise OverflowError("too large", 3)
    if msg.value < 0:
        raise ValueError("negative")
    out.value = msg.value


def divides(msg: Any, out: Any) -> None:
    out.value = 1 / msg.value + 7 // msg.value + 3 % msg.value


def mathematics(msg: Any, out: Any) -> None:
    out.value = math.sin(msg.value) + math.pow(msg.value, 1.5) + math.exp(-msg.value)


def roots(msg: Any, out: Any) -> None:
    out.value = np.sqrt(abs(msg.value)) + np.floor(msg.value)


def helper(x: float) -> float:
    return 3 * x + 1


def calls(msg: Any, out: Any, by: Any = 2.0) -> None:
    out.value = helper(msg.value) * by


CASES = [
    Case("one scalar", copy, SpanTypes(VALUE, VALUE, None)),
    Case("all widths", copy_all, SpanTypes(ALL, ALL, None)),
    Case("drops", keep_positive, SpanTypes(TICK, TICK, None), never_drops=False),
    Case("returns early", early, SpanTypes(TICK, TICK, None), never_drops=False),
    Case("nested arrays", arrays, SpanTypes(GRID, GRID, None), never_drops=False),
    Case("index checks", picks, SpanTypes(GRID, VALUE, None)),
    Case("records in records", nested, SpanTypes(NESTED, NESTED, None)),
    Case("three bytes", odd, SpanTypes(ODD, ODD, None), never_drops=False),
    Case("no output", watches, SpanTypes(VALUE, None, None)),
    Case("an array as state", counts, SpanTypes(NUMBER, NUMBER, (np.dtype("i8"), (1,)))),
    Case("a record as state", averages, SpanTypes(TICK, TICK, (TICK, None))),
    Case("a table as state", table, SpanTypes(TICK, VALUE, (np.dtype("f8"), (4, 2))), never_drops=False),
    Case("state, no output", remembers, SpanTypes(VALUE, None, (np.dtype("f8"), (1,)))),
    Case("raises", raises, SpanTypes(VALUE, VALUE, None)),
    Case("divides", divides, SpanTypes(VALUE, VALUE, None), mathematics=True),
    Case("mathematics", mathematics, SpanTypes(VALUE, VALUE, None), mathematics=True),
    Case("roots", roots, SpanTypes(VALUE, VALUE, None)),
    Case("calls a helper", calls, SpanTypes(VALUE, VALUE, None)),
    Case("unchecked", picks, SpanTypes(GRID, VALUE, None, check=False)),
]


# --- streams: handlers that belong together -----------------------------------------------------------------------

TIMED = np.dtype([("time", "M8[ns]"), ("key", "i4"), ("x", "f8")], align=True)
FLOATS = np.dtype([("time", "f8"), ("x", "f8")], align=True)
EACH = np.zeros((), [("n", "i8"), ("sum", "f8")])
GAIN = np.array((2.0,), [("factor", "f8")])


@rk.ring_kernel("cu_joined", input_type=TIMED, output_type=TIMED, state=np.zeros(1), order_by="time")
def joined(msg: Any, out: Any, state: Any) -> None:
    out.time, out.x = msg.time, state[0]


@rk.on_input("cu_joined", "quotes", TIMED)
def joined_quotes(msg: Any, out: Any, state: Any) -> Any:
    state[0] = msg.x
    return False


@rk.ring_kernel("cu_window", input_type=FLOATS, output_type=FLOATS, state=np.zeros(1), order_by="time", late="drop")
def window(msg: Any, out: Any, state: Any) -> Any:
    state[0] += msg.x
    return False


@rk.on_timer("cu_window", every=1.5)
def window_timer(time: Any, out: Any, state: Any) -> None:
    out.time, out.x = time, state[0]


@rk.on_end("cu_window")
def window_end(out: Any, state: Any) -> None:
    out.x = state[0]


@rk.ring_kernel("cu_each", input_type=TIMED, output_type=FLOATS, state=EACH, key="key", order_by="time")
def each(msg: Any, out: Any, state: Any) -> None:
    state.n, state.sum = state.n + 1, state.sum + msg.x
    out.x = state.sum


@rk.on_timer("cu_each", every="1s")
def each_timer(time: Any, out: Any, state: Any) -> Any:
    out.x = state.sum
    return state.n > 0


@rk.on_end("cu_each")
def each_end(out: Any, state: Any) -> None:
    out.x = state.n


@rk.ring_kernel("cu_keyed", input_type=TIMED, output_type=FLOATS, state=EACH, key="key")
def keyed(msg: Any, out: Any, state: Any) -> None:
    state.n, state.sum = state.n + 1, state.sum + msg.x
    out.x = state.sum


@rk.ring_kernel("cu_scaled", input_type=FLOATS, output_type=FLOATS, params=GAIN)
def scaled(msg: Any, out: Any, params: Any) -> None:
    out.x = msg.x * params.factor


@rk.on_input("cu_scaled", "more", TIMED)
def scaled_more(msg: Any, out: Any, params: Any) -> Any:
    out.x = msg.x + params.factor
    return msg.key > 0


@rk.ring_kernel("cu_draws", output_type=FLOATS, rng=7, state=np.zeros(1))
def draws(out: Any, state: Any, rng: Any) -> None:
    state[0] += 1
    if state[0] > 100:
        raise StopIteration
    out.x = rng.normal() + rng.random() + rng.integers(0, 10)


STREAMS = {
    declaration.kernel_id: declaration
    for declaration in (vars(one)["__ring_kernel__"] for one in (joined, window, each, keyed, scaled, draws))
}


def handlers_of(declaration: Any) -> Handlers:
    """All that a kernel's grid runs, compiled for the CPU before."""
    span = compiling.find_now(declaration)
    return Handlers.of(declaration, replace(span, end=span if declaration.end is not None else None))
