"""Check that a kernel and the handlers beside it go together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError

from .companions import EndHandler, InputHandler, TimerHandler, companions
from .keys import check_key_fields
from .order import check_times
from .signature import check_output_is_written, check_signature

if TYPE_CHECKING:
    from .declaration import Declaration


def with_companions(declaration: Declaration) -> Declaration:
    """A declaration with what was declared beside it. Raises `ConfigurationError` or `MessageTypeError` if these do
    not go together."""
    kernel_id = declaration.kernel_id
    inputs, timer, end = companions.inputs(kernel_id), companions.timer(kernel_id), companions.end(kernel_id)
    if inputs or timer or end:
        declaration = replace(declaration, inputs=inputs, timer=timer, end=end)
    if declaration.inputs or declaration.timer or declaration.end or declaration.order:
        check_companions(declaration)
    return declaration


def check_companions(declaration: Declaration) -> None:
    """Refuse handlers that do not go together. Raises `ConfigurationError` or `MessageTypeError`."""
    kernel_id = declaration.kernel_id
    beside = (*declaration.inputs, declaration.timer, declaration.end)
    if declaration.is_coroutine:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: a coroutine kernel has one input, keeps its own time and ends by returning; "
            f"order_by, and what is declared beside a kernel, are for compiled ones"
        )
    check_source_stands_alone(declaration)
    for one in beside:
        if one is not None:
            leading = {InputHandler: ["msg"], TimerHandler: ["time"], EndHandler: []}[type(one)]
            check_signature(kernel_id, one.func, [*leading, *parameters_of(declaration)])
            if declaration.output_type is not None and not isinstance(one, InputHandler):
                field = (declaration.output_type.dtype.names or ())[0]
                check_output_is_written(kernel_id, one.func, f".{field}", number=len(leading))
    named = {"": declaration.input_type, **{one.name: one.message_type for one in declaration.inputs}}
    types = {name: each for name, each in named.items() if each is not None}
    check_key_fields(declaration.keys, kernel_id, types, declaration.state)
    if declaration.keys is not None and any(one.batch for one in declaration.inputs):
        raise ConfigurationError(
            f"kernel {kernel_id!r}: key={declaration.keys.field!r} does not go with batch=True, in no input: the "
            f"messages of a batch have different keys"
        )
    if declaration.order is not None:
        if declaration.batch or any(one.batch for one in declaration.inputs):
            raise ConfigurationError(
                f"kernel {kernel_id!r}: order_by does not go with batch=True: what a batch holds would depend on how "
                f"the messages arrived; write the handler for one message"
            )
        check_times(kernel_id, declaration.order.field, types)
    elif declaration.timer is not None:
        raise ConfigurationError(
            f"kernel {kernel_id!r} has a timer, but no time: give ring_kernel() the field with it, as order_by"
        )


def check_source_stands_alone(declaration: Declaration) -> None:
    """Refuse what a source cannot have. Raises `ConfigurationError`."""
    if declaration.is_source and (declaration.inputs or declaration.timer):
        raise ConfigurationError(
            f"kernel {declaration.kernel_id!r} is a source, so it has neither further inputs nor a timer"
        )


def parameters_of(declaration: Declaration) -> list[str]:
    """The parameters that all handlers of a kernel have, after those of their own."""
    given = {
        "out": declaration.output_type,
        "state": declaration.state,
        "params": declaration.params,
        "rng": declaration.rng,
    }
    return [name for name, value in given.items() if value is not None]
