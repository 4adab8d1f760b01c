"""A grid's program as PTX: a handler, the turn and the loop around it. Needs no GPU and no driver."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numba import types
from numba.cuda import compiler

from ringkernel.codegen.faults import LARGEST
from ringkernel.codegen.handler_call import handler_call
from ringkernel.codegen.targets.cuda import CUDA_CALL, jit, operation, operations, settings

from .program import GridTarget, build_grid_program, build_grid_span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .handlers import Handlers
    from .program import Program

Raised = tuple[type[BaseException] | None, tuple[Any, ...]]


@functools.cache
def grid_target() -> GridTarget:
    """CUDA as a target."""
    return target_with(operations())


def target_with(table: Mapping[Any, Any]) -> GridTarget:
    """CUDA with these operations for `operations.py`."""
    return GridTarget(
        jit=jit,
        jit_handler=lambda _check: jit,  # the checks are a setting of the whole compilation, see `settings`
        handler_call=lambda dispatcher, spec: handler_call(dispatcher, spec, CUDA_CALL),
        operations=table,
        operation=operation,
    )


@dataclass(frozen=True)
class GridCode:
    """A grid for one compute capability. `raised` says what the numbers mean by which a handler fails, `stops` which of
    them are of a `raise StopIteration`."""

    ptx: str
    llvm: str
    entry: str
    cc: tuple[int, int]
    raised: Mapping[int, Raised]
    stops: frozenset[int]
    has_end: bool
    is_cooperative: bool
    program: Program


def compile_grid(
    loop: Callable[[int], None],
    handlers: Handlers,
    *,
    is_cooperative: bool,
    cc: tuple[int, int],
    fma: bool = False,
    target: GridTarget | None = None,
) -> GridCode:
    """Compile handlers and the loop around them to PTX. Raises whatever numba-cuda raises.

    With `fma` a product and the sum that it goes into are rounded once, together. Without, every operation is rounded
    as on the CPU: the instructions say so, and no assembler joins them.
    """
    target = target or grid_target()
    check = any(spec.check for spec in handlers.specs)
    with settings(cc, check=check) as helper:
        span = build_grid_span(target, handlers, is_cooperative=is_cooperative)
        program = build_grid_program(target, loop, span)
        library, _ = compiler._compile_pyfunc_with_fixup(
            program.entry, types.void(types.int64), device=False, abi="numba", cc=cc
        )
        library._nvvm_options["fma"] = fma  # on by default, and there is no other way to say so
        ptx, llvm = library.get_asm_str(cc=cc), library.get_llvm_str()
    known = {LARGEST + number: one for number, one in helper.exceptions.items()}
    raised = {number: (kind, arguments or ()) for number, (kind, arguments, _) in known.items()}
    stops = frozenset(n for n, (kind, _, place) in known.items() if place is not None and _is_stop(kind))
    has_end = handlers.end is not None
    return GridCode(ptx, llvm, library._entry_name, cc, raised, stops, has_end, is_cooperative, program)


def _is_stop(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StopIteration)
