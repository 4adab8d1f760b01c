"""Numba as kernels are compiled with it: it computes as NumPy does, and what does not fit is refused in fixed words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from numba.core.compiler_lock import global_compiler_lock

from .arithmetic import arithmetic_like_numpy
from .shapes import shapes_that_fit
from .stand_in import stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kernel_semantics() -> Iterator[None]:
    """Compile so here and now, on the CPU; the user's own functions stay what they are outside of it."""
    with global_compiler_lock, stand_in(*arithmetic_like_numpy(), *shapes_that_fit()):
        yield
