"""`push` of an `InputHandle` for functions that Numba compiles. Importing this module imports numba."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaTypeError
from numba.core.typeconv import Conversion
from numba.extending import intrinsic

from ringkernel.errors import KernelStateError, QueueFullError
from ringkernel.ring.protocol.feeding import BUSY, FULL, feeding_api

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ringkernel.messages.types import MessageType

_I64 = ir.IntType(64)
_made: dict[np.dtype[Any], Callable[[int, Any], int]] = {}


def push_of(message_type: MessageType) -> Callable[[int, Any], int]:
    """`push(address, message)` for messages of a type: see `InputHandle.numba_push`."""
    dtype = message_type.array_dtype
    if dtype not in _made:
        _made[dtype] = _new_push(dtype, message_type.name)
    return _made[dtype]


def _new_push(dtype: np.dtype[Any], name: str) -> Callable[[int, Any], int]:
    wanted = numba.from_dtype(dtype)
    push_all = _push_all_of(wanted, name)

    @numba.njit(nogil=True)
    def push(address, message):  # type: ignore[no-untyped-def]
        pushed = push_all(address, message)
        if pushed == FULL:
            raise QueueFullError("all slots of this input are taken")
        if pushed == BUSY:
            raise KernelStateError("another thread pushes by this handle; open one for each thread")
        if pushed < 0:
            raise KernelStateError("this input was closed, or its kernel has ended")
        return pushed

    return push  # type: ignore[no-any-return]


def _push_all_of(wanted: Any, name: str) -> Any:
    """`push_all` of `feeding.py`, for a message or an array of them."""
    push_all_address = feeding_api().push_all_address

    @intrinsic
    def push_all(typing_context, address, message):  # type: ignore[no-untyped-def]  # noqa: ARG001 (typed below)
        given = types.unliteral(message)
        is_array = isinstance(given, types.Array)
        if is_array:
            fits = given.dtype == wanted and given.ndim == 1 and given.layout == "C"
        elif isinstance(wanted, types.Record):
            fits = given == wanted
        else:
            conversion = typing_context.can_convert(given, wanted)
            fits = conversion is not None and conversion <= Conversion.safe
        if not fits:
            raise NumbaTypeError(
                f"push takes a message of type {name}, that is {wanted}, or a contiguous 1-D array of them; got {given}"
            )
        signature = types.int64(types.int64, given if is_array else wanted)

        def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            feeder, value = arguments
            count: Any = _I64(1)
            if is_array:
                array = context.make_array(given)(context, builder, value)
                place, count = array.data, array.nitems
            elif isinstance(wanted, types.Record):
                place = value
            else:
                place = cgutils.alloca_once(builder, context.get_data_type(wanted))
                context.pack_value(builder, wanted, value, place)
            function = context.add_dynamic_addr(builder, push_all_address, "ringkernel.push_all")
            kind = ir.FunctionType(_I64, [_I64, _I64, _I64]).as_pointer()
            return builder.call(builder.bitcast(function, kind), [feeder, builder.ptrtoint(place, _I64), count])

        return signature, codegen

    return push_all
