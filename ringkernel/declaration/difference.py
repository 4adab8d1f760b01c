"""Compare two declarations: a running kernel can take over the handler of the second if all but the handler agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringkernel.messages.types import MessageType

    from .declaration import Declaration


def difference(before: Declaration, after: Declaration) -> str | None:
    """Return why a kernel of one declaration cannot go on with the handler of another, whose rings, state, parameters
    or random numbers are laid out differently. None if it can."""
    if after.is_coroutine:
        return "it is a coroutine function now"
    parts = {
        "input_type": (_said(before.input_type), _said(after.input_type)),
        "output_type": (_said(before.output_type), _said(after.output_type)),
        "state": (_state(before), _state(after)),
        "params": (_said(before.params_type), _said(after.params_type)),
        "key": (_key(before), _key(after)),
        "rng": (_drawn(before), _drawn(after)),
        "max_outputs": (before.max_outputs, after.max_outputs),
        "further inputs": (_inputs(before), _inputs(after)),
        "order_by": (before.order, after.order),
        "timer": (_every(before), _every(after)),
        "end": (before.end is not None, after.end is not None),
    }
    changed = (f"its {part} was {was}, and is {now} now" for part, (was, now) in parts.items() if was != now)
    return next(changed, None)


def _said(message_type: MessageType | None) -> str:
    return "None" if message_type is None else message_type.description


def _drawn(declaration: Declaration) -> str:
    return "None" if declaration.rng is None else "a seed"


def _inputs(declaration: Declaration) -> str:
    return ", ".join(f"{one.name!r} of {one.message_type.description}" for one in declaration.inputs) or "None"


def _every(declaration: Declaration) -> str:
    return "None" if declaration.timer is None else f"every {declaration.timer.every}"


def _key(declaration: Declaration) -> str:
    return "None" if declaration.keys is None else repr(declaration.keys.field)


def _state(declaration: Declaration) -> str:
    if declaration.state is None:
        return "None"
    if declaration.state_type is not None:
        return declaration.state_type.description
    return f"an array of {declaration.state.dtype} of shape {declaration.state.shape}"
