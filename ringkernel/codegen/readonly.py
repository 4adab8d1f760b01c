"""The numba types of messages, which are read only, and of parameters, which are, too: what is read from one cannot be
written to, under any name.

Other kernels may read a message, too, and under `map` it is the caller's array; several threads may read parameters.
So the type travels with the value: through helpers, iteration, tuples, views and fields, down to nested arrays and
records. A copy of the data is of the ordinary, writable types. Layouts are the same.
"""

from __future__ import annotations

import inspect
import linecache
import operator
import re
from typing import Any

import numpy as np
from numba import from_dtype, types
from numba.core.datamodel import models, register_default
from numba.core.errors import TypingError
from numba.core.imputils import builtin_registry
from numba.core.typeconv import Conversion
from numba.core.typing.arraydecl import SetItemBuffer
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.core.typing.typeof import typeof_impl

from .places import place_in
from .span_types import RefusedHandlerError


class ReadOnlyRecord(types.Record):
    """A record that nothing is assigned to, see `checks.py`; `writable` is what its copies are."""

    name: str

    def __init__(self, writable: types.Record) -> None:
        self.writable = writable
        fields = [(name, {**field._asdict(), "type": read_only(field.type)}) for name, field in writable.fields.items()]
        super().__init__(fields, writable.size, writable.aligned)
        self.name = f"ReadOnly{self.name}"

    def can_convert_to(self, typingctx: Any, other: Any) -> Any:
        """To nothing: numba's records pass for others that begin alike, which would be writable."""
        return None

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """An ordinary record may be read."""
        return Conversion.safe if other == self.writable else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        """Return the type of a variable that may be either: it is not written to."""
        return self if other == self.writable else None


class ReadOnlyArray(types.Array):
    """An array of messages, or of what is in them."""

    is_internal = True  # otherwise numba does not fuse the operations of an expression

    def __init__(self, dtype: Any, ndim: int, layout: str, *, aligned: bool = True) -> None:
        super().__init__(read_only(dtype), ndim, layout, readonly=True, aligned=aligned)

    def copy(self, dtype: Any = None, ndim: Any = None, layout: Any = None, readonly: Any = None) -> types.Array:
        """The type of a view, or with `readonly=False` of a copy of the data: that is how numba asks."""
        dtype = self.dtype if dtype is None else dtype
        ndim = self.ndim if ndim is None else ndim
        layout = self.layout if layout is None else layout
        if readonly is False:
            return types.Array(writable(dtype), ndim, layout, aligned=self.aligned)
        return ReadOnlyArray(dtype, ndim, layout, aligned=self.aligned)

    def unify(self, typingctx: Any, other: Any) -> Any:
        """Return the type of a variable that may be either: it is not written to."""
        if isinstance(other, types.Array) and other.ndim == self.ndim and read_only(other.dtype) == self.dtype:
            layout = self.layout if self.layout == other.layout else "A"
            return ReadOnlyArray(self.dtype, self.ndim, layout, aligned=self.aligned and other.aligned)
        return None

    def can_convert_to(self, typingctx: Any, other: Any) -> Any:
        """To an array whose type is as good at keeping writes away."""
        return super().can_convert_to(typingctx, other) if isinstance(other, ReadOnlyArray) else None

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """An ordinary array may be read."""
        if not isinstance(other, types.Array) or other.ndim != self.ndim or read_only(other.dtype) != self.dtype:
            return None
        return Conversion.safe if self.layout in ("A", other.layout) and other.aligned >= self.aligned else None


class ReadOnlyNestedArray(types.NestedArray):
    """An array that is a field of a message."""

    name: str
    is_internal = True
    mutable = False

    def __init__(self, writable: types.NestedArray) -> None:
        super().__init__(read_only(writable.dtype), writable.shape)
        self.writable = writable
        self.name = f"readonly {self.name}"

    @property
    def key(self) -> Any:
        """Tells the type from others."""
        return "readonly", self.dtype, self.shape

    copy = ReadOnlyArray.copy
    unify = ReadOnlyArray.unify
    can_convert_to = ReadOnlyArray.can_convert_to


def read_only(numba_type: Any) -> Any:
    """The type of what is in a message."""
    if isinstance(numba_type, ReadOnlyRecord | ReadOnlyArray | ReadOnlyNestedArray):
        return numba_type
    if isinstance(numba_type, types.Record):
        return ReadOnlyRecord(numba_type)
    if isinstance(numba_type, types.NestedArray):
        return ReadOnlyNestedArray(numba_type)
    if isinstance(numba_type, types.Array):
        return ReadOnlyArray(numba_type.dtype, numba_type.ndim, numba_type.layout, aligned=numba_type.aligned)
    return numba_type


def writable(numba_type: Any) -> Any:
    """The type of a copy of it."""
    if isinstance(numba_type, ReadOnlyArray):
        return numba_type.copy(readonly=False)
    return numba_type.writable if isinstance(numba_type, ReadOnlyRecord | ReadOnlyNestedArray) else numba_type


class _ConstantArray(np.ndarray[Any, Any]):
    """An array that compiled code holds as a constant."""


