"""The code of a compiled handler as numba has typed it: its statements, and those of all functions that it calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numba import types
from numba.core import ir

from .span_types import RefusedHandlerError
from .widths import Widths

if TYPE_CHECKING:
    from collections.abc import Iterator


_CONSTANTS = (ir.Const, ir.Global, ir.FreeVar)


@dataclass(frozen=True)
class Statement:
    """One statement, and what numba knows of it."""

    node: Any
    annotation: Any
    widths: Widths

    def type_of(self, variable: Any) -> Any:
        """The type of a variable, or of an expression's operand."""
        return self.annotation.typemap.get(variable.name) if isinstance(variable, ir.Var) else None

    def constant(self, variable: Any) -> int | None:
        """The number that a variable always is; None if that is not known."""
        held = self.widths.of(variable)
        return held.low if held is not None and held.low == held.high else None

    def lengths(self, shape: list[Any]) -> list[int | None]:
        """The lengths that a shape's arguments give, one tuple or numbers; None for each that is no constant."""
        if len(shape) == 1 and isinstance(self.type_of(shape[0]), types.BaseTuple):
            nodes = [node for block in self.annotation.blocks.values() for node in block.body]
            built = [node.value for node in nodes if isinstance(node, ir.Assign) and node.target.name == shape[0].name]
            value = getattr(built[0], "value", None) if isinstance(built[0], _CONSTANTS) else None
            if isinstance(value, tuple):
                return list(value)
            if len(built) > 1 or getattr(built[0], "op", None) != "build_tuple":
                return [None, None]
            shape = built[0].items
        return [self.constant(one) for one in shape]

    def refuse(self, reason: str) -> RefusedHandlerError:
        """The error that says so."""
        return RefusedHandlerError(reason, (self.node.loc.filename, self.node.loc.line))


def statements(dispatcher: Any) -> Iterator[Statement]:
    """Every statement that a compiled function may come to.

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
        widths = Widths(annotation)
        own = [Statement(node, annotation, widths) for block in annotation.blocks.values() for node in block.body]
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
    kind = statement.type_of(getattr(statement.node, "target", None))
    if isinstance(kind, types.RecursiveCall):
        kind = kind.dispatcher_type
    return [kind.dispatcher] if isinstance(kind, types.Dispatcher) else []
