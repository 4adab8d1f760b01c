"""Whole numbers divided as NumPy divides them: by 0 it is 0, the lowest by -1 wraps around, and nothing traps.

Numba's own `np.mod`, `np.remainder` and `np.divmod` end the process there (SIGFPE), its `//` and `np.floor_divide` give
0 for the lowest by -1, and its `np.fmod` takes signed numbers for unsigned ones.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from numba.cpython import numbers
from numba.np import ufunc_db

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNED = "bhilq"


def _truncated(builder: Any, number: Any, by: Any) -> tuple[Any, Any, Any]:
    """What to divide by so that nothing traps, and quotient and remainder towards zero."""
    zero, one = by.type(0), by.type(1)
    is_special = builder.icmp_unsigned("<=", builder.add(by, one), one)  # 0 or -1
    safe = builder.select(is_special, one, by)
    quotient = builder.sdiv(number, safe)
    remainder = builder.select(is_special, zero, builder.srem(number, safe))
    quotient = builder.select(
        is_special, builder.select(builder.icmp_signed("==", by, zero), zero, builder.neg(number)), quotient
    )
    return safe, quotient, remainder


def _floored(builder: Any, number: Any, by: Any) -> tuple[Any, Any]:
    """Quotient and remainder, towards negative infinity."""
    zero = by.type(0)
    safe, quotient, remainder = _truncated(builder, number, by)
    is_above = builder.and_(
        builder.icmp_signed("!=", remainder, zero), builder.icmp_signed("<", builder.xor(remainder, safe), zero)
    )
    lower = builder.sub(quotient, by.type(1))
    return builder.select(is_above, lower, quotient), builder.select(is_above, builder.add(remainder, safe), remainder)


def _floor_divide(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _floored(builder, *args)[0]


def _remainder(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _floored(builder, *args)[1]


def _divmod(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.make_tuple(builder, sig.return_type, _floored(builder, *args))


def _fmod(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _truncated(builder, *args)[2]


def _int_divmod_signed(context: Any, builder: Any, ty: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """What `//`, `%` and `divmod` of scalars use."""
    return _floored(builder, x, y)


_LOOPS = {
    np.floor_divide: ("{0}{0}->{0}", _floor_divide),
    np.remainder: ("{0}{0}->{0}", _remainder),
    np.divmod: ("{0}{0}->{0}{0}", _divmod),
    np.fmod: ("{0}{0}->{0}", _fmod),
}


@contextmanager
def dividing_like_numpy() -> Iterator[None]:
    """Have numba compile these so, here and now; the user's own functions stay what they are outside of it."""
    with global_compiler_lock:
        tables = [(ufunc_db.get_ufunc_info(ufunc), *loop) for ufunc, loop in _LOOPS.items()]
        before = [dict(table) for table, *_ in tables]
        scalar = numbers.int_divmod_signed
        try:
            for table, name, implementation in tables:
                table.update({name.format(kind): implementation for kind in _SIGNED})
            numbers.int_divmod_signed = _int_divmod_signed
            yield
        finally:
            numbers.int_divmod_signed = scalar
            for (table, *_), old in zip(tables, before, strict=True):
                table.update(old)
