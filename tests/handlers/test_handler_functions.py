"""A handler does what is on a list that was shown to be safe, whatever numbers it is given: it gives what NumPy gives,
or raises. The rest is refused by name."""

from __future__ import annotations

import math  # noqa: F401 (handlers made from text use it)
import operator  # noqa: F401
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest
import spans
from handler_corpus import FLOATS, HOSTILE, INTEGERS, LINEAR, REFUSED
from spans import VALUE, compile_span, function_of, in_a_child

from ringkernel.codegen.span_types import RefusedHandlerError, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.compiles, pytest.mark.timeout(300), pytest.mark.sampled(5)]

PROBE = np.dtype([("which", "i8"), ("i", "i8"), ("f", "f8")])
STATE = (np.dtype("f8"), (16,))
INITIAL = np.arange(16) * 0.25 - 1.0


def built(body: str) -> Callable[..., Any]:
    """A handler, in the scope of this module."""
    return spans.built("msg, out, state", body, globals())


def total(value: Any) -> float:
    return np.sum(np.abs(np.asarray(value) * 1.0))  # type: ignore[no-any-return]


@numba.vectorize
def vectorized(x: Any) -> Any:
    return x + 1.0


def tried(expressions: list[str]) -> Iterator[list[Any]]:
    """What goes wrong where a handler computes these of hostile values, next to memory that is not its own.

    One handler has them all, and a message says which: numba compiles what they share once.
    """
    lines = [f"if msg.which == {n}: out.value = total({expression})" for n, expression in enumerate(expressions)]
    handler = built("\n    ".join(lines))
    yield ["compiling"]
    span = compile_span(handler, SpanTypes(PROBE, VALUE, STATE))
    for which, expression in enumerate(expressions):
        yield [expression]
        integers = INTEGERS if "msg.i" in expression else [3]
        floats = FLOATS if "msg.f" in expression else [0.5]
        given = [(which, i, f) for i in integers for f in floats]
        wrong = ([*map(str, one[1:]), found] for one in given if (found := compared(function_of(span), handler, one)))
        yield [expression, list(wrong)]


def compared(compiled: Callable[..., int], python: Callable[..., Any], given: tuple[Any, ...]) -> str | None:
    """In what compiled code and NumPy differ for one message, or None. Compiled code may also fail."""
    memory = np.full(48, 1e6) + np.arange(48)
    memory[16:32] = INITIAL
    surroundings = np.delete(memory, slice(16, 32))
    message, out = np.array([given], PROBE), np.zeros(1, VALUE)
    fault = np.array([-1, 0, 0, 0], np.int64)
    compiled(message.ctypes.data, 1, out.ctypes.data, memory[16:].ctypes.data, fault.ctypes.data)
    if not np.array_equal(np.delete(memory, slice(16, 32)), surroundings):
        return "wrote outside"
    if not np.array_equal(memory[16:32], INITIAL):
        return "wrote to its argument"
    if fault[0] != -1:
        return None
    want = np.zeros(1, VALUE).view(np.recarray)[0]
    try:
        with np.errstate(all="ignore"):
            python(message.view(np.recarray)[0], want, INITIAL.copy())
    except Exception as error:  # noqa: BLE001 (whatever NumPy raises)
        return f"NumPy raises {error!r}, and this gives {out['value'][0]}"
    if not np.allclose(out["value"][0], want.value, equal_nan=True, rtol=1e-6):
        return f"NumPy gives {want.value}, and this {out['value'][0]}"
    return None


@pytest.fixture(scope="module")
def hostile() -> dict[str, Any]:
    return in_a_child("test_handler_functions", "tried", HOSTILE)


@pytest.mark.parametrize("expression", HOSTILE)
@pytest.mark.long
def test_what_is_allowed_gives_what_numpy_gives_or_raises(expression: str, hostile: dict[str, Any]) -> None:
    assert hostile[expression] == []


@pytest.fixture(scope="module")
def linear() -> dict[str, Any]:
    return in_a_child("test_handler_functions", "tried", LINEAR)


@pytest.mark.parametrize("expression", LINEAR)
@pytest.mark.long
def test_what_is_allowed_of_linear_algebra_does_so_too(expression: str, linear: dict[str, Any]) -> None:
    """But for the values where squares overflow: there they depend on the library, numba's is SciPy's."""
    found = [one for one in linear[expression] if not (abs(float(one[1])) > 1e150 and one[2].startswith("NumPy gives"))]
    assert found == []


@numba.njit
def unchecked(array: Any, i: int) -> Any:
    return array[i]


def tried_after_their_author(expressions: list[str]) -> Iterator[list[Any]]:
    """The same, once numba has code without checks for what their author has compiled."""
    unchecked(INITIAL, 1)
    yield from tried(expressions)


def test_an_index_in_a_helper_that_its_author_has_compiled_is_checked() -> None:
    expressions = ["unchecked(state, msg.i)", "math.floor(unchecked(state, msg.i))"]
    found = in_a_child("test_handler_functions", "tried_after_their_author", expressions)
    assert found == {expression: [] for expression in expressions}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_not_shown_to_be_safe_is_refused_by_name(expression: str) -> None:
    with pytest.raises(
        RefusedHandlerError,
        match=r"line \d+: .*(not among the functions that a handler may use|compiled without|is no constant)",
    ):
        compile_span(built(f"out.value = total({expression})"), SpanTypes(PROBE, VALUE, STATE))


def test_without_index_checks_the_rest_stays_refused() -> None:
    for body in ("msg.i = 3", "out.value = state.flat[msg.i]", "out.value = again(msg.i)"):
        with pytest.raises(RefusedHandlerError):
            compile_span(built(body), SpanTypes(PROBE, VALUE, STATE, check=False))


def again(n: int) -> int:
    return n if n <= 0 else again(n - 1)
