"""A handler's span: from the compile cache, or compiled and left there."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from ringkernel.cache import fingerprint, machine_code, programs

from .span_types import Span, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("ringkernel")

_NEVER_DROPS = "span that never drops"
"""A second name of such a span."""


def find_span(handler: Callable[..., Any], spec: SpanTypes) -> Span:
    """The handler's span. Raises what `compile_span` raises, and `ConfigurationError` for the cache's settings."""
    key = _key(handler, spec)
    loaded = None if key is None else programs.fetch(key)
    if loaded is not None:
        return Span(loaded.address("span"), loaded, _NEVER_DROPS in loaded)
    from .span import compile_span

    span = compile_span(handler, spec)
    if key is not None and key == _key(handler, spec):  # what it reads may have changed while it was compiled
        names = dict.fromkeys(("span", *([_NEVER_DROPS] if span.never_drops else [])), span.symbol)
        programs.keep(key, lambda: machine_code.emit([span.library], names))
    return span


def _key(handler: Callable[..., Any], spec: SpanTypes) -> str | None:
    """The key of a handler's span, or None if it is compiled in every process."""
    options = tuple((field.name, getattr(spec, field.name)) for field in dataclasses.fields(spec))
    try:
        return fingerprint.key_of("span", options, handler)
    except fingerprint.UnkeyableError as reason:
        logger.debug("handler %s is not cached: %s", handler.__qualname__, reason)
        return None
