"""Whole numbers divide and wrap around as NumPy's, and nothing traps; what may not fit is refused, not cut off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import spans
from spans import call, in_a_child

from ringkernel.codegen.span_types import RefusedHandlerError, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.compiles, pytest.mark.timeout(300), pytest.mark.sampled(3)]

DIVISIONS = ["a % b", "a // b", "divmod(a, b)[0]", "divmod(a, b)[1]", "np.mod(a, b)", "np.remainder(a, b)"]
DIVISIONS += ["np.floor_divide(a, b)", "np.divmod(a, b)[0]", "np.divmod(a, b)[1]", "np.fmod(a, b)"]
OF_ARRAYS = [expression for expression in DIVISIONS if not expression.startswith("divmod")]
"""Numba knows `divmod` of scalars only."""
WIDTHS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def built(parameters: str, body: str) -> Callable[..., Any]:
    """A handler, in the scope of this module."""
    return spans.built(parameters, body, globals())


def divided(widths: list[str]) -> Iterator[list[Any]]:
    """Where divisions give other values than NumPy's, message by message and for a whole batch."""
    for width in widths:
        yield [width]
        yield [width, [*wrong_divisions(width, batch=False), *wrong_divisions(width, batch=True)]]


def wrong_divisions(width: str, *, batch: bool) -> list[Any]:
    info = np.iinfo(width)
    values = sorted({int(info.min), int(info.min) + 1, max(-7, int(info.min)), 0, 1, 3, int(info.max)})
    values = values if info.min == 0 else [*values, -1]
    given = np.array([(a, b) for a in values for b in values], [("a", width), ("b", width)])
    expressions = OF_ARRAYS if batch else DIVISIONS
    whole = np.dtype([(f"e{n}", width) for n in range(len(expressions))])
    name = np.dtype(width).name
    if batch:
        lines = ["a = msgs.a; b = msgs.b"]
        lines += [f"outs.e{n}[:] = ({expression}).astype(np.{name})" for n, expression in enumerate(expressions)]
    else:
        lines = ["a = msg.a; b = msg.b"]
        lines += [f"out.e{n} = np.{name}({expression})" for n, expression in enumerate(expressions)]
    handler = built("msgs, outs" if batch else "msg, out", "\n    ".join(lines))
    got = call(handler, SpanTypes(given.dtype, whole, None, batch=batch), given.copy())
    wrong: list[Any] = []
    for n, expression in enumerate(expressions):
        with np.errstate(all="ignore"):
            want = eval(expression, {"np": np}, {"a": given["a"], "b": given["b"]})  # noqa: S307 (from the list above)
        found = got[f"e{n}"]
        wrong += [[expression, batch, *map(int, (*given[i], found[i], want[i]))] for i in np.flatnonzero(found != want)]
    return wrong


@pytest.fixture(scope="module")
def divisions() -> dict[str, Any]:
    return in_a_child("test_handler_arithmetic", "divided", WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.long
def test_whole_numbers_divide_as_numpy_divides_them(width: str, divisions: dict[str, Any]) -> None:
    """The lowest by -1, and everything by 0, too: nothing traps."""
    assert divisions[width] == []


NUMBERS = np.dtype(
    [
        ("i", "i4"),
        ("a", "i8"),
        ("b", "i1"),
        ("u", "u1"),
        ("w", "u8"),
        ("f", "f8"),
        ("is", "i4", (3,)),
        ("as", "i8", (3,)),
    ]
)
CUT_OFF = [
    "out.i = msg.a", "out.u = msg.b", "out.u = msg.i", "out.a = msg.w", "out.w = msg.a", "out.i = msg.a + 1",
    "out.i += msg.a", "out.b = 200", "out.u = -1", "out['i'] = msg.a", "out.i = len(out.is_)", "out.is_[0] = msg.a",
    "out.is_[:] = msg.as_", "out.is_[:] = msg.as_ + 1", "out.is_.fill(msg.a)", "x = msg.a\n    y = x\n    out.i = y",
    "n = 0\n    for k in range(3):\n        n += k\n    out.i = n", "out.b = msg.b + 300", "store(out, msg.a)",
    "out.i = max(msg.a, 0)", "out.i = msg.f", "out.is_.fill(msg.f)", "out.b = msg.b + msg.i", "out.i = 1 << msg.a",
]  # fmt: skip
KEPT = [
    "out.i = msg.i", "out.a = msg.i", "out.i = msg.b", "out.a = msg.u", "out.i = msg.u", "out.i = msg.i + 1",
    "out.i += 1", "out.b = 100", "out.u = 255", "out.b = -128", "out.i = np.int32(msg.a)", "out.u = np.uint8(msg.a)",
    "out.w = np.uint64(msg.a)", "out.a = np.int64(msg.w)", "out.is_[0] = msg.i", "out.is_[:] = msg.is_",
    "out.is_[:] = msg.is_ + 1", "out.is_[:] = msg.as_.astype(np.int32)", "out.is_.fill(msg.i)",
    "out.b = 1 if msg.f > 0 else -1",
    "x = 1\n    if msg.f > 0:\n        x = 2\n    out.b = x", "out.i = -msg.i",
    "out.i = abs(msg.i)", "out.i = max(msg.i, 0)",
    "out.i = msg.i * msg.b", "out.i = msg.i % 7", "out.u = msg.u & 15", "out.i = msg.f > 0", "out.a = int(msg.f)",
    "out.i = np.int32(msg.f)", "out.f = msg.a",
    "n = np.int32(0)\n    for k in range(3):\n        n += np.int32(1)\n    out.i = n",
]  # fmt: skip
RENAMED = np.dtype({"names": [n + "_" * (n in ("is", "as")) for n in NUMBERS.names or ()],
                    "formats": [NUMBERS[n] for n in NUMBERS.names or ()]})  # fmt: skip


def store(record: Any, value: Any) -> None:
    record.i = value


@pytest.mark.parametrize("body", CUT_OFF)
def test_a_number_that_may_not_fit_is_refused(body: str) -> None:
    with pytest.raises(
        RefusedHandlerError, match=r"line \d+: .* is assigned to a place of type .*; convert it explicitly"
    ):
        call(built("msg, out", body), SpanTypes(RENAMED, RENAMED, None), np.zeros(2, RENAMED))


@pytest.mark.parametrize("body", KEPT)
def test_a_number_that_fits_is_assigned(body: str) -> None:
    """As Python assigns it."""
    handler = built("msg, out", body)
    given = np.array([(3, 4, 5, 6, 7, 2.0, [1, 2, 3], [4, 5, 6]), (0, 0, 0, 0, 0, 0.0, [0] * 3, [0] * 3)], RENAMED)
    wanted = np.zeros(2, RENAMED).view(np.recarray)
    for msg, out in zip(given.view(np.recarray), wanted, strict=True):
        handler(msg, out)
    assert call(handler, SpanTypes(RENAMED, RENAMED, None), given).tobytes() == wanted.tobytes()
