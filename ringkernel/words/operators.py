"""Operators, comparisons and calls of the C library on words, as LLVM instructions: see `words.py`."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core.cgutils import get_or_insert_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

I64 = ir.IntType(64)


def compared(build: Any, how: str, left: Any, right: Any) -> Any:
    """1 or 0."""
    return build.zext(build.icmp_signed(how, left, right), I64)


def divided(build: Any, left: Any, right: Any) -> tuple[Any, Any]:
    """Quotient and remainder, rounded down; 0 where the divisor is."""
    is_zero = build.icmp_signed("==", right, I64(0))
    divisor = build.select(is_zero, I64(1), right)
    quotient, rest = build.sdiv(left, divisor), build.srem(left, divisor)
    differ = build.icmp_signed("<", build.xor(rest, divisor), I64(0))
    is_above = build.and_(build.icmp_signed("!=", rest, I64(0)), differ)
    quotient = build.select(is_above, build.sub(quotient, I64(1)), quotient)
    rest = build.select(is_above, build.add(rest, divisor), rest)
    return build.select(is_zero, I64(0), quotient), build.select(is_zero, I64(0), rest)


def extreme(build: Any, how: str, words: list[Any]) -> Any:
    """The least of several words, or the greatest."""
    found = words[0]
    for word in words[1:]:
        found = build.select(build.icmp_signed(how, word, found), word, found)
    return found


def is_among(build: Any, word: Any, numbers: Iterable[int]) -> Any:
    """1 if a word is one of these numbers."""
    found: Any = I64(0)
    for number in numbers:
        found = build.or_(found, compared(build, "==", word, I64(number)))
    return found


def call_of_c(build: Any, called: Any, words: list[Any]) -> Any:
    """A call of the C library, by numba's `ExternalFunction`; its numbers may be narrower than words."""
    kinds = [ir.IntType(kind.bitwidth) for kind in called.sig.args]
    result = called.sig.return_type
    kind = ir.FunctionType(ir.IntType(result.bitwidth), kinds)
    given = [build.trunc(word, kind) for word, kind in zip(words, kinds, strict=True)]
    returned = build.call(get_or_insert_function(build.module, kind, called.symbol), given)
    return build.sext(returned, I64) if result.signed else build.zext(returned, I64)


def _comparison(how: str) -> Callable[[Any, Any, Any], Any]:
    return lambda build, left, right: compared(build, how, left, right)


BINARY: dict[Any, Callable[[Any, Any, Any], Any]] = {
    operator.add: ir.IRBuilder.add,
    operator.sub: ir.IRBuilder.sub,
    operator.mul: ir.IRBuilder.mul,
    operator.and_: ir.IRBuilder.and_,
    operator.or_: ir.IRBuilder.or_,
    operator.xor: ir.IRBuilder.xor,
    operator.lshift: ir.IRBuilder.shl,
    operator.rshift: ir.IRBuilder.ashr,
    operator.floordiv: lambda build, left, right: divided(build, left, right)[0],
    operator.mod: lambda build, left, right: divided(build, left, right)[1],
    operator.lt: _comparison("<"),
    operator.le: _comparison("<="),
    operator.gt: _comparison(">"),
    operator.ge: _comparison(">="),
    operator.eq: _comparison("=="),
    operator.ne: _comparison("!="),
}
UNARY: dict[Any, Callable[[Any, Any], Any]] = {
    operator.neg: ir.IRBuilder.neg,
    operator.invert: ir.IRBuilder.not_,
    operator.not_: lambda build, word: compared(build, "==", word, I64(0)),
}
