"""The code of a compiled handler as numba has typed it: its statements, and those of all functions that it calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numba import types
from numba.core import ir

from .span_types import RefusedHandlerError
from .widths import Whole, Widths

if TYPE_CHECKING:
    from collections.abc import Iterator


_CONSTANTS = (ir.Const, ir.Global, ir.FreeVar)


class TypedFunction:
    """A compiled function as numba has typed it: its blocks, the signatures of its calls, what its variables are
    assigned, and which whole numbers they may hold."""

    def __init__(self, annotation: Any) -> None:
        self.blocks, self.signatures, self._types = annotation.blocks, annotation.calltypes, annotation.typemap
        self.nodes = [node for block in self.blocks.values() for node in block.body]
        self._assigned: dict[str, list[Any]] = {}
        for node in self.nodes:
            if isinstance(node, ir.Assign):
                self._assigned.setdefault(node.target.name, []).append(node.value)
        self._widths = Widths(annotation)

    def type_of(self, variable: Any) -> Any:
        """Return the type of a variable, or of an expression's operand."""
        return self._types.get(variable.name) if isinstance(variable, ir.Var) else None

    def only(self, variable: Any) -> Any:
        """Return what a variable is assigned, if that is done in one place; else None."""
        values = self._assigned.get(variable.name, [])
        return values[0] if len(values) == 1 else None

    def numbers(self, variable: Any) -> Whole | None:
        """Return which whole numbers a variable may hold; None if it holds others."""
        return self._widths.of(variable)

    def constant(self, variable: Any) -> int | None:
        """Return the number that a variable always is; None if that is not known."""
        held = self.numbers(variable)
        return held.low if held is not None and held.low == held.high else None

    def lengths(self, shape: list[Any]) -> list[int | None]:
        """Return the lengths that a shape's arguments give, one tuple or numbers; None for each that is no constant."""
        if len(shape) == 1 and isinstance(self.type_of(shape[0]), types.BaseTuple):
            built = self.only(shape[0])
            if isinstance(built, _CONSTANTS) and isinstance(built.value, tuple):
                return list(built.value)
            if getattr(built, "op", None) != "build_tuple":
                return [None, None]
            shape = built.items
        return [self.constant(one) for one in shape]


@dataclass(frozen=True)
class Statement:
    """One statement of a function."""

    node: Any
    function: TypedFunction

    def type_of(self, variable: Any) -> Any:
        """Return the type of a variable, or of an expression's operand."""
        return self.function.type_of(variable)

    @property
    def assigned_type(self) -> Any:
        """The type of what the statement assigns; None if it assigns nothing."""
        return self.type_of(getattr(self.node, "target", None))

    def refuse(self, reason: str) -> RefusedHandlerError:
        """Return the error that says so."""
        return RefusedHandlerError(reason, (self.node.loc.filename, self.node.loc.line))


def statements(dispatcher: Any) -> Iterator[Statement]:
    """Return every statement that a compiled function may come to.

    Raises `RefusedHandlerError` for functions that call themselves: nothing bounds how deep, and the stack has no guard
    in a worker's thread.
    """
    yield from _statements(dispatcher, (), set())


def _statements(dispatcher: Any, above: tuple[Any, ...], done: set[int]) -> Iterator[Statement]:
    for overload in dispatcher.overloads.values():
        annotation = overload.type_annotation
        if id(annotation) in done:
            continue
        done.add(id(annotation))
        function = TypedFunction(annotation)
        own = [Statement(node, function) for node in function.nodes]
        yield from own
        for statement in own:
            for called in _named(statement):
                if called is dispatcher or called in above:
                    chain = [one.py_func.__name__ for one in (*above, dispatcher)]
                    chain = chain[chain.index(called.py_func.__name__) :]
                    through = f" (through {', '.join(chain[1:])})" if len(chain) > 1 else ""
                    raise statement.refuse(
                        f"{called.py_func.__name__} calls itself{through}; recursion has no bound that could be "
                        f"checked, and overflows the stack: write a loop"
                    )
                yield from _statements(called, (*above, dispatcher), done)


def _named(statement: Statement) -> list[Any]:
    """The compiled functions that a statement names."""
    kind = statement.assigned_type
    if isinstance(kind, types.RecursiveCall):
        kind = kind.dispatcher_type
    return [kind.dispatcher] if isinstance(kind, types.Dispatcher) else []
