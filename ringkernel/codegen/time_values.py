"""Times as handlers get them, from words in the order of the times: see `messages/time_words.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir

if TYPE_CHECKING:
    import numpy as np

_I64, _F64, _F32 = ir.IntType(64), ir.DoubleType(), ir.FloatType()
_TOP, _LOW = ir.Constant(_I64, -(2**63)), ir.Constant(_I64, 2**63 - 1)


def time_value(builder: Any, dtype: np.dtype[Any], word: Any) -> Any:
    """Return the time that a word stands for, as the number that its type stores."""
    if dtype.kind == "f":
        value = builder.bitcast(turned(builder, word), _F64)
        return value if dtype.itemsize == 8 else builder.fptrunc(value, _F32)
    if dtype.kind == "u" and dtype.itemsize == 8:
        return builder.xor(word, _TOP)
    return builder.trunc(word, stored(dtype)) if dtype.itemsize < 8 else word


def stored(dtype: np.dtype[Any]) -> Any:
    """Return the LLVM type of a time of this type in memory."""
    if dtype.kind == "f":
        return _F64 if dtype.itemsize == 8 else (_F32 if dtype.itemsize == 4 else ir.HalfType())
    return ir.IntType(8 * dtype.itemsize)


def turned(builder: Any, bits: Any) -> Any:
    """Return the bits of a float in the order of floats; and back."""
    sign = builder.ashr(bits, ir.Constant(_I64, 63))
    return builder.xor(bits, builder.and_(sign, _LOW))
