"""The span of a kernel that goes by time: from the compile cache, or compiled and left there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import UnkeyableError

from .span_types import Span

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .span_types import MergeTypes, SpanTypes


def find_merged_span(spec: MergeTypes, around: AbstractContextManager[None]) -> Span:
    """The span; `around` is entered if it has to be compiled. Raises what `compile_merged_span` raises, and
    `ConfigurationError` for the cache's settings."""
    key = _key(spec)
    loaded = None if key is None else code_cache.look_up(key)
    if loaded is not None:
        known = loaded.notes
        unwritten = (known["unwritten"][0], known["unwritten"][1])
        return Span(
            loaded.address("span"),
            loaded,
            known["never_drops"],
            known["is_bounded"],
            unwritten,
            in_order=known["in_order"],
        )
    from .merged_span import compile_merged_span

    with around:
        span = compile_merged_span(spec)
    if key is not None and key == _key(spec):  # what a handler reads may have changed while it was compiled
        notes = {name: getattr(span, name) for name in ("never_drops", "is_bounded", "unwritten", "in_order")}
        code_cache.keep(
            key, lambda: machine_code.emit([span.library], {"span": span.symbol}, notes), f"the merge of {_names(spec)}"
        )
    return span


def _names(spec: MergeTypes) -> str:
    return " and ".join(handler.__qualname__ for handler, _ in spec.inputs)


def _key(spec: MergeTypes) -> str | None:
    """What the span is made of, or None if it is compiled in every process."""
    try:
        return fingerprint.key_of("merged span", *merge_parts(spec))
    except UnkeyableError as reason:
        code_cache.say_not_cached(f"the merge of {_names(spec)}", reason)
        return None


def merge_parts(spec: MergeTypes) -> tuple[Any, ...]:
    """What the code depends on."""
    handlers = [handler_parts(*one) for one in spec.handlers]
    return spec.field, spec.late, spec.every, spec.timer is None, *handlers


def handler_parts(handler: Any, spec: SpanTypes) -> tuple[Any, ...]:
    """The same of one handler."""
    return handler, *((field.name, getattr(spec, field.name)) for field in dataclasses.fields(spec))
