"""Whole numbers calculated as NumPy calculates: they wrap around, a division by 0 gives 0, and nothing traps.

Numba marks sums, differences and products of signed numbers as never overflowing (`nsw`), so that `x[i + 1]` needs no
look at a negative index. What does overflow is then undefined: `x + 1 > x` is always true, a division by a product that
is 0 by overflow ends the process, and `state[min(x * x, 15)]` loses its index check and reads and writes anywhere.

Numba's own `np.mod`, `np.remainder` and `np.divmod` end the process (SIGFPE) for 0 and for the lowest by -1, its `//`
and `np.floor_divide` give 0 for the latter, and its `np.fmod` takes signed numbers for unsigned ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba.cpython import numbers
from numba.np import ufunc_db

if TYPE_CHECKING:
    from .stand_in import Part

_SIGNED = "bhilq"


def _floored(builder: Any, number: Any, by: Any) -> tuple[Any, Any]:
    """Quotient and remainder, towards negative infinity."""
    quotient, remainder = _truncated(builder, number, by)
    zero, one = by.type(0), by.type(1)
    signs_differ = builder.icmp_signed("<", builder.xor(remainder, by), zero)
    is_above = builder.and_(builder.icmp_signed("!=", remainder, zero), signs_differ)
    lower, higher = builder.sub(quotient, one), builder.add(remainder, by)
    return builder.select(is_above, lower, quotient), builder.select(is_above, higher, remainder)


def _truncated(builder: Any, number: Any, by: Any) -> tuple[Any, Any]:
    """Quotient and remainder, towards zero."""
    zero, lowest = by.type(0), by.type(-(1 << (by.type.width - 1)))
    is_zero = builder.icmp_signed("==", by, zero)
    wraps = builder.and_(builder.icmp_signed("==", number, lowest), builder.icmp_signed("==", by, by.type(-1)))
    with builder.if_else(builder.or_(is_zero, wraps), likely=False) as (then, otherwise):
        with then:
            nothing = builder.select(is_zero, zero, lowest)
            special = builder.basic_block
        with otherwise:
            divided, rest = builder.sdiv(number, by), builder.srem(number, by)
            usual = builder.basic_block
    quotient, remainder = builder.phi(by.type), builder.phi(by.type)
    for phi, in_special, in_usual in ((quotient, nothing, divided), (remainder, zero, rest)):
        phi.add_incoming(in_special, special)
        phi.add_incoming(in_usual, usual)
    return quotient, remainder


def _floor_divide(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _floored(builder, *args)[0]


def _remainder(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _floored(builder, *args)[1]


def _divmod(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.make_tuple(builder, sig.return_type, _floored(builder, *args))


def _fmod(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _truncated(builder, *args)[1]


def _int_divmod_signed(context: Any, builder: Any, ty: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """Return quotient and remainder of scalars, for `//`, `%` and `divmod`."""
    return _floored(builder, x, y)


_LOOPS = {
    np.floor_divide: ("{0}{0}->{0}", _floor_divide),
    np.remainder: ("{0}{0}->{0}", _remainder),
    np.divmod: ("{0}{0}->{0}{0}", _divmod),
    np.fmod: ("{0}{0}->{0}", _fmod),
}


def arithmetic_like_numpy() -> list[Part]:
    """Return what stands in numba for its own arithmetic."""
    scalars = [*wrapping(numbers), (numbers, "int_divmod_signed", _int_divmod_signed)]
    tables = [(ufunc_db.get_ufunc_info(ufunc), *loop) for ufunc, loop in _LOOPS.items()]
    return scalars + [(table, name.format(kind), loop) for table, name, loop in tables for kind in _SIGNED]


def wrapping(*modules: Any) -> list[Part]:
    """Return what lets the operations in these modules of numba's wrap around."""
    return [(module, "_int_arith_flags", lambda _returned: []) for module in modules]
