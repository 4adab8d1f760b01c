"""Memory of this CPU: atomics, fences, plain words, bytes; and the instructions beside them.

Each is written once, as LLVM instructions, for functions of words (`emit`, see `words.py`) and as an intrinsic for what
numba compiles. numba has no CPU atomics: a plain load in a polling loop is hoisted out of it, so every shared word goes
through the LLVM atomics below.
"""

from __future__ import annotations

import inspect
import platform
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

_I64 = ir.IntType(64)
_I8P = ir.IntType(8).as_pointer()
_MACHINE = platform.machine().lower()
IS_X86 = _MACHINE in ("x86_64", "amd64", "i386", "i686")
IS_ARM = _MACHINE in ("aarch64", "arm64")


def operation(emit: Callable[..., Any]) -> Any:
    """An operation from what writes its instructions: `emit(builder, *words)`, which returns a word or None."""
    made = intrinsic(typed(emit))
    made.emit = emit
    return made


def typed(emit: Callable[..., Any]) -> Callable[..., Any]:
    """The same as numba wants it of an intrinsic, of whichever target."""

    def of_words(typingctx: Any, *given: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            written = emit(builder, *args)
            return context.get_constant(types.int64, 0) if written is None else written

        return types.int64(*[types.int64] * len(given)), codegen

    of_words.__name__ = of_words.__qualname__ = emit.__name__
    of_words.__doc__ = emit.__doc__
    parameters = list(inspect.signature(emit).parameters.values())
    of_words.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # numba asks for it
    return of_words


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


def load_of(order: str) -> Any:
    """An atomic load of this order: `load(address)`."""

    @operation
    def load(builder: Any, address: Any) -> Any:
        return builder.load_atomic(_pointer(builder, address), order, 8)

    return load


def store_of(order: str) -> Any:
    """An atomic store of this order: `store(address, value)`."""

    @operation
    def store(builder: Any, address: Any, value: Any) -> None:
        builder.store_atomic(value, _pointer(builder, address), order, 8)

    return store


def fence_of(order: str) -> Any:
    """A fence of this order: `fence()`."""

    @operation
    def fence(builder: Any) -> None:
        builder.fence(order)

    return fence


@operation
def compare_exchange(builder: Any, address: Any, expected: Any, value: Any) -> Any:
    """Sequentially consistent. What was there."""
    seen = builder.cmpxchg(_pointer(builder, address), expected, value, "seq_cst", "seq_cst")
    return builder.extract_value(seen, 0)


@operation
def exchange(builder: Any, address: Any, value: Any) -> Any:
    """Sequentially consistent. What was there."""
    return builder.atomic_rmw("xchg", _pointer(builder, address), value, "seq_cst")


@operation
def fetch_add(builder: Any, address: Any, amount: Any) -> Any:
    """Sequentially consistent. What was there."""
    return builder.atomic_rmw("add", _pointer(builder, address), amount, "seq_cst")


@operation
def spin_hint(builder: Any) -> None:
    """The instruction for loops that wait: it leaves the core to its other thread."""
    # inline assembly would abort the process: numba's LLVM has no assembly parser here
    if IS_X86:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
    elif IS_ARM:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.aarch64.hint")
        builder.call(hint, [ir.Constant(ir.IntType(32), 1)])


@operation
def cycle_counter(builder: Any) -> Any:
    """The CPU's time stamp."""
    kind = ir.FunctionType(_I64, [])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.readcyclecounter"), [])


@operation
def call_function(builder: Any, address: Any, argument: Any) -> Any:
    """Call a function of one word by its address."""
    function = builder.inttoptr(address, ir.FunctionType(_I64, [_I64]).as_pointer())
    return builder.call(function, [argument])


@operation
def copy_bytes(builder: Any, target: Any, source: Any, count: Any) -> None:
    """`memcpy`."""
    cgutils.raw_memcpy(builder, builder.inttoptr(target, _I8P), builder.inttoptr(source, _I8P), count, 1)


@operation
def move_bytes(builder: Any, target: Any, source: Any, count: Any) -> None:
    """`memmove`."""
    cgutils.raw_memmove(builder, builder.inttoptr(target, _I8P), builder.inttoptr(source, _I8P), count, 1)


@operation
def byte(builder: Any, text: Any, index: Any) -> Any:
    """A byte of a text."""
    return builder.zext(builder.load_atomic(builder.inttoptr(builder.add(text, index), _I8P), "monotonic", 1), _I64)


@operation
def peek(builder: Any, address: Any) -> Any:
    """A plain load."""
    return builder.load(_pointer(builder, address))


@operation
def peek_fixed(builder: Any, address: Any) -> Any:
    """A plain load that LLVM may take out of a loop, whatever is stored there."""
    word = builder.load(_pointer(builder, address))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


@operation
def poke(builder: Any, address: Any, value: Any) -> None:
    """A plain store."""
    builder.store(value, _pointer(builder, address))


@operation
def zero_bytes(builder: Any, address: Any, count: Any) -> None:
    """`memset` to zero."""
    cgutils.memset(builder, builder.inttoptr(address, _I8P), count, 0)


@operation
def stack_words(builder: Any) -> Any:
    """The address of two words on this function's stack."""
    return builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(_I64, 2)), _I64)
