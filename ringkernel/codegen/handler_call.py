"""An intrinsic that calls a handler with records at given addresses. An exception comes back as a code.

It is built the same way for every target; what differs (how a function is compiled, how an exception is described) is
in a `CallTarget`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils

from ringkernel.memory.chain_layout import SMALL_NBYTES
from ringkernel.memory.context_layout import RNG_WORDS

from .span_body import ALL, DROP, EMIT, FAILED, FAULT_INFO
from .time_values import time_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from .span_types import SpanTypes

_I64, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()


@dataclass(frozen=True)
class CallTarget:
    """How a target compiles and fails.

    `intrinsic` is its decorator; `overload(dispatcher, argument_types)` compiles a function; `describe(builder,
    status)` is one int64 that says which exception a call has ended with; `message` is the type of a message, made from
    that of a record or an array of them. A grid's handler has compiled for the CPU before, with messages that are read
    only by type: it need not be proven twice.
    """

    intrinsic: Callable[..., Any]
    overload: Callable[[Any, tuple[Any, ...]], Any]
    describe: Callable[[Any, Any], Any]
    message: Callable[[Any], Any] = lambda numba_type: numba_type


def argument_types(
    spec: SpanTypes,
    message: Callable[[Any], Any] = lambda numba_type: numba_type,
    params: Callable[[Any], Any] | None = None,
) -> tuple[Any, ...]:
    """The numba types of a handler's parameters; `message` as in `CallTarget`, and `params`, by default the same."""
    params = message if params is None else params

    def of(dtype: Any) -> Any:
        item = from_dtype(dtype)
        return types.Array(item, 1, "C") if spec.batch else item

    arguments = [] if spec.input is None else [message(of(spec.input))]
    if spec.time is not None:
        arguments.append(from_dtype(spec.time))
    if spec.output is not None:
        arguments.append(of(spec.output))
    if spec.state is not None:
        dtype, shape = spec.state
        arguments.append(from_dtype(dtype) if shape is None else types.Array(from_dtype(dtype), len(shape), "C"))
    if spec.params is not None:
        arguments.append(params(from_dtype(spec.params)))
    if spec.rng:
        from .rng_type import rng_type

        arguments.append(rng_type)
    return tuple(arguments)


def handler_call(dispatcher: Any, spec: SpanTypes, target: CallTarget) -> Any:
    """An intrinsic that calls the handler on addresses: its verdict: EMIT, DROP or a count; FAILED; ALL. What a kernel
    does at its end says ALL for nothing, and EMIT for True: then there is more.

    `held` is the kernel's context: the state lies there, and behind it parameters and random numbers, see
    `context_layout.py`. Of a keyed kernel the state is a further argument. `source_count` and `target_count` are the
    lengths of the slices for a batch handler, and indices otherwise. For a handler of times, `source` is one as a word.
    An output is zero before the call, unless the kernel says `zeroed=False`; what is in its slot after a message that
    is dropped, or that fails, is of no importance.
    """
    given = argument_types(spec, target.message)
    layout = spec.context

    def written(*words: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            source, source_count, out, out_count, held, fault = args[:6]
            state = args[6] if len(args) > 6 else held
            values = [] if spec.input is None else [_message(context, builder, given[0], source, source_count)]
            if spec.time is not None:
                values.append(time_value(builder, spec.time, source))
            put = _nothing_to_put
            if spec.output is not None:
                written_to, put = _output(context, builder, given[len(values)], spec, out, out_count)
                values.append(written_to)
            if spec.state is not None:
                values.append(_state(context, builder, given[len(values)], spec.state[1], state))
            if spec.params is not None:
                there = _behind(builder, held, layout.params_at)
                values.append(_state(context, builder, given[len(values)], None, there))
            rng = _behind(builder, held, layout.rng_at)
            values += [rng] * spec.rng
            drawn = [builder.load(_word(builder, rng, i)) for i in range(RNG_WORDS * spec.rng)]
            compiled = target.overload(dispatcher, given)
            context.active_code_library.add_linking_library(compiled.library)
            status, value = context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, values)
            put()
            returned = compiled.signature.return_type
            with builder.if_then(status.is_error):
                where = builder.inttoptr(builder.add(fault, ir.Constant(_I64, FAULT_INFO)), _I64.as_pointer())
                builder.store(target.describe(builder, status), where)
                for i, word in enumerate(drawn, RNG_WORDS):
                    builder.store(word, _word(builder, rng, i))
            nothing = ALL if spec.batch or spec.is_end else EMIT
            return _verdict(context, builder, returned, status, value, nothing, spec.batch)

        return types.int64(*[types.int64] * len(words)), codegen

    def call(typingctx: Any, source: Any, source_count: Any, out: Any, out_count: Any, held: Any, fault: Any) -> Any:
        return written(source, source_count, out, out_count, held, fault)

    def keyed(  # noqa: PLR0913, PLR0917 (an intrinsic's parameters have names)
        typingctx: Any, source: Any, source_count: Any, out: Any, out_count: Any, held: Any, fault: Any, state: Any
    ) -> Any:
        return written(source, source_count, out, out_count, held, fault, state)

    return target.intrinsic(call if spec.key is None else keyed)


