"""Operations on times, as words in the order of the times: see `messages/time_words.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir

from .targets.cpu_memory import operation
from .time_values import stored, turned

if TYPE_CHECKING:
    import numpy as np

_I64, _F64, _F32 = ir.IntType(64), ir.DoubleType(), ir.FloatType()
_TOP, _LOW = ir.Constant(_I64, -(2**63)), ir.Constant(_I64, 2**63 - 1)


def read_time(dtype: np.dtype[Any], itemsize: int, offset: int) -> Any:
    """An operation: the time of the record of a number in an array of records, `(array, index)`. NaN and NaT are
    `NO_TIME`."""
    kind = stored(dtype)

    @operation
    def read(builder: Any, array: Any, index: Any) -> Any:
        slots = builder.inttoptr(array, ir.ArrayType(ir.IntType(8), itemsize).as_pointer())
        field = builder.gep(slots, [index, ir.Constant(_I64, offset)])
        value = builder.load(builder.bitcast(field, kind.as_pointer()))
        value.align = 1
        return _word_of(builder, dtype, value)

    return read


def multiple(dtype: np.dtype[Any], every: float) -> Any:
    """An operation: the time after so many periods, `(count)`. Where that is no time of the type, or two that follow
    each other might be the same float, it is none that is later than the one before."""

    @operation
    def word(builder: Any, count: Any) -> Any:
        return _multiple(builder, dtype, every, count)

    return word


def count_after(dtype: np.dtype[Any], every: float) -> Any:
    """An operation: after how many periods the first multiple comes that is later than a time, `(word)`."""

    @operation
    def count(builder: Any, word: Any) -> Any:
        if dtype.kind == "f":
            return _count_after(builder, dtype, every, word)
        raw = builder.xor(word, _TOP) if dtype.kind == "u" and dtype.itemsize == 8 else word
        period = ir.Constant(_I64, int(every))
        if dtype.kind == "u":
            whole = builder.udiv(raw, period)
        else:
            rest = builder.srem(raw, period)
            below = builder.zext(builder.icmp_signed("<", rest, ir.Constant(_I64, 0)), _I64)
            whole = builder.sub(builder.sdiv(raw, period), below)
        return builder.add(whole, ir.Constant(_I64, 1))

    return count


def _count_after(builder: Any, dtype: np.dtype[Any], every: float, word: Any) -> Any:
    """The same of floats: the quotient is rounded, so the two multiples around it are looked at."""
    value = builder.fdiv(builder.bitcast(turned(builder, word), _F64), ir.Constant(_F64, every))
    size = builder.call(builder.module.declare_intrinsic("llvm.fabs", [_F64]), [value])
    floor = builder.call(builder.module.declare_intrinsic("llvm.floor", [_F64]), [value])
    too_many = ir.Constant(_I64, _most_periods(dtype))
    is_few = builder.fcmp_ordered("<", size, ir.Constant(_F64, float(_most_periods(dtype))))
    found = builder.select(is_few, builder.fptosi(floor, _I64), too_many)
    for _ in range(2):
        is_late = builder.icmp_signed("<=", _multiple(builder, dtype, every, found), word)
        found = builder.add(found, builder.zext(is_late, _I64))
    return found


def _most_periods(dtype: np.dtype[Any]) -> int:
    """From how many periods on, before or after zero, floats are too far apart to tell their multiples."""
    import numpy as np

    return 1 << int(np.finfo(dtype).nmant)


def _word_of(builder: Any, dtype: np.dtype[Any], value: Any) -> Any:
    if dtype.kind == "f":
        wide = value if dtype.itemsize == 8 else builder.fpext(value, _F64)
        is_none = builder.fcmp_unordered("uno", wide, wide)
        bits = builder.bitcast(builder.fadd(wide, ir.Constant(_F64, 0.0)), _I64)  # the negative zero is the other one
        return builder.select(is_none, _TOP, turned(builder, bits))
    if dtype.itemsize == 8:
        return builder.xor(value, _TOP) if dtype.kind == "u" else value
    return builder.zext(value, _I64) if dtype.kind == "u" else builder.sext(value, _I64)


def _multiple(builder: Any, dtype: np.dtype[Any], every: float, count: Any) -> Any:
    if dtype.kind == "f":
        time = builder.fmul(builder.sitofp(count, _F64), ir.Constant(_F64, every))
        if dtype.itemsize == 4:
            time = builder.fpext(builder.fptrunc(time, _F32), _F64)
        most = ir.Constant(_F64, float(_most_periods(dtype)))
        size = builder.call(builder.module.declare_intrinsic("llvm.fabs", [_F64]), [builder.sitofp(count, _F64)])
        is_known = builder.and_(
            builder.fcmp_ordered("<", size, most), builder.fcmp_ordered("!=", time, ir.Constant(_F64, float("inf")))
        )
        return builder.select(is_known, _word_of(builder, _double(), time), _TOP)
    raw = builder.mul(count, ir.Constant(_I64, int(every)))
    return builder.xor(raw, _TOP) if dtype.kind == "u" and dtype.itemsize == 8 else raw


def _double() -> np.dtype[Any]:
    import numpy as np

    return np.dtype(np.float64)
