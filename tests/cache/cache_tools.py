"""What tests of the compile cache share: a handler made from text, its key, and its span."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spans import function_of

from ringkernel.cache.fingerprint import fingerprint_of
from ringkernel.cache.store import SUFFIX
from ringkernel.codegen import span_cache
from ringkernel.codegen.span_types import Plan, Span, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE = np.dtype([("value", "f8")])
INDEX = np.dtype([("value", "i8")])
SPEC = SpanTypes(VALUE, VALUE, None)


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{SUFFIX}"))


SOURCE = """
import math
import numpy as np
from enum import IntEnum
from numba import njit

SCALE = 2.0
TABLE = np.array([1.0, 2.0])
PAIR = (1, "a")
RECORD = np.array([(1.0, 2)], [("x", "f8"), ("n", "i4")])

class Side(IntEnum):
    BUY = 1
    SELL = 2

def inner(x):
    return x + OFFSET

OFFSET = 1.0

def helper(x, factor=3.0):
    return factor * inner(x)

@njit(fastmath=False)
def jitted(x):
    return x + 1.5

def make(closed, default):
    def handler(msg, out, extra=default):
        total = closed + msg.value * SCALE + extra + TABLE[0] + RECORD[0].x + PAIR[0] + (2 if Side.BUY == 1 else 3)
        out.value = helper(total) + jitted(total) + library.f(total) + math.sin(total) + np.pi
        if out.value > 1e6:
            raise ValueError("large")
    return handler

handler = make(5, 6)
"""
LIBRARY = """
from numba import njit
DEPTH = 1.0

@njit
def f(x):
    return x * DEPTH

def unread():
    return 1
"""


def built(source: str = SOURCE, library: str = LIBRARY, file: str = "built") -> Callable[..., Any]:
    """The handler of a module made from source text, which reads another one."""
    helpers = types.ModuleType("helpers_of_a_test")
    exec(compile(library, f"{file}_library.py", "exec"), helpers.__dict__)
    scope: dict[str, Any] = {"__name__": "built", "library": helpers}
    exec(compile(source, f"{file}.py", "exec"), scope)
    return scope["handler"]  # type: ignore[no-any-return]


def key(handler: Callable[..., Any]) -> str:
    return fingerprint_of(handler).hexdigest()


def find_span(handler: Callable[..., Any], types: SpanTypes) -> Span:
    """The span of one handler, from the cache or compiled."""
    return span_cache.find_span(Plan.of(handler, types))


def run(span: Span, values: list[float], dtype: np.dtype[Any] = VALUE) -> tuple[list[float], int, int]:
    """What a span emits for values, the index of a failure (-1: none), and the address of its description."""
    call = function_of(span)
    source, target = np.array([(value,) for value in values], dtype), np.zeros(2 * len(values), VALUE)
    fault = np.full(16, -1, np.int64)
    emitted = call(source.ctypes.data, len(source), target.ctypes.data, 0, fault.ctypes.data)
    return target["value"][:emitted].tolist(), int(fault[0]), int(fault[1])


def is_cached(span: Span) -> bool:
    return span.library is None
