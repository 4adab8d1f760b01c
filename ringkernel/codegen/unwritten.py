"""Which bytes of its output a handler may leave as they were: those are zeroed before it is called, the others need
not be.

A definite assignment analysis over typed code (Gosling et al., The Java Language Specification, chapter 16): forwards,
and what holds where ways meet is what holds on all of them. A byte needs no zeroing if every way to a return that emits
has written it, and no way reads it before. Elements of arrays count as written after a loop over all of them. What is
done with an output and is not followed here counts as a read, and writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from numba import types
from numba.core import ir
from numba.core.unsafe import eh

from .handler_call import argument_types
from .readonly import read_only
from .typed_views import MESSAGES, CannotTellError, Code, Place, op_of
from .views import Facts, View, after_all, anywhere, both, root, with_written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .span_types import SpanTypes

_MOST_BYTES = 2**20
"""Larger outputs are zeroed without a look at what the handler does."""
_NO_DATA = frozenset({"shape", "size", "ndim", "nbytes", "itemsize", "strides"})
"""Attributes of arrays that say nothing of what is in them."""
_TRY = (eh.exception_check, eh.mark_try_block, eh.end_try_block, eh.exception_match)
"""What numba makes of `try`, whose ways are not in the code."""


class Effect(NamedTuple):
    """What a function does to a part of an output, as bytes: those that it may read before it writes them, and those
    that it has written whenever it returns."""

    reads: int
    writes: int


def unwritten(dispatcher: Any, spec: SpanTypes) -> tuple[int, int]:
    """The stretch of an output that has to be zeroed before a compiled handler is called: from which byte on, and how
    many. All that the handler may leave unwritten, or read before, is in there, padding between fields included."""
    size = 0 if spec.output is None or not spec.zeroed else spec.output.itemsize
    if size == 0 or size > _MOST_BYTES:
        return 0, size
    arguments = argument_types(spec, read_only)
    overload = dispatcher.overloads[arguments]
    number = (spec.input is not None) + (spec.time is not None)
    roots: dict[int, Any] = {number: root(arguments[number])}
    if spec.batch and (spec.max_outputs == 1 or isinstance(overload.signature.return_type, types.NoneType)):
        roots[0] = MESSAGES
    try:
        effect = _Function(overload.type_annotation, roots, drops=not spec.batch).effect()
    except CannotTellError:
        return 0, size
    left = effect.reads | ~effect.writes & (1 << size) - 1
    start = (left & -left).bit_length() - 1 if left else 0
    return start, left.bit_length() - start


class _Function:
    """A function of which one parameter is part of an output. `drops`: one that returns False emits nothing."""

    def __init__(self, annotation: Any, roots: Mapping[int, Any], *, drops: bool = False) -> None:
        self._code = Code(annotation, roots)
        self._drops = drops
        self._reads = 0
        self._ways: dict[tuple[int, int], Facts | None] = {}

    def effect(self) -> Effect:
        """See `Effect`. Raises `CannotTellError`."""
        self._refuse_try()
        before: Any = None
        while before != self._ways:
            before = dict(self._ways)
            self._reads = 0  # what counts is the last time, when nothing is too good any more
            returned = self._pass()
        return Effect(self._reads, 0 if returned is None else returned.get(frozenset(), 0))

    def _refuse_try(self) -> None:
        for _, node in self._code.statements():
            kind = self._code.type_of(node.target) if isinstance(node, ir.Assign) else None
            if isinstance(kind, types.Function) and kind.typing_key in _TRY:
                raise CannotTellError
            if isinstance(node, ir.EnterWith | ir.TryRaise | ir.StaticTryRaise | ir.DynamicTryRaise):
                raise CannotTellError

    def _pass(self) -> Facts | None:
        """Go once over all blocks. What is written where the function returns."""
        returned: Facts | None = None
        for label in self._code.cfg.topo_order():
            facts = self._on_entry(label)
            if facts is None:
                continue
            block = self._code.blocks[label]
            for number, node in enumerate(block.body):
                place = Place(label, number)
                if isinstance(node, ir.Return) and self._emits(node, place):
                    returned = both(returned, facts)
                facts = self._after(node, place, facts)
            for target in block.terminator.get_targets():
                self._ways[label, target] = self._on_way(label, target, facts)
        return returned

    def _on_entry(self, label: int) -> Facts | None:
        """What is written when a block begins; None if no way to it has been seen yet."""
        code = self._code
        facts: Facts | None = {} if label == code.cfg.entry_point() else None
        for source, _ in code.cfg.predecessors(label):
            facts = both(facts, self._ways.get((source, label)))
        if facts is None:
            return None
        inside = {header for header, loop in code.loops.items() if label in loop.blocks and label != header}
        return {key: mask for key, mask in facts.items() if all(one.loop in inside for one in key)}

    def _on_way(self, label: int, target: int, facts: Facts) -> Facts | None:
        """What is written when one block leads to another."""
        loop = self._code.loops.get(label)
        if loop is None or target != loop.after:
            return facts
        ends: Facts | None = None
        for source, _ in self._code.cfg.predecessors(label):
            if source in loop.blocks:
                ends = both(ends, self._ways.get((source, label)))
        if ends is None:
            return None
        merged = dict(facts)
        for key, mask in after_all(ends, loop).items():
            merged = with_written(merged, key, mask)
        return merged

    def _emits(self, node: Any, place: Place) -> bool:
        """Whether what a return gives may be anything but False."""
        if not self._drops:
            return True
        found = self._code.definition(node.value, place)
        while found is not None and op_of(found[0].value) == "cast":
            found = self._code.definition(found[0].value.value, found[1])
        value = found[0].value if found is not None else None
        return not (isinstance(value, ir.Const) and value.value is False)

    # --- statements --------------------------------------------------------------------------------------------------

    def _after(self, node: Any, place: Place, facts: Facts) -> Facts:
        """What is written after a statement; notes what it reads."""
        if isinstance(node, ir.SetAttr | ir.SetItem | ir.StaticSetItem):
            return self._after_write(node, place, facts)
        if isinstance(node, ir.Assign):
            return self._after_assignment(node, place, facts)
        for view in self._code.views(node, place):
            self._read(view, facts)
        return facts

    def _after_write(self, node: Any, place: Place, facts: Facts) -> Facts:
        code = self._code
        for variable in (node.value, getattr(node, "index", None)):
            view = code.view(variable, place)
            if view is not None:
                self._read(view, facts)
        whole = code.view(node.target, place)
        written = code.part(whole, node, place) if whole is not None else None
        if written is None or not written.is_written_by(code.type_of(node.value)):
            return facts
        return with_written(facts, written.chosen, written.mask())

    def _after_assignment(self, node: Any, place: Place, facts: Facts) -> Facts:
        code, value = self._code, node.value
        if isinstance(value, ir.Arg) or code.names_part(node, place):
            return facts
        views = code.views(node, place)
        if not views:
            return facts
        if op_of(value) == "call":
            return self._after_call(value, place, facts)
        if op_of(value) == "getattr" and value.attr in _NO_DATA and views[0].free:
            return facts
        if op_of(value) in ("getattr", "getitem", "static_getitem"):
            part = code.part(views[0], value, place)
            self._read(views[0] if part is None else part, facts)
            return facts
        for view in views:
            self._read(view, facts)
        return facts

    def _after_call(self, call: Any, place: Place, facts: Facts) -> Facts:
        code = self._code
        kind = code.type_of(call.func)
        if isinstance(kind, types.Function) and kind.typing_key is len:
            return facts
        overload = self._called(call, kind)
        after = facts
        for number, argument in enumerate(call.args):
            view = code.view(argument, place)
            if view is None:
                continue
            if overload is None:
                self._read(view, facts)
                continue
            messages = {i: MESSAGES for i, other in enumerate(call.args) if code.is_messages(other, place)}
            effect = _Function(overload.type_annotation, {**messages, number: view.alone()}).effect()
            self._note(view, effect.reads << view.offset, facts)
            after = with_written(after, view.chosen, effect.writes << view.offset)
        for _, argument in call.kws:
            view = code.view(argument, place)
            if view is not None:
                self._read(view, facts)
        return after

    def _called(self, call: Any, kind: Any) -> Any:
        """The compiled function that a call with plain arguments leads to; None if it is not known."""
        signature = self._code.annotation.calltypes.get(call)
        if not isinstance(kind, types.Dispatcher) or call.vararg is not None or call.kws or signature is None:
            return None
        return kind.dispatcher.overloads.get(tuple(signature.args))

    def _read(self, view: View, facts: Facts) -> None:
        self._note(view, view.mask(), facts)

    def _note(self, view: View, mask: int, facts: Facts) -> None:
        """These bytes of a view are read: those that may not be written yet have to be zero."""
        left = mask & ~facts.get(view.chosen, 0)
        self._reads |= anywhere(view, left) & ~facts.get(frozenset(), 0)
