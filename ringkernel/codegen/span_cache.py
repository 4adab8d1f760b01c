"""A handler's span: from the compile cache, or compiled and left there."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import Fingerprint, UnkeyableError

from .span_types import Span, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_NOTHING_AROUND = nullcontext()


def find_span(
    handler: Callable[..., Any], spec: SpanTypes, around: AbstractContextManager[None] = _NOTHING_AROUND
) -> Span:
    """The handler's span; `around` is entered if it has to be compiled. Raises what `compile_span` raises, and
    `ConfigurationError` for the cache's settings."""
    read = _fingerprint(handler, spec)
    loaded = None if read is None else code_cache.look_up(read.hexdigest())
    if loaded is not None:
        known = loaded.notes
        never_drops, is_bounded, in_order = known["never_drops"], known["is_bounded"], known["in_order"]
        unwritten = (known["unwritten"][0], known["unwritten"][1])
        return Span(loaded.address("span"), loaded, never_drops, is_bounded, unwritten, in_order=in_order)
    from .span import compile_span

    with around:
        span = compile_span(handler, spec)
    if read is not None:
        _keep(span, handler, spec, read)
    return span


def _keep(span: Span, handler: Callable[..., Any], spec: SpanTypes, before: Fingerprint) -> None:
    """Leave the span in the cache, unless what the handler reads has changed while it was compiled."""
    after = _fingerprint(handler, spec)
    if after is None or after.hexdigest() != before.hexdigest():
        return
    notes = {name: getattr(span, name) for name in ("never_drops", "is_bounded", "unwritten", "in_order")}
    names = {"span": span.symbol}
    code_cache.keep(after.hexdigest(), lambda: machine_code.emit([span.library], names, notes), _named(handler))


def _named(handler: Callable[..., Any]) -> str:
    return f"handler {handler.__qualname__} of {handler.__module__}"


def _fingerprint(handler: Callable[..., Any], spec: SpanTypes) -> Fingerprint | None:
    """What a handler's span is made of, or None if it is compiled in every process."""
    options = tuple((field.name, getattr(spec, field.name)) for field in dataclasses.fields(spec))
    try:
        return fingerprint.in_this_environment("span", options, handler)
    except UnkeyableError as reason:
        code_cache.say_not_cached(_named(handler), reason)
        return None
