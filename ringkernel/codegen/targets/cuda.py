"""The CUDA target: the operations as inline PTX, and how numba-cuda is set to compile. Needs no GPU and no driver.

Importing this module imports numba-cuda, which serves as a compiler only. Its own atomics are relaxed and of gpu scope,
so not valid towards the host; LLVM's atomics are invalid in NVVM, or become relaxed without a word; a plain poll is
hoisted out of its loop. So every shared word goes through one of the instructions below, each a side effect that
clobbers memory. Polls are relaxed, with one fence after those that saw something; publishing is a fence and relaxed
stores, so that a whole batch costs one.
"""

from __future__ import annotations

import functools
import math
import types as python_types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import cgutils
from numba.cuda import dispatcher as numba_dispatcher
from numba.cuda import ufuncs
from numba.cuda.core import callconv
from numba.cuda.core.compiler_lock import global_compiler_lock
from numba.cuda.cpython import numbers
from numba.cuda.extending import intrinsic
from numba.cuda.mathimpl import get_unary_impl_for_fn_and_ty
from numba.cuda.np.math import numbers as array_numbers
from numba.cuda.target import CUDATargetContext

from ringkernel.codegen import operations as ops
from ringkernel.codegen.arithmetic import wrapping
from ringkernel.codegen.faults import LARGEST
from ringkernel.codegen.handler_call import CallTarget
from ringkernel.codegen.stand_in import stand_in

from .cpu_memory import typed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_I64, _I32, _I8 = ir.IntType(64), ir.IntType(32), ir.IntType(8)
_SHARED = 3
MAILBOX_ALIGNMENT = 128


def instruction(text: str, constraints: str, n_arguments: int, *, result: bool, pure: bool = False) -> Any:
    """One PTX instruction on int64 operands as a function. Unless it is `pure` it is never moved, merged or dropped."""
    returned = _I64 if result else ir.VoidType()
    clobbers = constraints if pure else f"{constraints},~{{memory}}".lstrip(",")

    def build() -> Any:
        signature = (types.int64 if result else types.void)(*[types.int64] * n_arguments)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = ir.FunctionType(returned, [_I64] * n_arguments)
            value = builder.asm(kind, text, clobbers, args, side_effect=not pure)
            return value if result else context.get_dummy_value()

        return signature, codegen

    if n_arguments == 0:

        def operation(typingctx: Any) -> Any:
            return build()
    elif n_arguments == 1:

        def operation(typingctx: Any, first: Any) -> Any:  # type: ignore[misc]
            return build()
    else:

        def operation(typingctx: Any, first: Any, second: Any) -> Any:  # type: ignore[misc]
            return build()

    return intrinsic(operation)


