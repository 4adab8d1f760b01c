"""Arrays that do not fit where they are written: refused, and said in fixed words.

Numba writes both shapes into the text of the error when an array does not fit where it is assigned. That takes all of
its code for texts, two thirds of what is compiled for an array expression, and holds Python objects, so that no
other process could use it. What the shapes are is in the traceback, which comes from running the handler in Python.

What NumPy's functions write to, as in `a += b` and `np.add(a, b, out)`, numba takes to have the shape of what is
written, and reads and writes beyond the arrays where it is not so; nor does it look whether what is written is still to
be read, as in `a[1:] += a[:-1]`. Both raise a `ValueError` here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import types
from numba.extending import overload
from numba.np import arrayobj, npyimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stand_in import Part

MISMATCH = "an array is assigned to a place of another shape"
OVERLAP = "an array is changed in place by a part of itself that begins elsewhere: take a copy of that, as in x.copy()"
_RAISE, _KERNEL = "raise_with_shape_context", "numpy_ufunc_kernel"
"""Numba calls these for an array that does not fit, and for each function of arrays that it compiles."""


def shapes_that_fit() -> list[Part]:
    """Return what stands in numba for these."""
    theirs = getattr(npyimpl, _KERNEL)

    def checked(context: Any, builder: Any, sig: Any, args: Any, ufunc: Any, kernel: Any) -> Any:
        typed = list(zip(args, sig.args, strict=True))
        given = [one for one in typed if isinstance(one[1], types.Array)]
        for output in typed[ufunc.nin :]:
            for other in given if isinstance(output[1], types.Array) else ():
                if other[0] is not output[0]:
                    _check(context, builder, output, other)
        return theirs(context, builder, sig, args, ufunc, kernel)

    in_fixed_words = [(arrayobj, _RAISE, refuse_shape)] if hasattr(arrayobj, _RAISE) else []  # as in other numbas
    return [(npyimpl, _KERNEL, checked), *in_fixed_words]


def refuse_shape(source: Any, place: Any) -> None:
    """Raise for two shapes, in compiled code."""
    raise NotImplementedError


@overload(refuse_shape)  # type: ignore[untyped-decorator]
def _refuse_shape(source: Any, place: Any) -> Callable[[Any, Any], None]:
    def refuse(source: Any, place: Any) -> None:
        raise ValueError(MISMATCH)

    return refuse


def _check(context: Any, builder: Any, output: Any, other: Any) -> None:
    """Raise unless `other` has the output's shape, or one that is stretched to it, and does not overlap it."""
    written_kind, read_kind = output[1], other[1]
    to, of = (context.make_array(kind)(context, builder, one) for one, kind in (output, other))
    lengths = [[builder.extract_value(one.shape, i) for i in range(kind.ndim)]
               for one, kind in ((to, written_kind), (of, read_kind))]  # fmt: skip
    fits = ir.Constant(ir.IntType(1), int(read_kind.ndim <= written_kind.ndim))
    for theirs, ours in zip(reversed(lengths[1]), reversed(lengths[0]), strict=False):
        same = builder.icmp_signed("==", theirs, ours)
        one = builder.icmp_signed("==", theirs, theirs.type(1))
        fits = builder.and_(fits, builder.or_(same, one))
    _raise_unless(context, builder, fits, MISMATCH)
    if written_kind.layout == read_kind.layout == "C":
        begins = [builder.ptrtoint(one.data, one.itemsize.type) for one in (to, of)]
        ends = [
            builder.add(begin, builder.mul(one.nitems, one.itemsize))
            for begin, one in zip(begins, (to, of), strict=True)
        ]
        is_apart = builder.or_(
            builder.icmp_unsigned("<=", ends[0], begins[1]), builder.icmp_unsigned("<=", ends[1], begins[0])
        )
        _raise_unless(context, builder, builder.or_(is_apart, builder.icmp_unsigned("==", *begins)), OVERLAP)


def _raise_unless(context: Any, builder: Any, holds: Any, reason: str) -> None:
    with builder.if_then(builder.not_(holds), likely=False):
        context.call_conv.return_user_exc(builder, ValueError, (reason,))
