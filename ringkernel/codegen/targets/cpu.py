"""The CPU target: what each operation of `operations.py` is on this CPU, and how functions over them are compiled.

Importing this module imports numba.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from numba import cfunc, njit, types
from numba.core.compiler import Compiler

from ringkernel.codegen import operations as ops
from ringkernel.codegen.specialise import Specializer
from ringkernel.memory.wait_handle import WAKE_MECHANISM

from . import cpu_memory as memory
from . import cpu_threads as threads
from .cpu_linking import LinkedLater

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMED_SLEEP = WAKE_MECHANISM == "timed"
IS_LINUX = sys.platform == "linux"


def jit(function: Callable[..., Any]) -> Any:
    """A function that compiled code calls, and Python does not."""
    options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(pipeline_class=LinkedLater, **options)(function)


@functools.cache
def specializer(timed: bool) -> Specializer:
    """The functions of the lower layers, compiled for this CPU. `timed`: see `wait_handle.py`."""
    replacements = {
        ops.load: memory.load_of("monotonic"),
        ops.load_acquire: memory.load_of("acquire"),
        ops.store: memory.store_of("monotonic"),
        ops.store_release: memory.store_of("release"),
        ops.fence: memory.fence_of("seq_cst"),
        ops.fence_release: memory.fence_of("release"),
        ops.compare_exchange: memory.compare_exchange,
        ops.exchange: memory.exchange,
        ops.fetch_add: memory.fetch_add,
        ops.spin_hint: memory.spin_hint,
        ops.ticks: memory.cycle_counter if memory.IS_X86 else jit(threads.monotonic_ns),
        ops.this_cpu: jit(threads.cpu_of_this_thread if IS_LINUX else threads.no_cpu),
        ops.leave_cpu: jit(threads.leave_cpu if IS_LINUX else threads.stay),
        ops.waits_for_cpu: jit(threads.is_queued_on if IS_LINUX else threads.unknown),
        ops.is_runnable: jit(threads.is_runnable if IS_LINUX else threads.unknown_state),
        ops.call_span: memory.call_span,
        ops.call_function: memory.call_function,
        ops.copy_bytes: memory.copy_bytes,
        ops.move_bytes: memory.move_bytes,
        ops.peek: memory.peek,
        ops.poke: memory.poke,
        ops.zero_bytes: memory.zero_bytes,
        ops.fence_acquire: memory.fence_of("acquire"),
        ops.nap: jit(threads.yield_or_sleep),
        ops.sleep_on: jit(threads.sleep_a_little if timed else threads.sleep_on_descriptor),
        ops.wake: jit(threads.wake_nobody if timed else threads.wake_descriptor),
    }
    return Specializer(jit, replacements)


def compile_variant(loop: Callable[..., Any], instead: Mapping[Callable[..., Any], Callable[..., Any]]) -> Any:
    """A loop of two arguments in which other functions stand in for some, compiled to run without the GIL; its sleep
    gives a sign of life, see `sleep_beating`."""
    variant = Specializer(jit, parent=specializer(TIMED_SLEEP), differing=(*instead, ops.sleep_on))
    for function, other in instead.items():
        variant.stand_in(function, variant(other))
    variant.stand_in(ops.sleep_on, jit(threads.sleep_a_little_beating if TIMED_SLEEP else threads.sleep_beating))
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


def compile_address(function: Callable[..., Any], pipeline_class: Any = Compiler) -> Any:
    """A function of one word, for compiled code that has its `address`; with its `_library` and `_wrapper_name`."""
    bound = specializer(TIMED_SLEEP).rebind(function)
    return cfunc(types.int64(types.int64), error_model="numpy", pipeline_class=pipeline_class)(bound)


def compile_part(function: Callable[..., Any], n_arguments: int, *, nogil: bool = False) -> Any:
    """As `compile_overload`, for `linked`: it cannot be called from here."""
    bound = specializer(TIMED_SLEEP).rebind(function)
    return _overload(bound, n_arguments, nogil=nogil, pipeline_class=LinkedLater)


def compile_part_with_address(function: Callable[..., Any]) -> Any:
    """As `compile_address`, for `linked`: it has no address here."""
    return compile_address(function, LinkedLater)


def _overload(bound: Callable[..., Any], n_arguments: int, *, nogil: bool, pipeline_class: Any = Compiler) -> Any:
    signature = types.int64(*[types.int64] * n_arguments)
    options = {"error_model": "numpy", "nogil": nogil, "no_cfunc_wrapper": True, "pipeline_class": pipeline_class}
    dispatcher = njit(signature, **options)(bound)
    return dispatcher.overloads[dispatcher.signatures[0]]
