"""A handler may call ordinary Python functions: they are compiled with it, and stay what they were."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numba import njit
from spans import compile_span, function_of

from ringkernel.codegen.span_types import RefusedHandlerError, SpanTypes
from ringkernel.codegen.specialise import Specializer

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE = np.dtype([("value", "f8")], align=True)
SCALE = 3.0


def run(handler: Callable[..., Any], *values: float) -> list[float]:
    """A handler's outputs, compiled as a span."""
    span = compile_span(handler, SpanTypes(VALUE, VALUE, None))
    return call(span, values)


def call(span: Any, values: Any) -> list[float]:
    source = np.array([(value,) for value in values], VALUE)
    target = np.zeros(len(values), VALUE)
    fault = np.array([-1, 0, 0, 0], np.int64)
    function = function_of(span)
    emitted = function(source.ctypes.data, len(values), target.ctypes.data, 0, fault.ctypes.data)
    assert fault[0] == -1
    return list(target["value"][:emitted].tolist())


def double(x: float) -> float:
    return 2.0 * x


def quadruple(x: float) -> float:
    return double(double(x))


def with_default(x: float, factor: float = 5.0) -> float:
    return x * factor


def with_keyword(x: float, *, factor: float = 7.0) -> float:
    return x * factor


def factorial(n: int) -> int:
    if n <= 1:
        return 1
    return n * factorial(n - 1)


def is_even(n: int) -> bool:
    if n == 0:
        return True
    return is_odd(n - 1)


def is_odd(n: int) -> bool:
    if n == 0:
        return False
    return is_even(n - 1)


@njit
def compiled_by_its_author(x: float) -> float:
    return x + 0.5


# --- in handlers -------------------------------------------------------------------------------------------------


def test_a_helper_and_what_it_calls_in_turn() -> None:
    def handler(msg: Any, out: Any) -> None:
        out.value = quadruple(msg.value) + double(1.0)

    assert run(handler, 1.0, 2.0) == [6.0, 10.0]


def test_a_global_number_a_module_and_a_compiled_function() -> None:
    def handler(msg: Any, out: Any) -> None:
        out.value = compiled_by_its_author(SCALE * math.sqrt(msg.value)) + np.abs(-1.0)

    assert run(handler, 4.0) == [7.5]


def test_a_closure_over_numbers_and_functions() -> None:
    offset = 10.0

    def add(x: float) -> float:
        return x + offset

    def handler(msg: Any, out: Any) -> None:
        out.value = add(msg.value) * 2.0

    assert run(handler, 1.0) == [22.0]


def test_closures_of_the_same_function_do_not_mix() -> None:
    def make(offset: float) -> Callable[..., Any]:
        def add(x: float) -> float:
            return x + offset

        def handler(msg: Any, out: Any) -> None:
            out.value = add(msg.value)

        return handler

    first, second = make(1.0), make(2.0)
    assert (run(first, 0.0), run(second, 0.0), run(first, 0.0)) == ([1.0], [2.0], [1.0])


def test_defaults_and_keywords_of_helpers() -> None:
    def handler(msg: Any, out: Any) -> None:
        out.value = with_default(msg.value) + with_default(msg.value, 1.0) + with_default(msg.value, factor=2.0)

    assert run(handler, 1.0) == [8.0]


def test_defaults_of_the_handler_itself() -> None:
    def handler(msg: Any, out: Any, factor: float = 4.0) -> None:
        out.value = msg.value * factor

    assert run(handler, 2.0) == [8.0]


@njit
def recursive_by_its_author(n: int) -> int:
    if n <= 1:
        return 1
    return n * recursive_by_its_author(n - 1)  # type: ignore[no-any-return]


def countdown(n: int) -> int:
    def again(n: int) -> int:
        return countdown(n - 1)

    if n <= 0:
        return 0
    return 1 + again(n)


