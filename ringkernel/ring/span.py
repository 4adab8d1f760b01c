"""What is compiled per handler: a pure loop over contiguous records, the handler inlined.

`span(source, count, target, state, fault) -> emitted`, all int64 addresses and counts. No ring, no command and no
atomics in it, so that LLVM may vectorise it. A handler that fails ends the loop: the words at `fault` then hold the
index of the message, numba's description of the exception, and (`FAULT_COUNT`) how many messages failed with it.
A failure is a return code, not `try/except`, which does not compile for CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import cfunc, from_dtype, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .checks import check_assignments, check_message_untouched, check_return
from .cpu import _store
from .layout import BLOCK
from .span_types import Span, SpanTypes
from .specialize import Specializer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

_I64 = ir.IntType(64)
EMIT, DROP = 0, 1
FAILED, ALL = -(2**62), -(2**62) + 1
"""Verdicts that no handler returns as a count: it raised; it returned nothing and means all."""
FAULT_INFO = BLOCK.fault_info_address - BLOCK.fault_index
FAULT_COUNT = BLOCK.fault_count - BLOCK.fault_index

_store_word = _store("monotonic")


def compile_span(handler: Callable[..., Any], spec: SpanTypes) -> Span:
    """Compile a handler into a span. Raises whatever numba raises."""
    jit = njit(error_model="numpy", boundscheck=spec.check)
    specializer = Specializer(jit)
    arguments = _argument_types(spec)
    dispatcher = specializer(handler)
    if handler.__code__.co_argcount > len(arguments):
        dispatcher = jit(_with_defaults(dispatcher, len(arguments)))
    dispatcher.compile(arguments)
    returned = dispatcher.overloads[arguments].signature.return_type
    check_return(returned, spec.batch)
    for overload in specializer(handler).overloads.values():
        check_message_untouched(overload.type_annotation)
    for compiled in specializer.compiled():
        for overload in getattr(compiled, "overloads", {}).values():
            check_assignments(overload.type_annotation)
    call = _call(dispatcher, spec)
    body = _batch_span(call, spec) if spec.batch else _scalar_span(call, spec, returned)
    compiled = cfunc(types.int64(*[types.int64] * 5), error_model="numpy")(body)
    keepalive = (compiled, dispatcher, specializer)
    return Span(int(compiled.address), keepalive, compiled._library, compiled._wrapper_name)


def _with_defaults(handler: Any, count: int) -> Callable[..., Any]:
    """The handler as a function of just its `count` first parameters."""

    def one(msg: Any) -> Any:
        return handler(msg)

    def two(msg: Any, second: Any) -> Any:
        return handler(msg, second)

    def three(msg: Any, out: Any, state: Any) -> Any:
        return handler(msg, out, state)

    return (one, two, three)[count - 1]


def _argument_types(spec: SpanTypes) -> tuple[Any, ...]:
    def of(dtype: np.dtype[Any]) -> Any:
        item = from_dtype(dtype)
        return types.Array(item, 1, "C") if spec.batch else item

    arguments = [of(spec.input)]
    if spec.output is not None:
        arguments.append(of(spec.output))
    if spec.state is not None:
        dtype, shape = spec.state
        arguments.append(from_dtype(dtype) if shape is None else types.Array(from_dtype(dtype), len(shape), "C"))
    return tuple(arguments)


def _call(dispatcher: Any, spec: SpanTypes) -> Any:
    """An intrinsic that calls the handler on addresses: its verdict: EMIT, DROP or a count; FAILED; ALL.

    `source_count` and `target_count` are the lengths of the slices for a batch handler, and indices otherwise.
    """
    argument_types = _argument_types(spec)

    @intrinsic  # type: ignore[untyped-decorator]
    def call(
        typingctx: Any, source: Any, source_count: Any, target: Any, target_count: Any, state: Any, fault: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            source, source_count, target, target_count, state, fault = args
            values = [_message(context, builder, argument_types[0], source, source_count)]
            if spec.output is not None:
                values.append(_message(context, builder, argument_types[1], target, target_count))
            if spec.state is not None:
                values.append(_state(context, builder, argument_types[-1], spec.state[1], state))
            dispatcher.compile(argument_types)
            compiled = dispatcher.overloads[argument_types]
            context.active_code_library.add_linking_library(compiled.library)
            status, value = context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, values)
            return _verdict(context, builder, compiled.signature.return_type, status, value, fault, spec.batch)

        return types.int64(*[types.int64] * 6), codegen

    return call


def _message(context: Any, builder: Any, numba_type: Any, address: Any, number: Any) -> Any:
    """One record out of an array of records, or for a batch handler the array itself."""
    if isinstance(numba_type, types.Array):
        return _array(context, builder, numba_type, address, [number])
    pointer = builder.inttoptr(address, context.get_value_type(numba_type))
    size = context.get_abi_sizeof(context.get_data_type(numba_type))
    # `address` is loop-invariant and the record is an element of one array: what LLVM needs to see to vectorise
    raw = builder.bitcast(pointer, ir.ArrayType(ir.IntType(8), size).as_pointer())
    return builder.bitcast(builder.gep(raw, [number]), context.get_value_type(numba_type))


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


def _verdict(context: Any, builder: Any, returned: Any, status: Any, value: Any, fault: Any, batch: bool) -> Any:
    """What the handler says as one int64; FAILED after writing numba's description of the exception to `fault`."""
    result = cgutils.alloca_once_value(builder, ir.Constant(_I64, FAILED))
    everything = ir.Constant(_I64, ALL if batch else EMIT)
    with builder.if_else(status.is_error) as (failed, fine):
        with failed:
            where = builder.inttoptr(builder.add(fault, ir.Constant(_I64, FAULT_INFO)), _I64.as_pointer())
            builder.store(builder.ptrtoint(status.excinfoptr, _I64), where)
        with fine:
            if isinstance(returned, types.NoneType):
                verdict = everything
            elif isinstance(returned, types.Optional):
                plain = _plain_verdict(context, builder, returned.type, value, batch)
                verdict = builder.select(status.is_none, everything, plain)
            else:
                verdict = _plain_verdict(context, builder, returned, value, batch)
            builder.store(verdict, result)
    return builder.load(result)


