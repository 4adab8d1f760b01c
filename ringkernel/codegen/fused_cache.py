"""A chain's fused span: from the compile cache, or compiled and left there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import UnkeyableError

from .merged_cache import handler_parts, merge_parts
from .span_types import FusedSpan, MergeTypes

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("ringkernel")


def find_fused_span(stages: Sequence[Any]) -> FusedSpan:
    """The span of a chain: pairs of a handler and what it is compiled for, as in `fused_span.py`. Raises what
    `compile_fused_span` raises, and `ConfigurationError` for the cache's settings."""
    key = _key(stages)
    loaded = None if key is None else code_cache.look_up(key)
    if loaded is not None:
        return FusedSpan(loaded.address("span"), loaded, never_drops=False)
    from .fused_span import compile_fused_span

    span = compile_fused_span(stages)
    if key is not None and key == _key(stages):  # what a handler reads may have changed while it was compiled
        names = " and ".join(handler.__qualname__ for handler, _ in stages)
        code_cache.keep(key, lambda: machine_code.emit([span.library], {"span": span.symbol}), f"the chain of {names}")
    return span


def _key(stages: Sequence[Any]) -> str | None:
    """What the span is made of, or None if it is compiled in every process."""
    try:
        return fingerprint.key_of("fused span", *(_parts(*stage) for stage in stages))
    except UnkeyableError as reason:
        logger.debug("a fused chain is not cached: %s", reason)
        return None


def _parts(handler: Any, spec: Any) -> tuple[Any, ...]:
    return ("merge", *merge_parts(spec)) if isinstance(spec, MergeTypes) else handler_parts(handler, spec)
