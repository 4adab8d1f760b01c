"""Finds out whether a handler provably ends soon: it has no loop but over arrays and over ranges of known length, and
all of them together cannot come to much. That there is no recursion was checked before (`checks.py`).

How long a handler takes is measured. This is about what a measurement cannot know: that no message makes it take for
ever.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from numba import types
from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .typed_code import Statement, TypedFunction

MAX_STEPS = 1 << 24
"""The innermost loops may run so often for a message, at most: ten milliseconds of the simplest."""
ARRAY_STEPS = 256
"""A loop over an array counts for so many steps: it is part of a message, of the state or of a batch, seldom long."""


def is_bounded(program: Iterable[Statement]) -> bool:
    """Return whether that holds for the statements of a compiled handler and of all functions that it leads to. What
    prints needs Python, and of a function that is not compiled here nothing is known."""
    functions = {}
    for statement in program:
        if isinstance(statement.node, ir.Print) or _calls_outside(statement):
            return False
        functions[id(statement.function)] = statement.function
    most = 1
    for one in functions.values():  # each might be called in the innermost loop of another
        steps = _steps_of_loops(one)
        if steps is None:
            return False
        most *= steps
    return most <= MAX_STEPS


def _calls_outside(statement: Statement) -> bool:
    """Return whether it calls what is not compiled here: a function by its address, of C or of numba's."""
    value = getattr(statement.node, "value", None)
    outside = types.ExternalFunctionPointer | types.ExternalFunction | types.FunctionType
    return _is(value, "call") and isinstance(statement.type_of(value.func), outside)  # type: ignore[union-attr]


def _steps_of_loops(one: TypedFunction) -> int | None:
    """Return how often the innermost loop of a function may run at most, each time that it is called; None if that is
    not known."""
    loops = compute_cfg_from_blocks(one.blocks).loops().values()
    lengths = {loop.header: _length(one, one.blocks[loop.header]) for loop in loops}
    if None in lengths.values():
        return None
    nests = (prod(lengths[around.header] for around in loops if loop.header in around.body) for loop in loops)  # type: ignore[misc]
    return max(nests, default=1)


def _length(one: TypedFunction, header: Any) -> int | None:
    """Return how often a loop with this block at its head, which takes the next item of something, runs at most."""
    steps = [node.value for node in header.body if isinstance(node, ir.Assign) and _is(node.value, "iternext")]
    known = [length for step in steps if (length := _length_of_iterator(one, step.value)) is not None]
    return min(known, default=None)


def _length_of_iterator(one: TypedFunction, iterator: Any) -> int | None:
    made = one.only(iterator)
    if isinstance(made, ir.Var):
        return _length_of_iterator(one, made)
    if not _is(made, "getiter"):
        return None
    kind = one.type_of(made.value)
    if isinstance(kind, types.Array):
        return ARRAY_STEPS
    if isinstance(kind, types.BaseTuple):
        return len(kind)
    if not isinstance(kind, types.RangeType):
        return None
    call = one.only(made.value)
    if isinstance(call, ir.Var):
        call = one.only(call)
    return _length_of_range(one, call.args) if _is(call, "call") else None


def _length_of_range(one: TypedFunction, arguments: Any) -> int | None:
    """Return how long a range with these arguments is at most, whatever its step."""
    bounds = [_bounds(one, argument) for argument in arguments[:2]]
    if len(arguments) == 1:
        bounds.insert(0, (0, 0))
    if bounds[0] is None or bounds[1] is None:
        return None
    (start_low, start_high), (end_low, end_high) = bounds[0], bounds[1]
    upwards = max(0, end_high - start_low)
    return upwards if len(arguments) < 3 else max(upwards, start_high - end_low)


def _bounds(one: TypedFunction, argument: Any) -> tuple[int, int] | None:
    """Return the least and the greatest that an argument of a range can be."""
    held = one.numbers(argument)
    if held is not None and held.high <= MAX_STEPS:
        return held.low, held.high
    made = one.only(argument)
    is_len = _is(made, "call") and getattr(one.only(made.func), "value", None) is len
    return (0, ARRAY_STEPS) if is_len and isinstance(one.type_of(made.args[0]), types.Array) else None


def _is(value: Any, op: str) -> bool:
    return isinstance(value, ir.Expr) and value.op == op
