"""A span is a plain loop: vectorised where it can be, without atomics and calls, and rounding as Python does."""

from __future__ import annotations

import platform
import re
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from ir import watch
from numba import njit
from spans import compile_span, function_of

from ringkernel.codegen.operations import load
from ringkernel.codegen.span_types import SpanTypes
from ringkernel.codegen.targets.cpu import compile_entry

if TYPE_CHECKING:
    from collections.abc import Callable
from ir import Code, Instruction, compiled

VALUE = np.dtype([("value", "f8")], align=True)
TICK = np.dtype([("id", "i8"), ("price", "f8")], align=True)


def scale(msg: Any, out: Any) -> None:
    out.value = 2.0 * msg.value + 1.0


def remember(msg: Any, out: Any, state: Any) -> None:
    state.value = state.value * 0.5 + msg.value
    out.value = state.value


def only_positive(msg: Any, out: Any) -> bool:
    out.value = msg.value
    return bool(msg.value > 0.0)


def transform(msg: Any, out: Any) -> None:
    out.value = np.sinh(msg.value)


def span_code(handler: Callable[..., Any], state: Any = None, **options: Any) -> list[Instruction]:
    """What the span runs per message."""
    span = compile_span(handler, SpanTypes(VALUE, VALUE, state, **options))
    code = Code(span.library.get_llvm_str())
    loops = [f for f in code.functions.values() if f.cyclic]
    assert loops, "there is no loop"
    return [one for function in loops for one in function.in_cycles()]


def is_atomic(code: list[Instruction]) -> bool:
    return any(re.search(r"\batomic\b|cmpxchg|atomicrmw|\bfence\b", one.text) for one in code)


def calls(code: list[Instruction]) -> list[str]:
    return [one.text for one in code if one.opcode in ("call", "invoke") and "@llvm." not in one.text]


def is_packed(code: list[Instruction]) -> bool:
    return any(re.search(r"(fmul|fadd|llvm\.f(ma|muladd)).*<\d+ x double>", one.text) for one in code)


def test_a_simple_span_vectorises_and_has_no_atomics_and_no_calls() -> None:
    code = span_code(scale)
    assert is_packed(code)
    assert not is_atomic(code)
    assert not calls(code)


def test_a_dropping_and_a_stateful_span_have_no_atomics_and_no_calls() -> None:
    state = (VALUE, None)
    for code in (span_code(only_positive), span_code(remember, state)):
        assert not is_atomic(code)
        assert not calls(code)


def test_the_checks_of_spans_can_fail() -> None:
    assert not is_packed(span_code(remember, (VALUE, None)))  # each message needs the one before
    assert calls(span_code(transform))
    assert is_atomic(compiled(watch).repeated("watch"))


def multiply_and_add(msg: Any, out: Any) -> None:
    out.value = msg.value * msg.value + (-1.0 - 2.0**-26)


JOINED = re.compile(r"\b(?:vfn?m(?:add|sub)|fn?m(?:add|sub|la|ls))\w*", re.IGNORECASE)
"""A product and a sum in one instruction, on x86 and on ARM."""


def test_a_span_rounds_the_product_before_it_goes_into_the_sum() -> None:
    """In one step they would give other bits than on a machine, or a device, that takes two."""
    span = compile_span(multiply_and_add, SpanTypes(VALUE, VALUE, None))
    assert not JOINED.findall(span.library.get_asm_str())
    values, results = np.full(64, 1 + 2.0**-27), np.ones(64)  # the square is 1 + 2**-26 + 2**-54
    call = function_of(span)
    fault = np.zeros(8, np.int64)
    assert call(values.ctypes.data, 64, results.ctypes.data, 0, fault.ctypes.data) == 64
    assert not results.any()


def test_that_check_can_fail() -> None:
    if not llvm.get_host_cpu_features().get("fma", platform.machine() in ("aarch64", "arm64")):
        pytest.skip("this CPU has no such instruction")

    def joined(a: float) -> float:
        return a * a + (-1.0 - 2.0**-26)

    dispatcher = njit("float64(float64)", fastmath={"contract"})(joined)
    assert JOINED.findall("".join(dispatcher.inspect_asm().values()))
    assert dispatcher(1 + 2.0**-27) == 2.0**-54


def test_a_record_of_two_fields_stays_free_of_calls_too() -> None:
    def handler(msg: Any, out: Any) -> None:
        out.id = msg.id
        out.price = msg.price * 2.0

    span = compile_span(handler, SpanTypes(TICK, TICK, None))
    code = [one for f in Code(span.library.get_llvm_str()).functions.values() for one in f.in_cycles()]
    assert code
    assert not calls(code)
    assert not is_atomic(code)


def test_an_entry_is_called_with_integers_and_returns_one() -> None:
    words = np.array([0, 7], np.int64)
    assert compile_entry(_second)(int(words.ctypes.data)) == 7


def _second(address: int) -> int:
    return load(address + 8)
