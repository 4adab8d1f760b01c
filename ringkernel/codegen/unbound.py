"""Refuses functions in which a name may be read before it is bound: compiled, that is a crash or an arbitrary value.

A definite assignment analysis (Gosling et al., The Java Language Specification, chapter 16) of the bytecode, which is
what numba compiles, and where `del`, `try` and closures still are what they were: forwards, and what holds where ways
meet is what holds on all of them. A loop over a constant range or tuple is known to run. The rule is one for all
values, and is checked before anything runs; a look at every read of every message would cost time, and the error would
come from the message for which the code was not written.
"""

from __future__ import annotations

import builtins
import dis
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from .span_types import RefusedHandlerError
from .specialise import code_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO_EFFECT = frozenset({"PRECALL", "PUSH_NULL", "EXTENDED_ARG", "NOP", "CACHE", "RESUME"})
_NEVER_GO_ON = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"})
_ALWAYS_JUMP = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "JUMP")
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})

Names = frozenset[str]


class Unbound(NamedTuple):
    """A name that may be read before it is bound, and the line where it is."""

    name: str
    line: int


def check_bound(functions: Iterable[Any]) -> None:
    """Refuse functions, or what numba has made of them, that may read one of their names before it is bound."""
    for one in functions:
        function = getattr(one, "py_func", one)
        for code in code_objects(function.__code__) if isinstance(function, FunctionType) else ():
            found = _Flow(code, function).unbound()
            if found is not None:
                raise RefusedHandlerError(
                    f"`{found.name}` may have no value here: there is a way to this line on which nothing is assigned "
                    f"to it; give it a value before the branch or the loop, as in `{found.name} = ...`",
                    (function.__code__.co_filename, found.line),
                )


