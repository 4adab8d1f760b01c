"""The number of threads that may share the messages of one kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError

from .cores import allowed_cores

if TYPE_CHECKING:
    from ringkernel.codegen.span_types import Span
    from ringkernel.declaration.declaration import Declaration


def threads_for(declaration: Declaration, span: Span) -> int:
    """As many as there are cores, or as were asked for, if it makes no difference who runs the handler, and when."""
    if (
        declaration.parallel is False
        or declaration.is_source
        or declaration.is_sequential
        or declaration.order is not None
    ):
        return 1
    if span.in_order:
        return 1
    cores = allowed_cores()
    return cores if declaration.parallel is None else min(declaration.parallel, cores)


def check_parallel(declaration: Declaration, span: Span) -> None:
    """Raises `ConfigurationError` if several threads were asked for, and the handler has to run in order."""
    asked = declaration.parallel
    if asked is not None and asked is not False and asked > 1 and span.in_order:
        raise ConfigurationError(
            f"kernel {declaration.kernel_id!r}: parallel={asked}, but its handler prints, or calls a C function, which "
            f"happens in the order of the messages; leave parallel out"
        )
