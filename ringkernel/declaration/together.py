"""Check that a kernel and the handlers beside it go together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError

from .companions import EndHandler, InputHandler, TimerHandler
from .registry import registry
from .shared_field import check_keys, check_times
from .signature import check_output_is_written, check_signature

if TYPE_CHECKING:
    from .declaration import Declaration


def with_companions(declaration: Declaration) -> Declaration:
    """Return a declaration with the handlers beside it. Raises `ConfigurationError` or `MessageTypeError` if these do
    not go together."""
    kernel_id = declaration.kernel_id
    inputs = registry.companions(kernel_id, InputHandler)
    timer = next(iter(registry.companions(kernel_id, TimerHandler)), None)
    end = next(iter(registry.companions(kernel_id, EndHandler)), None)
    if inputs or timer or end:
        declaration = replace(declaration, inputs=inputs, timer=timer, end=end)
    if inputs or timer or end or declaration.order:
        check_companions(declaration)
    return declaration


def check_companions(declaration: Declaration) -> None:
    """Refuse handlers that do not go together. Raises `ConfigurationError` or `MessageTypeError`."""
    kernel = f"kernel {declaration.kernel_id!r}"
    if declaration.is_coroutine:
        raise ConfigurationError(
            f"{kernel}: a coroutine kernel has one input, keeps its own time and ends by returning; "
            f"order_by, and what is declared beside a kernel, are for compiled ones"
        )
    if declaration.is_source and (declaration.inputs or declaration.timer):
        raise ConfigurationError(f"{kernel} is a source, so it has neither further inputs nor a timer")
    for one in (*declaration.inputs, declaration.timer, declaration.end):
        if one is not None:
            leading = {InputHandler: ["msg"], TimerHandler: ["time"], EndHandler: []}[type(one)]
            check_signature(declaration.kernel_id, one.func, [*leading, *declaration.parameters])
            if declaration.output_type is not None and not isinstance(one, InputHandler):
                field = (declaration.output_type.dtype.names or ())[0]
                check_output_is_written(declaration.kernel_id, one.func, f".{field}", number=len(leading))
    check_keys(declaration)
    if declaration.order is not None:
        if declaration.batch or any(one.batch for one in declaration.inputs):
            raise ConfigurationError(
                f"{kernel}: order_by does not go with batch=True: what a batch holds would depend on how "
                f"the messages arrived; write the handler for one message"
            )
        check_times(declaration)
    elif declaration.timer is not None:
        raise ConfigurationError(
            f"{kernel} has a timer, but no time: give ring_kernel() the field with it, as order_by"
        )
