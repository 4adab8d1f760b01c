"""The CPU target: the operations of `operations.py` as numba intrinsics, and the functions of this layer compiled.

Importing this module imports numba. numba has no CPU atomics: a plain load in a polling loop is hoisted out of it,
so every shared word goes through the LLVM atomics below.
"""

from __future__ import annotations

import functools
import platform
import sys
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ringkernel.codegen import operations as ops
from ringkernel.codegen.specialise import Specializer
from ringkernel.memory.wait_handle import WAKE_MECHANISM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_I64 = ir.IntType(64)
_I8P = ir.IntType(8).as_pointer()
IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
TIMED_SLEEP = WAKE_MECHANISM == "timed"
IS_ARM = platform.machine().lower() in ("aarch64", "arm64")


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, _I64.as_pointer())


def _load(order: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.load_atomic(_pointer(builder, args[0]), order, 8)

        return types.int64(types.int64), codegen

    return load


def _store(order: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.store_atomic(args[1], _pointer(builder, args[0]), order, 8)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return store


def _fence(order: str) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def fence(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.fence(order)
            return context.get_dummy_value()

        return types.void(), codegen

    return fence


@intrinsic  # type: ignore[untyped-decorator]
def _compare_exchange(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        seen = builder.cmpxchg(_pointer(builder, args[0]), args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(seen, 0)

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _exchange(typingctx: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", _pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _spin_hint(typingctx: Any) -> Any:
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
def _cycle_counter(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        counter = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_I64, []), "llvm.readcyclecounter")
        return builder.call(counter, [])

    return types.int64(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _stack_words(typingctx: Any) -> Any:
    """The address of two words on this function's stack."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        words = cgutils.alloca_once(builder, ir.ArrayType(_I64, 2))
        return builder.ptrtoint(words, _I64)

    return types.int64(), codegen


_clock_gettime = types.ExternalFunction("clock_gettime", types.intc(types.intc, types.intp))
_CLOCK_MONOTONIC = 6 if sys.platform == "darwin" else 1


def _monotonic_ns() -> int:
    words = _stack_words()
    _clock_gettime(_CLOCK_MONOTONIC, words)
    return _load_plain(words) * 1_000_000_000 + _load_plain(words + 8)  # type: ignore[no-any-return]


_load_plain = _load("monotonic")


@intrinsic  # type: ignore[untyped-decorator]
def _call_span(typingctx: Any, address: Any, source: Any, count: Any, target: Any, state: Any, fault: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = builder.inttoptr(args[0], ir.FunctionType(_I64, [_I64] * 5).as_pointer())
        return builder.call(function, args[1:])

    return types.int64(*[types.int64] * 6), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _copy_bytes(typingctx: Any, target: Any, source: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, builder.inttoptr(args[0], _I8P), builder.inttoptr(args[1], _I8P), args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


_libc_read = types.ExternalFunction("read", types.intp(types.intc, types.intp, types.intp))
_libc_write = types.ExternalFunction("write", types.intp(types.intc, types.intp, types.intp))
_libc_poll = types.ExternalFunction("poll", types.intc(types.intp, types.uint64, types.intc))
_libc_usleep = types.ExternalFunction("usleep", types.intc(types.uint32))
_libc_sched_yield = types.ExternalFunction("sched_yield", types.intc())
_store_plain = _store("monotonic")
_SHORTEST_SLEEP_NS = 5_000


def _sleep_on_descriptor(descriptor: int, scratch: int) -> None:
    _libc_read(descriptor, scratch, 8)


def _wake_descriptor(descriptor: int) -> None:
    words = _stack_words()
    _store_plain(words, 1)
    _libc_write(descriptor, words, 8)


def _sleep_a_little(descriptor: int, scratch: int) -> None:
    _libc_usleep(500)


def _wake_nobody(descriptor: int) -> None:
    return


_sched_getcpu = types.ExternalFunction("sched_getcpu", types.intc())


def _cpu_of_this_thread() -> int:
    return _sched_getcpu()  # type: ignore[no-any-return]


def _no_cpu() -> int:
    return -1


_sched_getaffinity = types.ExternalFunction("sched_getaffinity", types.intc(types.intc, types.intp, types.intp))
_sched_setaffinity = types.ExternalFunction("sched_setaffinity", types.intc(types.intc, types.intp, types.intp))
_MASK_BYTES = 128


def _leave_cpu(cpu: int, masks: int) -> None:
    if _sched_getaffinity(0, _MASK_BYTES, masks) != 0:
        return  # more CPUs than fit
    others = 0
    for offset in range(0, _MASK_BYTES, 8):
        word = _load_plain(masks + offset)
        if offset == cpu // 64 * 8:
            word &= ~(1 << (cpu & 63))
        others |= word
        _store_plain(masks + _MASK_BYTES + offset, word)
    if others != 0:
        _sched_setaffinity(0, _MASK_BYTES, masks + _MASK_BYTES)  # returns when the thread has moved
        _sched_setaffinity(0, _MASK_BYTES, masks)


def _stay(cpu: int, masks: int) -> None:
    return


_libc_pread = types.ExternalFunction("pread", types.intp(types.intc, types.intp, types.intp, types.int64))
_STAT_BYTES = 512
_STATE, _PROCESSOR = 3, 39
"""Fields of /proc/PID/task/TID/stat, see proc_pid_stat(5); the second one is in brackets and may hold anything."""
_SPACE, _BRACKET, _ZERO, _RUNNABLE = b" )0R"


@intrinsic  # type: ignore[untyped-decorator]
def _byte(typingctx: Any, text: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.zext(builder.load_atomic(builder.inttoptr(builder.add(*args), _I8P), "monotonic", 1), _I64)

    return types.int64(types.int64, types.int64), codegen


def _is_queued_on(stat: int, cpu: int, text: int) -> int:
    count = _libc_pread(stat, text, _STAT_BYTES - 2, 0)  # the look for a state goes two beyond
    index = count - 1
    while index > 0 and _byte(text, index) != _BRACKET:
        index -= 1
    if index < 1 or _byte(text, index + 2) != _RUNNABLE:
        return 0  # it sleeps
    field = _STATE - 1
    while index < count and field < _PROCESSOR:
        index += 1
        if _byte(text, index) == _SPACE:
            field += 1
    where = 0
    index += 1
    while index < count and _byte(text, index) != _SPACE:
        where = 10 * where + _byte(text, index) - _ZERO
        index += 1
    return 1 if field == _PROCESSOR and where == cpu else 0


def _unknown(stat: int, cpu: int, text: int) -> int:
    return 0


def _yield_or_sleep(ns: int) -> None:
    if ns < _SHORTEST_SLEEP_NS:
        _libc_sched_yield()
    else:
        _libc_usleep(ns // 1000)


def _identity(value: int) -> int:
    return value


def _nothing() -> None:
    return


def _zero() -> int:
    return 0


def _jit(function: Callable[..., Any]) -> Any:
    return njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


@intrinsic  # type: ignore[untyped-decorator]
def _peek(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0]))

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _poke(typingctx: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], _pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _zero_bytes(typingctx: Any, address: Any, count: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cgutils.memset(builder, builder.inttoptr(args[0], _I8P), args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@functools.cache
def specializer(timed: bool) -> Specializer:
    """The functions of the lower layers, compiled for this CPU. `timed`: see `wait_handle.py`."""
    replacements = {
        ops.load: _load("monotonic"),
        ops.load_acquire: _load("acquire"),
        ops.store: _store("monotonic"),
        ops.store_release: _store("release"),
        ops.fence: _fence("seq_cst"),
        ops.fence_release: _fence("release"),
        ops.compare_exchange: _compare_exchange,
        ops.exchange: _exchange,
        ops.spin_hint: _spin_hint,
        ops.ticks: _cycle_counter if IS_X86 else _jit(_monotonic_ns),
        ops.this_cpu: _jit(_cpu_of_this_thread if sys.platform == "linux" else _no_cpu),
        ops.leave_cpu: _jit(_leave_cpu if sys.platform == "linux" else _stay),
        ops.waits_for_cpu: _jit(_is_queued_on if sys.platform == "linux" else _unknown),
        ops.call_span: _call_span,
        ops.copy_bytes: _copy_bytes,
        ops.peek: _peek,
        ops.poke: _poke,
        ops.zero_bytes: _zero_bytes,
        ops.fence_acquire: _fence("acquire"),
        ops.nap: _jit(_yield_or_sleep),
        ops.sleep_on: _jit(_sleep_a_little if timed else _sleep_on_descriptor),
        ops.wake: _jit(_wake_nobody if timed else _wake_descriptor),
    }
    return Specializer(_jit, replacements)


def grid_operations() -> dict[Any, Any]:
    """The operations of a grid of one thread on this CPU, for tests of what grids do; see `mailbox.py`."""
    return {
        ops.load: _load("monotonic"),
        ops.load_acquire: _load("acquire"),
        ops.store: _store("monotonic"),
        ops.store_release: _store("release"),
        ops.fence_release: _fence("release"),
        ops.fence_acquire: _fence("acquire"),
        ops.load_device: _load("monotonic"),
        ops.store_device: _store("monotonic"),
        ops.fence_device: _fence("acq_rel"),
        ops.peek: _peek,
        ops.poke: _poke,
        ops.spin_hint: _spin_hint,
        ops.ticks: _cycle_counter if IS_X86 else _jit(_monotonic_ns),
        ops.copy_bytes: _copy_bytes,
        ops.zero_bytes: _zero_bytes,
        ops.nap: _jit(_yield_or_sleep),
        ops.thread_index: _jit(_zero),
        ops.barrier: _jit(_nothing),
        ops.call_span: _call_span,
        ops.mailbox_memory: _jit(_identity),
    }


def _sleep_beating(descriptor: int, scratch: int) -> None:
    """Sleep on a descriptor, and let a word go up meanwhile. `scratch`: a buffer, the word's address, a pollfd."""
    beat = _load_plain(scratch + 8)
    readable = 0
    while readable <= 0:
        _store_plain(beat, _load_plain(beat) + 1)
        _store_plain(scratch + 16, descriptor | (1 << 32))  # the descriptor, POLLIN
        readable = _libc_poll(scratch + 16, 1, 100)
    _libc_read(descriptor, scratch, 8)


def _sleep_a_little_beating(descriptor: int, scratch: int) -> None:
    beat = _load_plain(scratch + 8)
    _store_plain(beat, _load_plain(beat) + 1)
    _libc_usleep(500)


def compile_variant(loop: Callable[..., Any], instead: Mapping[Callable[..., Any], Callable[..., Any]]) -> Any:
    """A loop of two arguments in which other functions stand in for some, compiled to run without the GIL; its sleep
    gives a sign of life, see `_sleep_beating`."""
    variant = Specializer(_jit, parent=specializer(TIMED_SLEEP), differing=(*instead, ops.sleep_on))
    for function, other in instead.items():
        variant.stand_in(function, variant(other))
    variant.stand_in(ops.sleep_on, _jit(_sleep_a_little_beating if TIMED_SLEEP else _sleep_beating))
    return _overload(variant.rebind(loop), 2, nogil=True).entry_point


def compile_entry(function: Callable[..., Any], n_arguments: int, *, nogil: bool = False) -> Any:
    """Compile a function of int64 arguments that returns an int64, to be called from Python.

    What comes back is the bare builtin, not numba's dispatcher: the types are known, and that halves a call (65
    instead of 140 ns). With `nogil` it runs without the GIL.
    """
    return compile_overload(function, n_arguments, nogil=nogil).entry_point


def compile_overload(function: Callable[..., Any], n_arguments: int, *, nogil: bool = False) -> Any:
    """What numba knows of such a function: its `entry_point`, its `library` and the names in there."""
    return _overload(specializer(TIMED_SLEEP).rebind(function), n_arguments, nogil=nogil)


def _overload(bound: Callable[..., Any], n_arguments: int, *, nogil: bool) -> Any:
    signature = types.int64(*[types.int64] * n_arguments)
    dispatcher = njit(signature, error_model="numpy", nogil=nogil, no_cfunc_wrapper=True)(bound)
    return dispatcher.overloads[dispatcher.signatures[0]]