@pytest.mark.parametrize(
    ("helper", "name"),
    [
        (factorial, "factorial calls itself"),
        (countdown, "countdown calls itself"),
        (recursive_by_its_author, "recursive_by_its_author calls itself"),
        (is_even, "is_even calls itself .through is_odd"),
    ],
)
def test_recursion_is_refused(helper: Callable[..., Any], name: str) -> None:
    """Nothing bounds its depth, and the stack of a worker's thread ends the process."""

    def handler(msg: Any, out: Any) -> None:
        out.value = 1.0 * helper(int(msg.value))

    with pytest.raises(RefusedHandlerError, match=name):
        run(handler, 5.0)


def test_a_function_defined_inside_the_handler() -> None:
    def handler(msg: Any, out: Any) -> None:
        def shifted(x: float) -> float:
            return double(x) + 1.0

        out.value = shifted(msg.value)

    assert run(handler, 3.0) == [7.0]


def test_a_lambda_as_a_helper() -> None:
    square: Callable[[float], float] = lambda x: x * x  # noqa: E731

    def handler(msg: Any, out: Any) -> None:
        out.value = square(msg.value)

    assert run(handler, 3.0) == [9.0]


def test_a_helper_reads_records() -> None:
    def half(record: Any) -> float:
        return float(record.value) * 0.5

    def handler(msg: Any, out: Any) -> None:
        out.value = half(msg)

    assert run(handler, 3.0) == [1.5]


def test_a_field_that_is_called_like_a_function_of_the_module() -> None:
    """`value` below is a field; that the module also has a function of this name must not matter."""
    scope: dict[str, Any] = {}
    source = "async def value():\n    pass\n\ndef handler(msg, out):\n    out.value = msg.value\n"
    exec(source, scope)
    assert run(scope["handler"], 2.0) == [2.0]


def test_the_function_of_the_user_is_left_as_it_was() -> None:
    def handler(msg: Any, out: Any) -> None:
        out.value = double(msg.value)

    before = dict(handler.__globals__)
    run(handler, 1.0)
    assert handler.__globals__ == before
    assert handler.__globals__["double"] is double
    message, out = np.zeros(1, VALUE).view(np.recarray)[0], np.zeros(1, VALUE).view(np.recarray)[0]
    message.value = 2.0
    handler(message, out)
    assert out.value == 4.0


# --- the specializer itself --------------------------------------------------------------------------------------


def placeholder(x: int) -> int:
    raise AssertionError("never called")


def uses_placeholder(x: int) -> int:
    return placeholder(x) + placeholder(x)


def uses_it_through_another(x: int) -> int:
    return uses_placeholder(x) + 1


def identity(function: Callable[..., Any]) -> Any:
    return function


def test_names_are_replaced_through_every_level() -> None:
    specializer = Specializer(identity, {placeholder: lambda x: 10 * x})
    assert specializer(uses_it_through_another)(2) == 41
    with pytest.raises(AssertionError, match="never called"):
        uses_it_through_another(2)


def test_each_function_is_compiled_once() -> None:
    compiled: list[str] = []

    def jit(function: Callable[..., Any]) -> Any:
        compiled.append(function.__name__)
        return function

    specializer = Specializer(jit, {placeholder: abs})
    specializer(uses_it_through_another)
    specializer(uses_placeholder)
    assert sorted(compiled) == ["uses_it_through_another", "uses_placeholder"]
    assert specializer(uses_placeholder) is specializer(uses_placeholder)
    assert abs in specializer.compiled()


def test_two_targets_do_not_see_each_other() -> None:
    first = Specializer(identity, {placeholder: lambda x: x})
    second = Specializer(identity, {placeholder: lambda x: -x})
    assert (first(uses_placeholder)(3), second(uses_placeholder)(3)) == (6, -6)


def test_a_copy_keeps_what_a_function_says_of_itself() -> None:
    copy = Specializer(identity).rebind(with_keyword)
    assert (copy.__name__, copy.__qualname__, copy.__module__) == ("with_keyword", "with_keyword", __name__)
    assert copy.__kwdefaults__ == {"factor": 7.0}
    assert Specializer(identity).rebind(with_default)(2.0) == 10.0
    assert copy is not with_keyword