class _Flow:
    """The ways through the code of a function, or of a function in it, and what is bound on each."""

    def __init__(self, code: CodeType, function: FunctionType) -> None:
        self._steps = list(dis.get_instructions(code))
        self._numbers = {one.offset: number for number, one in enumerate(self._steps)}
        self._function = function
        self._line = code.co_firstlineno
        self._all = frozenset({*code.co_varnames, *code.co_cellvars})
        parameters = code.co_argcount + code.co_kwonlyargcount
        parameters += bool(code.co_flags & 4) + bool(code.co_flags & 8)  # CO_VARARGS, CO_VARKEYWORDS
        self._given = frozenset(code.co_varnames[:parameters])
        self._handlers = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]  # since Python 3.11
        self._ways: dict[tuple[int, int], Names] = {}
        self._to: dict[int, list[tuple[int, int]]] = {}

    def unbound(self) -> Unbound | None:
        """The first name that may be read before it is bound."""
        before: Any = None
        while before != self._ways:
            before = dict(self._ways)
            for number in range(len(self._steps)):
                self._go(number)
        lent = [(number, one.argval) for number, one in enumerate(self._steps) if one.opname == "LOAD_FAST_AND_CLEAR"]
        lent_unbound = {name for number, name in lent if name not in (self._bound_at(number) or self._all)}
        found = (self._read_unbound(number, lent_unbound) for number in range(len(self._steps)))
        return next((one for one in found if one is not None), None)

    def _go(self, number: int) -> None:
        """Note what is bound on the ways that lead on from an instruction."""
        bound = self._bound_at(number)
        if bound is None:
            return
        step = self._steps[number]
        after = _after(step, bound)
        for entry in self._handlers:
            if entry.start <= step.offset < entry.end:
                self._note(number, self._numbers[entry.target], bound & after)
        if step.opname not in _NEVER_GO_ON and not step.opname.startswith(_ALWAYS_JUMP):
            self._note(number, number + 1, after)
        if step.opcode in _JUMPS:
            at_target: Names | None = after
            if step.opname == "FOR_ITER" and self._surely_runs(number):  # it ends after a round
                at_target = self._meet(way for way in self._to[number] if way[0] != number - 1)
            if at_target is not None:
                self._note(number, self._numbers[step.argval], at_target)

    def _note(self, source: int, target: int, bound: Names) -> None:
        if (source, target) not in self._ways:
            self._to.setdefault(target, []).append((source, target))
        self._ways[source, target] = bound

    def _bound_at(self, number: int) -> Names | None:
        """The names that are bound before an instruction; None if no way to it has been found yet."""
        return self._given if number == 0 else self._meet(self._to.get(number, ()))

    def _meet(self, ways: Iterable[tuple[int, int]]) -> Names | None:
        found = [self._ways[way] for way in ways]
        return frozenset.intersection(*found) if found else None

    def _read_unbound(self, number: int, lent_unbound: set[str]) -> Unbound | None:
        """The name that an instruction may read before it is bound. `lent_unbound`: names that had no value when a
        comprehension used them for its own variables (Python 3.12), and have none again after it."""
        bound, step = self._bound_at(number), self._steps[number]
        if bound is None:
            return None
        for name in self._read(step):
            is_checked = step.opname == "LOAD_FAST_CHECK" and name in lent_unbound
            if name in self._all and (name not in bound or is_checked):
                line = step.positions.lineno if step.positions is not None else None
                return Unbound(name, line or self._line)
        return None

    def _read(self, step: dis.Instruction) -> Iterator[str]:
        names = _names(step)
        if step.opname.startswith("STORE_FAST_LOAD"):
            yield from (one for one in names[1:] if one != names[0])
        elif step.opname.startswith(("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "DELETE_FAST", "DELETE_DEREF")):
            yield from () if step.opname == "LOAD_FAST_AND_CLEAR" else names

    # --- loops that run ----------------------------------------------------------------------------------------------

    def _surely_runs(self, number: int) -> bool:
        """Return whether a loop is over something that is known to have elements."""
        before = [one for one in self._steps[max(0, number - 12) : number] if one.opname not in _NO_EFFECT]
        if len(before) < 2 or before[-1].opname != "GET_ITER":
            return False
        made = before[-2]
        if made.opname == "LOAD_CONST":
            return isinstance(made.argval, tuple | str) and len(made.argval) > 0
        if made.opname in ("BUILD_TUPLE", "BUILD_LIST", "BUILD_SET"):
            return bool(made.argval)
        count = made.argval if made.opname == "CALL" else 0
        if not 1 <= count <= 3 or len(before) < count + 3:
            return False
        arguments = [self._number(one) for one in before[-2 - count : -2]]
        if self._named(before[-3 - count]) is not range or None in arguments:
            return False
        return 0 not in arguments[2:] and len(range(*arguments)) > 0  # type: ignore[arg-type]

    def _number(self, step: dis.Instruction) -> int | None:
        value = step.argval if step.opname in ("LOAD_CONST", "LOAD_SMALL_INT") else self._named(step)
        return value if type(value) is int else None

    def _named(self, step: dis.Instruction) -> Any:
        """Return what a global name, or one from outside of the function, stands for."""
        if step.opname == "LOAD_GLOBAL":
            return self._function.__globals__.get(step.argval, getattr(builtins, step.argval, None))
        free = self._function.__code__.co_freevars
        if step.opname == "LOAD_DEREF" and step.argval in free and self._function.__closure__:
            return self._function.__closure__[free.index(step.argval)].cell_contents
        return None


def _names(step: dis.Instruction) -> tuple[str, ...]:
    return step.argval if isinstance(step.argval, tuple) else (str(step.argval),)


def _after(step: dis.Instruction, bound: Names) -> Names:
    """The names that are bound after an instruction."""
    if step.opname.startswith("STORE_FAST_LOAD"):
        return bound | {_names(step)[0]}
    if step.opname.startswith(("STORE_FAST", "STORE_DEREF")):
        return bound.union(_names(step))
    return bound.difference(_names(step)) if step.opname.startswith(("DELETE_FAST", "DELETE_DEREF")) else bound
