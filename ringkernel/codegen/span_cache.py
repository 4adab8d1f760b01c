"""A span, of a handler, a merge or a chain: from the compile cache, or compiled and left there."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import Fingerprint, UnkeyableError

from .span_types import FusedSpan, MergeTypes, Span, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

logger = logging.getLogger("ringkernel")

AnySpan = TypeVar("AnySpan", Span, FusedSpan)
_NOTHING_AROUND = nullcontext()


def find_span(
    handler: Callable[..., Any], spec: SpanTypes, around: AbstractContextManager[None] = _NOTHING_AROUND
) -> Span:
    """The handler's span; `around` is entered if it has to be compiled. Raises what `compile_span` raises, and
    `ConfigurationError` for the cache's settings."""

    def compiled() -> Span:
        from .span import compile_span

        with around:
            return compile_span(handler, spec)

    return _find(Span, partial(_fingerprint, handler, spec), compiled, _named(handler))


def find_merged_span(spec: MergeTypes, around: AbstractContextManager[None]) -> Span:
    """The span of a kernel that goes by time; `around` likewise. Raises what `compile_merged_span` raises, and
    `ConfigurationError` for the cache's settings."""

    def compiled() -> Span:
        from .merged_span import compile_merged_span

        with around:
            return compile_merged_span(spec)

    return _find(Span, partial(_fingerprint_of_merge, spec), compiled, _merged(spec))


def find_fused_span(stages: Sequence[Any]) -> FusedSpan:
    """The span of a chain: pairs of a handler and what it is compiled for, as in `fused_span.py`. Raises what
    `compile_fused_span` raises, and `ConfigurationError` for the cache's settings."""

    def compiled() -> FusedSpan:
        from .fused_span import compile_fused_span

        return compile_fused_span(stages)

    return _find(FusedSpan, partial(_fingerprint_of_chain, stages), compiled, f"the chain of {_names(stages)}")


def _find(
    kind: type[AnySpan], read: Callable[[], Fingerprint | None], compiled: Callable[[], AnySpan], what: str
) -> AnySpan:
    """What the cache has of the code that `read` describes; or what `compiled` makes of it, which is left there unless
    what is read has changed meanwhile."""
    before = read()
    loaded = None if before is None else code_cache.look_up(before.hexdigest())
    if loaded is not None:
        return kind.from_cache(loaded)
    span = compiled()
    after = None if before is None else read()
    if before is not None and after is not None and after.hexdigest() == before.hexdigest():
        names = {"span": span.symbol}
        code_cache.keep(after.hexdigest(), lambda: machine_code.emit([span.library], names, span.notes), what)
    return span


def _named(handler: Callable[..., Any]) -> str:
    return f"handler {handler.__qualname__} of {handler.__module__}"


def _merged(spec: MergeTypes) -> str:
    return f"the merge of {_names(spec.inputs)}"


def _names(stages: Sequence[Any]) -> str:
    return " and ".join(handler.__qualname__ for handler, _ in stages)


def _fingerprint(handler: Callable[..., Any], spec: SpanTypes) -> Fingerprint | None:
    """What a handler's span is made of, or None if it is compiled in every process."""
    try:
        return fingerprint.in_this_environment("span", spec.parts, handler)
    except UnkeyableError as reason:
        code_cache.say_not_cached(_named(handler), reason)
        return None


def _fingerprint_of_merge(spec: MergeTypes) -> Fingerprint | None:
    try:
        return fingerprint.in_this_environment("merged span", *spec.parts)
    except UnkeyableError as reason:
        code_cache.say_not_cached(_merged(spec), reason)
        return None


def _fingerprint_of_chain(stages: Sequence[Any]) -> Fingerprint | None:
    parts = [("merge", *spec.parts) if isinstance(spec, MergeTypes) else (one, *spec.parts) for one, spec in stages]
    try:
        return fingerprint.in_this_environment("fused span", *parts)
    except UnkeyableError as reason:
        logger.debug("a fused chain is not cached: %s", reason)
        return None