def _plain(bits: int) -> tuple[Any, Any]:
    """Plain load and store of so many bits at an address."""
    kind = ir.IntType(bits)

    @intrinsic  # type: ignore[untyped-decorator]
    def peek(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = builder.load(builder.inttoptr(args[0], kind.as_pointer()))
            return value if bits == _I64.width else builder.zext(value, _I64)

        return types.int64(types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def poke(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = args[1] if bits == _I64.width else builder.trunc(args[1], kind)
            builder.store(value, builder.inttoptr(args[0], kind.as_pointer()))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return peek, poke


@functools.cache
def operation(made: Any) -> Any:
    """An operation of `cpu_memory.py`, which is written as LLVM instructions that any target has, for this one."""
    return intrinsic(typed(made.emit))


_peek, _poke = _plain(64)
_peek_byte, _poke_byte = _plain(8)


@intrinsic  # type: ignore[untyped-decorator]
def _shared_memory(typingctx: Any, proposed: Any) -> Any:
    """The block's dynamic shared memory, as a generic address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.ArrayType(_I64, 0)
        memory = cgutils.add_global_variable(builder.module, kind, "ringkernel_mailbox", addrspace=_SHARED)
        memory.linkage = "external"
        memory.align = MAILBOX_ALIGNMENT
        return builder.ptrtoint(builder.addrspacecast(memory, kind.as_pointer(), "generic"), _I64)

    return types.int64(types.int64), codegen


def _zero_bytes(address: int, count: int) -> None:
    if (address | count) & 7 == 0:
        for i in range(0, count, 8):
            _poke(address + i, 0)
    else:
        for i in range(count):
            _poke_byte(address + i, 0)


def _copy_bytes(target: int, source: int, count: int) -> None:
    if (target | source | count) & 7 == 0:
        for i in range(0, count, 8):
            _poke(target + i, _peek(source + i))
    else:
        for i in range(count):
            _poke_byte(target + i, _peek_byte(source + i))


def _nothing() -> None:
    return


jit = cuda.jit(device=True, forceinline=True)


@functools.cache
def operations() -> Mapping[Any, Any]:
    """The table for `operations.py`. Order is of system scope, between this device, others and the host. That of
    `load_device`, `store_device` and `fence_device` is of device scope: its fence does not wait for host memory."""
    return {
        ops.load: instruction("ld.relaxed.sys.u64 $0, [$1];", "=l,l", 1, result=True),
        ops.load_acquire: instruction("ld.acquire.sys.u64 $0, [$1];", "=l,l", 1, result=True),
        ops.store: instruction("st.relaxed.sys.u64 [$0], $1;", "l,l", 2, result=False),
        ops.store_release: instruction("st.release.sys.u64 [$0], $1;", "l,l", 2, result=False),
        ops.fence_acquire: instruction("fence.acq_rel.sys;", "", 0, result=False),
        ops.fence_release: instruction("fence.acq_rel.sys;", "", 0, result=False),
        ops.load_device: instruction("ld.relaxed.gpu.u64 $0, [$1];", "=l,l", 1, result=True),
        ops.store_device: instruction("st.relaxed.gpu.u64 [$0], $1;", "l,l", 2, result=False),
        ops.fence_device: instruction("fence.acq_rel.gpu;", "", 0, result=False),
        ops.ticks: instruction("mov.u64 $0, %globaltimer;", "=l", 0, result=True),
        ops.nap: instruction("{ .reg .u32 t; cvt.u32.u64 t, $0; nanosleep.u32 t; }", "l", 1, result=False),
        # not `bar.sync`, which all threads of a warp would have to reach at the same instruction
        ops.barrier: instruction("barrier.sync 0;", "", 0, result=False),
        ops.thread_index: instruction("cvt.u64.u32 $0, %tid.x;", "=l", 0, result=True, pure=True),
        ops.mailbox_memory: _shared_memory,
        ops.peek: _peek,
        ops.peek_fixed: _peek,
        ops.poke: _poke,
        ops.spin_hint: jit(_nothing),
        ops.zero_bytes: jit(_zero_bytes),
        ops.copy_bytes: jit(_copy_bytes),
    }


def _overload(dispatcher: Any, arguments: tuple[Any, ...]) -> Any:
    return dispatcher.compile_device(arguments)


def _describe(builder: Any, status: Any) -> Any:
    """The number of the exception, see `GridCode.raised`, above those of `faults.py`."""
    return builder.add(builder.sext(status.code, _I64), ir.Constant(_I64, LARGEST))


CUDA_CALL = CallTarget(intrinsic, _overload, _describe)


@contextmanager
def settings(cc: tuple[int, int], *, check: bool) -> Iterator[Any]:
    """Have numba-cuda compile for `cc` without asking for a device, with index checks, whole numbers that wrap around,
    and exceptions that are numbered across functions; it has no options for these."""
    _teach_ufuncs()
    helper = callconv._MinimalCallHelper()
    device = python_types.SimpleNamespace(compute_capability=cc)
    with (
        global_compiler_lock,
        stand_in(
            (numba_dispatcher, "get_current_device", lambda: device),
            (CUDATargetContext, "enable_boundscheck", property(lambda _context: check)),
            (callconv.MinimalCallConv, "_make_call_helper", lambda _convention, _builder: helper),
            *wrapping(numbers, array_numbers),
        ),
    ):
        yield helper


_UFUNCS = {
    np.sqrt: math.sqrt,
    np.exp: math.exp,
    np.expm1: math.expm1,
    np.log1p: math.log1p,
    np.floor: math.floor,
    np.ceil: math.ceil,
    np.trunc: math.trunc,
    np.fabs: math.fabs,
}


@functools.cache
def _teach_ufuncs() -> None:
    """numba-cuda knows np.sin and np.log, but not these; a plain KeyError would be all that the user sees."""
    database = ufuncs.ufunc_db()
    for ufunc, function in _UFUNCS.items():
        if ufunc not in database:
            database[ufunc] = dict.fromkeys(("f->f", "d->d"), _by_math(function))


def _by_math(function: Any) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return get_unary_impl_for_fn_and_ty(function, sig.args[0])(context, builder, sig, args)

    return lower
