"""Line numbers in what a handler is compiled to, for `ringkernel inspect`.

Numba's own debug information describes variables, too, keeps them in memory and forbids inlining: another loop comes of
it. Here is none of that, only the line of each instruction, so that LLVM optimises as it does without.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core import typed_passes
from numba.core.compiler_lock import global_compiler_lock
from numba.core.debuginfo import DIBuilder
from numba.core.lowering import Lower

from .stand_in import stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOP = "loop"
"""Stands for the file of instructions that come of no line of the user's."""
_NOT_THE_USERS = ("numba.", "ringkernel.codegen.")
_ARRAY_EXPRESSION = "__numba_array_expr"
"""The functions that numba makes of those are in no file."""


class _Lines(DIBuilder):  # type: ignore[misc]  # numba has no types
    def __init__(self, module: Any, filepath: str, cgctx: Any, **_: Any) -> None:
        super().__init__(module, filepath, cgctx, directives_only=True)


class _NumberedLower(Lower):  # type: ignore[misc]  # numba has no types
    """Functions that numba makes, or that are numba's or this package's, get no numbers: inlined, they have those of
    the call."""

    def __init__(self, context: Any, library: Any, fndesc: Any, func_ir: Any, metadata: Any = None) -> None:
        name = func_ir.func_id
        if not f"{name.modname}.".startswith(_NOT_THE_USERS) and not name.func_name.startswith(_ARRAY_EXPRESSION):
            context = context.subtarget(enable_debuginfo=True, DIBuilder=_Lines)
        super().__init__(context, library, fndesc, func_ir, metadata)

    def _compute_def_location(self) -> Any:
        return self.func_ir.loc  # numba's own looks for the source, and warns where there is none


@contextmanager
def line_numbers() -> Iterator[None]:
    """Have numba write them, here and now."""
    numbered = property(lambda _: _NumberedLower)
    with global_compiler_lock, stand_in((typed_passes.NativeLowering, "lowering_class", numbered)):
        yield


def number_loop(module: Any, context: Any) -> None:
    """Give line 0, which is none, to the functions in a module: only what is called from a numbered one keeps its
    own."""
    lines = _Lines(module, LOOP, context)
    for function in module.functions:
        if function.blocks:
            lines.mark_subprogram(function, function.name, [], [], 0)
            place = lines._di_location(0)
            for instruction in (one for block in function.blocks for one in block.instructions):
                instruction.set_metadata("dbg", place)
    lines.finalize()
