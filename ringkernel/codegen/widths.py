"""Which whole numbers a variable of typed code may hold, as NumPy counts: `msg.i + 1` of an int32 is an int32 there.

Numba makes an int64 of most sums, so its own types cannot say whether an assignment would cut a number off.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numba.core import ir

_KEEPING = frozenset(
    {
        *(operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.lshift, operator.rshift),
        *(operator.and_, operator.or_, operator.xor, operator.neg, operator.pos, operator.invert),
        *(operator.iadd, operator.isub, operator.imul, operator.ifloordiv, operator.imod, operator.ilshift),
        *(operator.irshift, operator.iand, operator.ior, operator.ixor),
        *(np.add, np.subtract, np.multiply, np.floor_divide, np.remainder, np.negative, np.absolute),
        *(np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift, np.minimum, np.maximum),
    }
)
"""Operations whose result is of its operands' common type."""


@dataclass(frozen=True)
class Whole:
    """Numbers from `low` to `high`. `of_type` is the NumPy type that they have; None: they are constants."""

    low: int
    high: int
    of_type: Any = None

    def fits(self, kind: Any) -> bool:
        """Return whether a place of this type holds all of them."""
        return bool(kind.minval <= self.low and self.high <= kind.maxval)


def whole(kind: Any) -> Whole | None:
    """All numbers of a numba type, or of an array's items; None if they are no whole numbers."""
    kind = kind.dtype if isinstance(kind, types.Array) else kind
    if isinstance(kind, types.IntegerLiteral):
        return Whole(kind.literal_value, kind.literal_value)
    if not isinstance(kind, types.Integer):
        return None
    return Whole(kind.minval, kind.maxval, np.dtype(str(kind)))


class Widths:
    """The whole numbers that the variables of one function may hold."""

    def __init__(self, annotation: Any) -> None:
        self._typemap = annotation.typemap
        self._known: dict[str, Whole] = {}
        body = [node for block in annotation.blocks.values() for node in block.body]
        assigned = [node for node in body if isinstance(node, ir.Assign) and self._type_of(node.target) is not None]
        before = None
        while before != self._known:  # a loop's variable depends on itself
            before = dict(self._known)
            for node in assigned:
                ranges = [self._known.get(node.target.name), self._of(node.value, self._type_of(node.target))]
                if any(ranges):
                    self._known[node.target.name] = _any_of([one for one in ranges if one is not None])

    def of(self, variable: Any) -> Whole | None:
        """Return what a variable may hold; None if it is no whole number."""
        kind = self._type_of(variable)
        return kind and self._known.get(variable.name, kind)

    def _type_of(self, variable: Any) -> Whole | None:
        return whole(self._typemap.get(variable.name))

    def _of(self, value: Any, kind: Any) -> Whole | None:
        """Of what is assigned to a variable of this type; None while that is not known yet."""
        if isinstance(value, ir.Const | ir.Global | ir.FreeVar | ir.Var):
            return self._operand(value, kind)
        op = getattr(value, "op", None)
        if op == "arrayexpr":
            return self._tree(value.expr, kind)
        if op in ("cast", "phi") or self._calls(value, min, max):
            known = [one for one in self._operands(value, kind) if one is not None]
            return _any_of(known) if known else None
        if (op in ("binop", "inplace_binop", "unary") and value.fn in _KEEPING) or self._calls(value, abs):
            return _combined(self._operands(value, kind), kind)
        return kind  # type: ignore[no-any-return]

    def _operands(self, value: Any, kind: Any) -> list[Whole | None]:
        variables = value.args if value.op == "call" else value.list_vars()
        return [self._operand(one, kind) for one in variables]

    def _operand(self, value: Any, kind: Any) -> Whole | None:
        if isinstance(value, ir.Var):
            return self._known.get(value.name) if self._type_of(value) is not None else kind
        number = value.value
        return Whole(int(number), int(number)) if type(number) is int else kind

    def _tree(self, tree: Any, kind: Any) -> Whole | None:
        """Of an expression over arrays."""
        if not isinstance(tree, tuple):
            return self._operand(tree, kind)
        function, arguments = tree
        return _combined([self._tree(one, kind) for one in arguments], kind) if function in _KEEPING else kind

    def _calls(self, value: Any, *functions: Any) -> bool:
        if getattr(value, "op", None) != "call":
            return False
        return getattr(self._typemap.get(value.func.name), "typing_key", None) in functions


def _any_of(ranges: list[Whole]) -> Whole:
    types_ = [one.of_type for one in ranges if one.of_type is not None]
    low, high = min(one.low for one in ranges), max(one.high for one in ranges)
    return Whole(low, high, np.result_type(*types_) if types_ else None)


def _combined(operands: list[Whole | None], kind: Any) -> Whole | None:
    """Of the result of an operation, by NumPy's rules: constants are of the others' type, where they fit."""
    if None in operands:
        return None
    ranges = [one for one in operands if one is not None]
    types_ = [one.of_type for one in ranges if one.of_type is not None]
    common = np.result_type(*types_) if types_ else np.dtype(float)
    if common.kind not in "iu":
        return kind  # type: ignore[no-any-return]
    info: Any = np.iinfo(common)
    low, high = int(info.min), int(info.max)
    fits = all(low <= one.low and one.high <= high for one in ranges)
    return Whole(low, high, common) if fits else kind