class _ConstantRecord(np.void):  # type: ignore[misc]  # final only in its stubs
    """A record that compiled code holds as a constant."""


class _WritableConstant(np.ndarray[Any, Any]):
    """An array that is typed as if it were none."""


class _WritableArray(types.Array):
    """Its type: numba would make that of a global read only."""

    def copy(self, dtype: Any = None, ndim: Any = None, layout: Any = None, readonly: Any = None) -> types.Array:
        """An ordinary type, whatever is asked for."""
        return types.Array(dtype or self.dtype, self.ndim if ndim is None else ndim, layout or self.layout)


def from_outside(value: Any, *, writable: bool) -> Any:
    """An array or a record as numba is to make a constant of it: of the types above, or of ordinary ones. Anything else
    as it is."""
    if isinstance(value, np.ndarray):
        return value.view(_WritableConstant if writable else _ConstantArray)
    if isinstance(value, np.void) and value.dtype.fields is not None and not writable:
        return np.array([value], value.dtype).view(np.dtype((_ConstantRecord, value.dtype)))[0]
    return value


@typeof_impl.register(_ConstantArray)
def _constant_array(value: Any, c: Any) -> Any:
    return read_only(typeof_impl(value.view(np.ndarray), c))


@typeof_impl.register(_ConstantRecord)
def _constant_record(value: Any, c: Any) -> Any:
    return read_only(from_dtype(value.dtype))


@typeof_impl.register(_WritableConstant)
def _writable_array(value: Any, c: Any) -> Any:
    found = typeof_impl(value.view(np.ndarray), c)
    return _WritableArray(found.dtype, found.ndim, found.layout)


register_default(ReadOnlyRecord)(models.RecordModel)
register_default(ReadOnlyArray)(models.ArrayModel)
register_default(_WritableArray)(models.ArrayModel)
register_default(ReadOnlyNestedArray)(models.NestedArrayModel)


@builtin_registry.lower_cast(types.Array, ReadOnlyArray)
@builtin_registry.lower_cast(types.Record, ReadOnlyRecord)
def _as_read_only(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    return value


@builtin_registry.lower_cast(ReadOnlyRecord, types.Record)
@builtin_registry.lower_cast(ReadOnlyNestedArray, types.NestedArray)
def _as_what_is_copied(context: Any, builder: Any, fromty: Any, toty: Any, value: Any) -> Any:
    """Asked for by assignments to an output or a state, which copy: no conversion rule leads here."""
    if toty != fromty.writable:
        raise NotImplementedError(f"{fromty} is no {toty}")
    return value


@infer_global(operator.setitem)
class _CopyIntoArray(AbstractTemplate):
    """`outs[i] = msgs[j]` and `outs[:n] = msgs[k:]`: records are copied."""

    def generic(self, args: Any, kws: Any) -> Any:
        array, index, value = args
        held = value.dtype if isinstance(value, ReadOnlyArray) else value
        if not isinstance(held, ReadOnlyRecord) or isinstance(array, ReadOnlyArray):
            return None
        sig = SetItemBuffer(self.context).generic((array, index, writable(value)), kws)
        return None if sig is None else sig.replace(args=(*sig.args[:2], value))


@builtin_registry.lower_setattr_generic(ReadOnlyRecord)
def _assign_to_message(context: Any, builder: Any, sig: Any, args: Any, attr: str) -> Any:
    raise TypingError(f"field {attr!r} of what is read only is assigned to")


# --- what is said of it -----------------------------------------------------------------------------------------------


_REASONS = {
    "message": "a message is read only, since other kernels may read it, too, and under map it is the caller's, and "
    "here it may be written to; write to the output, or to a copy, as np.copy(...) and .copy() make one",
    "params": "the parameters are read only, since several threads may read them, and here they may be written to; "
    "what changes from message to message belongs in the state, and write_params() replaces the parameters",
}


def read_only_error(error: BaseException, written: str, handler: Any) -> RefusedHandlerError:
    """Return the error of a handler that does not compile because it writes to what is read only: "message", "params"
    or "outside"."""
    place = place_in(error) or ("somewhere", 0)
    reason = _REASONS[written] if written in _REASONS else _outside(handler, linecache.getline(*place))
    return RefusedHandlerError(reason, place)


def _outside(handler: Any, line: str) -> str:
    """Which array or record from outside is written to in a line, as far as it names one, and where it should be."""
    parameters = inspect.signature(handler).parameters
    around = inspect.getclosurevars(handler)
    outside = {name: one.default for name, one in parameters.items()} | dict(around.globals) | dict(around.nonlocals)
    named = [name for name in re.findall(r"\w+", line) if isinstance(outside.get(name), np.ndarray | np.void | tuple)]
    what = f"`{named[0]}`" if named else "what is written to here"
    remedy = "keep what changes in the `state`"
    if named and named[0] in parameters and "state" not in parameters:
        remedy += f": call the parameter `state` instead of `{named[0]}`"
    return (
        f"{what} is an array from outside, which compiled code holds as a constant: it cannot be written to; {remedy}"
    )
