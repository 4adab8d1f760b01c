"""Whole numbers wrap around, and the optimizer knows it.

Numba marks sums, differences and products of signed numbers as never overflowing (`nsw`), so that `x[i + 1]` needs no
look at a negative index. What does overflow is then undefined: `x + 1 > x` is always true, a division by a product that
is 0 by overflow ends the process, and `state[min(x * x, 15)]` loses its index check and reads and writes anywhere.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core.compiler_lock import global_compiler_lock
from numba.cpython import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def wrapping_around() -> Iterator[None]:
    """Have numba compile them so, here and now; the user's own functions stay what they are outside of it."""
    with global_compiler_lock:
        before = numbers._int_arith_flags
        numbers._int_arith_flags = _no_flags
        try:
            yield
        finally:
            numbers._int_arith_flags = before


def _no_flags(returned: Any) -> list[str]:
    return []
