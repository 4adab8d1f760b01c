"""An array that NumPy's functions write to has the shape of what is written: `a += b`, `np.add(a, b, out)`.

Numba takes that as given, and reads and writes beyond the arrays where it is not so; nor does it look whether what is
written is still to be read, as in `a[1:] += a[:-1]`. Both raise a `ValueError` here.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.np import npyimpl

from .shapes import MISMATCH
from .stand_in import stand_in

if TYPE_CHECKING:
    from collections.abc import Iterator

OVERLAP = "an array is changed in place by a part of itself that begins elsewhere: take a copy of that, as in x.copy()"
_NAME = "numpy_ufunc_kernel"
"""What numba calls for each function of arrays that it compiles."""


@contextmanager
def outputs_that_fit() -> Iterator[None]:
    """Have numba look at that, here and now; the user's own functions stay what they are outside of it."""
    theirs = getattr(npyimpl, _NAME)

    def checked(context: Any, builder: Any, sig: Any, args: Any, ufunc: Any, kernel: Any) -> Any:
        given = [(one, kind) for one, kind in zip(args, sig.args, strict=True) if isinstance(kind, types.Array)]
        outputs = [
            (one, kind)
            for one, kind in list(zip(args, sig.args, strict=True))[ufunc.nin :]
            if isinstance(kind, types.Array)
        ]
        for output in outputs:
            for other in given:
                if other[0] is not output[0]:
                    _check(context, builder, output, other)
        return theirs(context, builder, sig, args, ufunc, kernel)

    with global_compiler_lock, stand_in(npyimpl, _NAME, checked):
        yield


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
