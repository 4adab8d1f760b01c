"""Numba as kernels are compiled with it: it computes as NumPy does, and what does not fit is refused in fixed words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .arithmetic import arithmetic_like_numpy
from .output_shapes import outputs_that_fit
from .shapes import shapes_in_fixed_words

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kernel_semantics() -> Iterator[None]:
    """Compile so here and now, on the CPU; the user's own functions stay what they are outside of it."""
    with arithmetic_like_numpy(), shapes_in_fixed_words(), outputs_that_fit():
        yield