def _message(context: Any, builder: Any, numba_type: Any, address: Any, number: Any) -> Any:
    """One record out of an array of records, or for a batch handler the array itself."""
    if isinstance(numba_type, types.Array):
        return _array(context, builder, numba_type, address, [number])
    pointer = builder.inttoptr(address, context.get_value_type(numba_type))
    size = context.get_abi_sizeof(context.get_data_type(numba_type))
    # `address` is loop-invariant and the record is an element of one array: what LLVM needs to see to vectorise
    raw = builder.bitcast(pointer, ir.ArrayType(ir.IntType(8), size).as_pointer())
    return builder.bitcast(builder.gep(raw, [number]), context.get_value_type(numba_type))


def _output(
    context: Any, builder: Any, numba_type: Any, spec: SpanTypes, address: Any, number: Any
) -> tuple[Any, Callable[[], None]]:
    """Return what a handler is given to write to, which is zero, and what puts it in its slot after the call.

    A small record lies on the stack: LLVM keeps it in registers, and removes what zeroes the fields that are written
    anyway. In the slot it could not, as a message may be read, that might overlap, before they are.
    """
    slot = _message(context, builder, numba_type, address, number)
    assert spec.output is not None
    nbytes = spec.output.itemsize
    if not spec.zeroed:
        return slot, _nothing_to_put
    if spec.batch:
        count = builder.mul(number, ir.Constant(_I64, nbytes))
        cgutils.memset(builder, builder.inttoptr(address, _BYTES), count, 0)
        return slot, _nothing_to_put
    length = ir.Constant(_I64, nbytes)
    if nbytes > SMALL_NBYTES:
        cgutils.memset(builder, builder.bitcast(slot, _BYTES), length, 0)
        return slot, _nothing_to_put
    record = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), nbytes))
    record.align = 16
    cgutils.memset(builder, builder.bitcast(record, _BYTES), length, 0)

    def put() -> None:
        cgutils.raw_memcpy(builder, builder.bitcast(slot, _BYTES), builder.bitcast(record, _BYTES), length, 1)

    return builder.bitcast(record, slot.type), put


def _nothing_to_put() -> None:
    return


def _array(context: Any, builder: Any, numba_type: Any, address: Any, shape: list[Any]) -> Any:
    array = context.make_array(numba_type)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(numba_type.dtype)))
    array.data = builder.inttoptr(address, array.data.type)
    strides = [size]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    count = shape[0]
    for extent in shape[1:]:
        count = builder.mul(count, extent)
    array.nitems, array.itemsize = count, size
    array.shape, array.strides = cgutils.pack_array(builder, shape), cgutils.pack_array(builder, strides)
    return array._getvalue()


def _state(context: Any, builder: Any, numba_type: Any, shape: tuple[int, ...] | None, address: Any) -> Any:
    if shape is None:
        return builder.inttoptr(address, context.get_value_type(numba_type))
    extents = [context.get_constant(types.intp, extent) for extent in shape]
    return _array(context, builder, numba_type, address, extents)


def _word(builder: Any, address: Any, index: int) -> Any:
    return builder.gep(builder.inttoptr(address, _I64.as_pointer()), [ir.Constant(_I64, index)])


def _behind(builder: Any, address: Any, offset: int) -> Any:
    return builder.add(address, ir.Constant(_I64, offset))


def _verdict(context: Any, builder: Any, returned: Any, status: Any, value: Any, nothing: int, batch: bool) -> Any:
    """Return what the handler says, as one int64. `nothing`: what it means to return nothing."""
    everything = ir.Constant(_I64, nothing)
    if isinstance(returned, types.NoneType):
        verdict = everything
    elif isinstance(returned, types.Optional):
        plain = _plain_verdict(context, builder, returned.type, value, batch)
        verdict = builder.select(status.is_none, everything, plain)
    else:
        verdict = _plain_verdict(context, builder, returned, value, batch)
    return builder.select(status.is_error, ir.Constant(_I64, FAILED), verdict)


def _plain_verdict(context: Any, builder: Any, returned: Any, value: Any, batch: bool) -> Any:
    if batch:
        return context.cast(builder, value, returned, types.int64)
    bit = builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0))
    return builder.select(bit, ir.Constant(_I64, EMIT), ir.Constant(_I64, DROP))
