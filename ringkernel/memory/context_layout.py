"""Where a handler's state, parameters and random numbers lie, from its kernel's context on."""

from __future__ import annotations

from typing import NamedTuple

ALIGNMENT = 64
RNG_WORDS = 4
"""Of a generator, see `declaration/rng.py`. Behind them lie those before the message that the handler has failed on."""


class ContextLayout(NamedTuple):
    """Offsets into a context, at which the state lies, and its length in bytes."""

    params_at: int
    rng_at: int
    nbytes: int


def context_layout(state_nbytes: int, params_nbytes: int, *, has_rng: bool) -> ContextLayout:
    """The layout behind so many bytes of state. What is not there takes no room."""
    params_at = _aligned(state_nbytes)
    rng_at = _aligned(params_at + params_nbytes)
    end = rng_at + 2 * 8 * RNG_WORDS if has_rng else params_at + params_nbytes if params_nbytes else state_nbytes
    return ContextLayout(params_at, rng_at, end)


def _aligned(offset: int) -> int:
    return offset + -offset % ALIGNMENT
