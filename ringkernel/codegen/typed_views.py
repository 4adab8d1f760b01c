"""Which variables of a function's typed code are parts of an output, and what indexes them."""

from __future__ import annotations

import builtins
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from numba import types
from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks

from .allowed import ARRAY_ATTRIBUTES
from .views import EVERY, Loop, View
from .widths import Widths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MESSAGES = "messages"
"""Stands for a batch's messages, of which there are as many as outputs that must be written."""
_PARTS = ("getattr", "getitem", "static_getitem", "typed_getitem")
"""Expressions that may name a part of something."""
_UNKNOWN = object()
_GLOBAL = (ir.Global, ir.FreeVar)


class CannotTellError(Exception):
    """The code does something with an output that is not followed here."""


class Place(NamedTuple):
    """A statement: its block, and its number in there."""

    label: int
    number: int


class Code:
    """A function's typed code. `roots`: what its parameters are, a `View` or `MESSAGES`, by their numbers."""

    def __init__(self, annotation: Any, roots: Mapping[int, Any]) -> None:
        self.annotation, self.roots = annotation, roots
        self.blocks: dict[int, Any] = annotation.blocks
        self.cfg = compute_cfg_from_blocks(self.blocks)
        self.widths = Widths(annotation)
        self._definitions: dict[str, list[Place]] = defaultdict(list)
        self._uses: dict[str, int] = defaultdict(int)
        for place, node in self.statements():
            if isinstance(node, ir.Assign):
                self._definitions[node.target.name].append(place)
            for variable in _used(node):
                self._uses[variable.name] += 1
        self._dominators = self.cfg.dominators()
        self.loops: dict[int, Loop] = {}
        for found in self.cfg.loops().values():
            loop = self._loop(found)
            if loop is not None:
                self.loops[loop.header] = loop
        self._aliases = self._find_aliases()

    def statements(self) -> Iterator[tuple[Place, Any]]:
        """All statements that can be come to."""
        for label in self.cfg.topo_order():
            for number, node in enumerate(self.blocks[label].body):
                yield Place(label, number), node

    def type_of(self, variable: Any) -> Any:
        """The numba type of a variable."""
        return self.annotation.typemap.get(variable.name)

    # --- variables that are parts of an output -----------------------------------------------------------------------

    def view(self, variable: Any, at: Place) -> View | None:
        """What a variable that a statement uses is a part of; None if it is none. Raises `CannotTellError`."""
        if not isinstance(variable, ir.Var) or variable.name not in self._aliases:
            return None
        found = self._meaning(variable, at)
        if not isinstance(found, View):
            raise CannotTellError
        return found

    def is_messages(self, variable: Any, at: Place) -> bool:
        """Whether a variable is a batch's messages."""
        return isinstance(self.type_of(variable), types.Array) and self._meaning(variable, at) == MESSAGES

    def views(self, node: Any, at: Place) -> list[View]:
        """All parts of outputs that a statement, or an expression, names."""
        found = [self.view(variable, at) for variable in _used(node)]
        return [view for view in found if view is not None]

    def names_part(self, node: Any, at: Place) -> bool:
        """Whether an assignment gives a part of an output a name, and reads nothing of it."""
        return node.target.name in self._aliases and isinstance(self._made_of(node, at), View)

    def _find_aliases(self) -> set[str]:
        """The variables that may be parts of an output."""
        names: set[str] = set()
        before = -1
        while before != len(names):
            before = len(names)
            for _, node in self.statements():
                if isinstance(node, ir.Assign) and self._may_be_part(node, names):
                    names.add(node.target.name)
        return names

    def _may_be_part(self, node: Any, names: set[str]) -> bool:
        value, kind = node.value, self.type_of(node.target)
        if isinstance(value, ir.Arg):
            return isinstance(self.roots.get(value.index), View)
        if isinstance(value, ir.Var):
            return value.name in names
        if not isinstance(value, ir.Expr) or value.op not in _PARTS:
            return False
        return value.value.name in names and isinstance(kind, types.Record | types.Array)

    def _meaning(self, variable: Any, at: Place) -> Any:
        """The view or `MESSAGES` that a variable is; None otherwise."""
        definition = self.definition(variable, at)
        return None if definition is None else self._made_of(*definition)

    def _made_of(self, node: Any, at: Place) -> Any:
        value = node.value
        if isinstance(value, ir.Arg):
            return self.roots.get(value.index)
        if isinstance(value, ir.Var):
            return self._meaning(value, at)
        if not isinstance(value, ir.Expr) or value.op not in _PARTS:
            return None
        if not isinstance(self.type_of(node.target), types.Record | types.Array):
            return None
        whole = self._meaning(value.value, at)
        return self.part(whole, value, at) if isinstance(whole, View) else None

    def part(self, whole: View, node: Any, at: Place) -> View | None:
        """What of a view an expression or an assignment names by an attribute, or by an index."""
        if isinstance(node, ir.SetAttr) or (isinstance(node, ir.Expr) and node.op == "getattr"):
            return None if whole.free and node.attr in ARRAY_ATTRIBUTES else whole.field(node.attr)
        if isinstance(node.index, str):
            return whole.field(node.index)
        indices = self._indices(node.index, at, whole)
        return None if indices is None else whole.element(indices)

    # --- indices -----------------------------------------------------------------------------------------------------

    def _indices(self, index: Any, at: Place, whole: View) -> tuple[Any, ...] | None:
        """An index as `View.element` takes it; None if it cannot be said so."""
        if isinstance(index, ir.Var) and isinstance(self.type_of(index), types.BaseTuple):
            definition = self.definition(index, at)
            if definition is None or op_of(definition[0].value) != "build_tuple":
                return None
            at, index = definition[1], definition[0].value.items
        several = index if isinstance(index, tuple | list) else [index]
        if len(several) > len(whole.free):
            return None
        found = [self._index(one, at, axis.length) for one, axis in zip(several, whole.free, strict=False)]
        return None if _UNKNOWN in found else tuple(found)

    def _index(self, index: Any, at: Place, length: int) -> Any:
        if isinstance(index, ir.Var) and isinstance(self.type_of(index), types.SliceType):
            index = self._slice(index, at)
        if isinstance(index, slice):
            whole = index.stop is None or (index.stop == length and length != EVERY)
            return index if whole and index.start in (None, 0) and index.step in (None, 1) else _UNKNOWN
        if type(index) is int:
            return index
        if not isinstance(index, ir.Var) or not isinstance(self.type_of(index), types.Integer):
            return _UNKNOWN
        constant = self.constant(index)
        return self._loop_of(index, at) if constant is None else constant

    def _slice(self, variable: Any, at: Place) -> Any:
        """`[:]`, if a variable is that."""
        found = self.definition(variable, at)
        if found is None or op_of(found[0].value) != "call" or self._global(found[0].value.func, found[1]) is not slice:
            return _UNKNOWN
        kinds = [self.type_of(one) for one in found[0].value.args]
        return slice(None) if all(isinstance(kind, types.NoneType) for kind in kinds) else _UNKNOWN

    def constant(self, variable: Any) -> int | None:
        """The number that a variable always is."""
        held = self.widths.of(variable)
        return held.low if held is not None and held.low == held.high else None

    def _loop_of(self, variable: Any, at: Place) -> Loop | None:
        """The loop that a variable counts, if it is used in there."""
        found: Any = self.definition(variable, at)
        while found is not None and isinstance(found[0].value, ir.Expr):
            value, where = found[0].value, found[1]
            if value.op == "pair_first":
                loop = self.loops.get(where.label)
                return loop if loop is not None and at.label in loop.blocks else None
            first_of_two = value.op == "static_getitem" and value.index == 0
            if not first_of_two and value.op != "exhaust_iter":
                return None
            found = self.definition(value.value, where)
        return None

    # --- definitions and loops ---------------------------------------------------------------------------------------

    def definition(self, variable: Any, at: Place) -> tuple[Any, Place] | None:
        """The one assignment that a variable has its value from when it is used; other names are followed."""
        found: tuple[Any, Place] | None = None
        while isinstance(variable, ir.Var):
            places = self._definitions[variable.name]
            if len(places) != 1 or not self._comes_before(places[0], at):
                return None
            at = places[0]
            node = self.blocks[at.label].body[at.number]
            found, variable = (node, at), node.value
        return found

    def _comes_before(self, place: Place, at: Place) -> bool:
        if place.label == at.label:
            return place.number < at.number
        return place.label in self._dominators[at.label]

    def _loop(self, found: Any) -> Loop | None:
        """A loop over the whole of a range, if it is one."""
        blocks, header = frozenset(found.body), found.header
        end = self.blocks[header].body[-1]
        here = Place(header, len(self.blocks[header].body) - 1)
        outside = [label for label, _ in self.cfg.predecessors(header) if label not in blocks]
        if not isinstance(end, ir.Branch) or end.falsebr in blocks or end.truebr not in blocks or len(outside) != 1:
            return None
        iterator = self._iterator(end.cond, here)
        if iterator is None or iterator[1].label != outside[0]:
            return None  # it may have been begun elsewhere
        length = self._length_of_iteration(iterator[0].value.value, iterator[1])
        return None if length is None else Loop(header, blocks, end.falsebr, length)

    def _iterator(self, variable: Any, at: Place) -> tuple[Any, Place] | None:
        """The `getiter` behind a header's branch, if nothing else advances what it gives."""
        for op in ("pair_second", "iternext"):
            found = self.definition(variable, at)
            if found is None or op_of(found[0].value) != op or found[1].label != at.label:
                return None
            variable = found[0].value.value
        while isinstance(variable, ir.Var):
            places = self._definitions[variable.name]
            if len(places) != 1 or self._uses[variable.name] != 1 or not self._comes_before(places[0], at):
                return None
            at = places[0]
            node = self.blocks[at.label].body[at.number]
            variable = node.value
        return (node, at) if op_of(variable) == "getiter" else None

    def _length_of_iteration(self, variable: Any, at: Place) -> int | None:
        """How many times a loop over it runs; None if that is not known, or if it does not count from 0 by 1."""
        found = self.definition(variable, at)
        if found is None or op_of(found[0].value) != "call" or found[0].value.kws:
            return None
        call, at = found[0].value, found[1]
        function, arguments = self._global(call.func, at), list(call.args)
        if function is builtins.enumerate and len(arguments) == 1:
            return self._length(arguments[0], at)
        if function is not builtins.range:
            return None
        if len(arguments) == 3 and self.constant(arguments.pop()) != 1:
            return None
        if len(arguments) == 2 and self.constant(arguments.pop(0)) != 0:
            return None
        constant = self.constant(arguments[0])
        return self._known_length(arguments[0], at) if constant is None else constant or None

    def _known_length(self, variable: Any, at: Place) -> int | None:
        """The length that is `len(x)`, `x.size` or `x.shape[0]`."""
        found = self.definition(variable, at)
        value = found[0].value if found is not None else None
        if found is None or not isinstance(value, ir.Expr):
            return None
        if value.op == "call" and self._global(value.func, found[1]) is len and len(value.args) == 1:
            return self._length(value.args[0], found[1])
        if value.op == "getattr" and value.attr == "size" and getattr(self.type_of(value.value), "ndim", 0) == 1:
            return self._length(value.value, found[1])
        if value.op == "static_getitem" and value.index == 0:
            shape = self.definition(value.value, found[1])
            if shape is not None and op_of(shape[0].value) == "getattr" and shape[0].value.attr == "shape":
                return self._length(shape[0].value.value, shape[1])
        return None

    def _length(self, variable: Any, at: Place) -> int | None:
        """The length of an array that is part of an output, or is the messages."""
        if not isinstance(self.type_of(variable), types.Array):
            return None
        if self.is_messages(variable, at):
            return EVERY
        meaning = self._meaning(variable, at)
        return meaning.free[0].length if isinstance(meaning, View) and meaning.free else None

    def _global(self, variable: Any, at: Place) -> Any:
        found = self.definition(variable, at)
        return found[0].value.value if found is not None and isinstance(found[0].value, _GLOBAL) else None


def op_of(value: Any) -> str:
    """What an expression does; nothing if it is none."""
    return value.op if isinstance(value, ir.Expr) else ""


def _used(node: Any) -> list[Any]:
    """The variables that a statement, or an expression, reads."""
    if isinstance(node, ir.Del):
        return []
    if isinstance(node, ir.Assign):
        node = node.value
    if isinstance(node, ir.Var):
        return [node]
    return list(node.list_vars()) if isinstance(node, ir.Stmt | ir.Expr) else []
