"""Memory of this CPU, as numba intrinsics: atomics, fences, plain words, bytes; and the instructions beside them.

numba has no CPU atomics: a plain load in a polling loop is hoisted out of it, so every shared word goes through the
LLVM atomics below.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_I8P = ir.IntType(8).as_pointer()
_MACHINE = platform.machine().lower()
IS_X86 = _MACHINE in ("x86_64", "amd64", "i386", "i686")
IS_ARM = _MACHINE in ("aarch64", "arm64")


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


def load_of(order: str) -> Any:
    """An atomic load of this order: `load(address)`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.load_atomic(_pointer(builder, args[0]), order, 8)

        return types.int64(types.int64), codegen

    return load


def store_of(order: str) -> Any:
    """An atomic store of this order: `store(address, value)`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.store_atomic(args[1], _pointer(builder, args[0]), order, 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return store


def fence_of(order: str) -> Any:
    """A fence of this order: `fence()`."""

    @intrinsic  # type: ignore[untyped-decorator]
    def fence(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence(order)
            return context.get_dummy_value()

        return types.void(), codegen

    return fence


@intrinsic  # type: ignore[untyped-decorator]
def compare_exchange(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Sequentially consistent. What was there."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        seen = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(seen, 0)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def exchange(typingctx: Any, address: Any, value: Any) -> Any:
    """Sequentially consistent. What was there."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", _pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def fetch_add(typingctx: Any, address: Any, amount: Any) -> Any:
    """Sequentially consistent. What was there."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def spin_hint(typingctx: Any) -> Any:
    """The instruction for loops that wait: it leaves the core to its other thread."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # inline assembly would abort the process: numba's LLVM has no assembly parser here
        if IS_X86:
            hint = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause"
            )
            builder.call(hint, [])
        elif IS_ARM:
            hint = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [ir.IntType(32)]), "llvm.aarch64.hint"
            )
            builder.call(hint, [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def cycle_counter(typingctx: Any) -> Any:
    """The CPU's time stamp."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, []), "llvm.readcyclecounter")
        return builder.call(counter, [])

    return types.int64(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_span(typingctx: Any, address: Any, source: Any, count: Any, target: Any, state: Any, fault: Any) -> Any:
    """Call a function of five words by its address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(_I64, [_I64] * 5).as_pointer())
        return builder.call(function, args[1:])

    return types.int64(*[types.int64] * 6), codegen


@intrinsic  # type: ignore[untyped-decorator]
def call_function(typingctx: Any, address: Any, argument: Any) -> Any:
    """Call a function of one word by its address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(_I64, [_I64]).as_pointer())
        return builder.call(function, args[1:])

    return types.int64(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """`memcpy`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], _I8P), builder.inttoptr(args[1], _I8P), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def move_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    """`memmove`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cgutils.raw_memmove(builder, builder.inttoptr(args[0], _I8P), builder.inttoptr(args[1], _I8P), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def byte(typingctx: Any, text: Any, index: Any) -> Any:
    """A byte of a text."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.load_atomic(builder.inttoptr(builder.add(*args), _I8P), "monotonic", 1), _I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def peek(typingctx: Any, address: Any) -> Any:
    """A plain load."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0]))

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def poke(typingctx: Any, address: Any, value: Any) -> Any:
    """A plain store."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def zero_bytes(typingctx: Any, address: Any, count: Any) -> Any:
    """`memset` to zero."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cgutils.memset(builder, builder.inttoptr(args[0], _I8P), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def stack_words(typingctx: Any) -> Any:
    """The address of two words on this function's stack."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        words = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
        return builder.ptrtoint(words, _I64)

    return types.int64(), codegen