def _plain_verdict(context: Any, builder: Any, returned: Any, value: Any, batch: bool) -> Any:
    if batch:
        return context.cast(builder, value, returned, types.int64)
    bit = builder.icmp_unsigned("!=", value, ir.Constant(value.type, 0))
    return builder.select(bit, ir.Constant(_I64, EMIT), ir.Constant(_I64, DROP))


@intrinsic  # type: ignore[untyped-decorator]
def _zero(typingctx: Any, address: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        cgutils.memset(builder, pointer, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


SMALL = 256
"""Bytes of a record up to which a span's outputs are zeroed all at once; larger ones one by one, while in cache."""


def _scalar_span(call: Any, spec: SpanTypes, returned: Any) -> Callable[..., int]:  # noqa: C901 (three loops)
    itemsize = spec.output.itemsize if spec.output is not None else 0
    at_once = itemsize if spec.zeroed and itemsize <= SMALL else 0
    each = itemsize if spec.zeroed and itemsize > SMALL else 0

    def emit_all(source: int, count: int, target: int, state: int, fault: int) -> int:
        _zero(target, count * at_once)
        for i in range(count):
            _zero(target + i * itemsize, each)
            if call(source, i, target, i, state, fault) == FAILED:
                _store_word(fault, i)
                _store_word(fault + FAULT_COUNT, 1)
                return i
        return count

    def emit_some(source: int, count: int, target: int, state: int, fault: int) -> int:
        emitted = 0
        for i in range(count):
            _zero(target + emitted * itemsize, at_once + each)
            verdict = call(source, i, target, emitted, state, fault)
            if verdict == FAILED:
                _store_word(fault, i)
                _store_word(fault + FAULT_COUNT, 1)
                return emitted
            emitted += 1 - verdict
        return emitted

    def consume_all(source: int, count: int, target: int, state: int, fault: int) -> int:
        for i in range(count):
            if call(source, i, target, i, state, fault) == FAILED:
                _store_word(fault, i)
                _store_word(fault + FAULT_COUNT, 1)
                return 0
        return 0

    if spec.output is None:
        return consume_all
    return emit_all if isinstance(returned, types.NoneType) else emit_some


def _batch_span(call: Any, spec: SpanTypes) -> Callable[..., int]:
    itemsize = spec.output.itemsize if spec.output is not None else 0
    zeroed = itemsize if spec.zeroed else 0
    per_message = spec.max_outputs

    def batch(source: int, count: int, target: int, state: int, fault: int) -> int:
        room = count * per_message if itemsize > 0 else 0
        _zero(target, room * zeroed)
        verdict = call(source, count, target, room, state, fault)
        if verdict == ALL:  # one output for each message
            return min(count, room)
        if verdict < 0 or verdict > room:
            if verdict != FAILED:
                _store_word(fault + FAULT_INFO, 0)
            _store_word(fault, 0)
            _store_word(fault + FAULT_COUNT, count)
            return 0
        return verdict  # type: ignore[no-any-return]

    return batch
