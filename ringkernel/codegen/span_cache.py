"""A span by its plan: from the compile cache, or compiled and left there."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import Fingerprint, UnkeyableError

from .span_types import Plan, Span

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_NOTHING_AROUND = nullcontext()


def find_span(plan: Plan, around: AbstractContextManager[None] = _NOTHING_AROUND) -> Span:
    """Return the span of a plan; `around` is entered if it has to be compiled. A compiled span is left in the cache
    unless what it is made of has changed meanwhile. Raises what `compile_span` raises, and `ConfigurationError` for the
    cache's settings."""
    before = fingerprint_of(plan)
    loaded = None if before is None else code_cache.look_up(before.hexdigest())
    if loaded is not None:
        return Span.from_cache(loaded)
    from .span import compile_span

    with around:
        span = compile_span(plan)
    after = None if before is None else fingerprint_of(plan)
    if before is not None and after is not None and after.hexdigest() == before.hexdigest():
        names = {"span": span.symbol}
        code_cache.keep(
            after.hexdigest(), lambda: machine_code.emit([span.library], names, span.notes), _described(plan)
        )
    return span


def fingerprint_of(plan: Plan) -> Fingerprint | None:
    """Return what a span is made of, or None if it is compiled in every process."""
    try:
        return fingerprint.in_this_environment("span", plan.parts)
    except UnkeyableError as reason:
        if not plan.stages:  # of each handler of a chain it was said before
            code_cache.say_not_cached(_described(plan), reason)
        return None


def _described(plan: Plan) -> str:
    names = " and ".join(handler.__qualname__ for handler, _ in (*plan.lanes, *plan.stages))
    if plan.stages:
        return f"the chain of {names}"
    return f"the merge of {names}" if plan.merge is not None else f"handler {names} of {plan.lanes[0][0].__module__}"
