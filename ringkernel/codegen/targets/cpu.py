"""The CPU target: what each operation of `operations.py` is on this CPU, and how functions over them are compiled.

Importing this module imports numba.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import binding as llvm
from numba import types
from numba.core import event
from numba.core.codegen import JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ringkernel.cache import machine_code
from ringkernel.codegen import operations as ops
from ringkernel.memory.wait_handle import WAKE_MECHANISM
from ringkernel.words.builtin import COMPILE_EVENT, EntryPoint, builtin
from ringkernel.words.compiler import WordCompiler
from ringkernel.words.python_entry import write_entry

from . import cpu_memory as memory
from . import cpu_threads as threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ringkernel.words.builtin import ByAddress

IS_LINUX = sys.platform == "linux"
_numbers = itertools.count()
machine_code.register_division()


def operations(mechanism: str = WAKE_MECHANISM) -> dict[Any, Any]:
    """Return what each operation is: instructions, or a function of words. `mechanism`: see `wait_handle.py`."""
    sleep = threads.SLEEPS[mechanism]
    return {
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
        ops.ticks: memory.cycle_counter if memory.IS_X86 else threads.monotonic_ns,
        ops.this_cpu: threads.cpu_of_this_thread if IS_LINUX else threads.no_cpu,
        ops.leave_cpu: threads.leave_cpu if IS_LINUX else threads.stay,
        ops.waits_for_cpu: threads.is_queued_on if IS_LINUX else threads.unknown,
        ops.is_runnable: threads.is_runnable if IS_LINUX else threads.unknown_state,
        ops.call_span: memory.call_function,
        ops.call_function: memory.call_function,
        ops.copy_bytes: memory.copy_bytes,
        ops.move_bytes: memory.move_bytes,
        ops.peek: memory.peek,
        ops.peek_fixed: memory.peek_fixed,
        ops.poke: memory.poke,
        ops.zero_bytes: memory.zero_bytes,
        ops.fence_acquire: memory.fence_of("acquire"),
        ops.nap: threads.yield_or_sleep,
        ops.sleep_on: sleep.on,
        ops.wake: sleep.wake,
    }


class Loop(NamedTuple):
    """A compiled loop around handlers, in a library of numba's under the name `symbol`."""

    address: int
    library: Any
    symbol: str


def compile_loop(body: Callable[..., int], finish: Callable[[Any, Any], None] | None = None) -> Loop:
    """Compile a function of words that may call what numba has compiled, by intrinsics of `called_from_words`.
    `finish` gets its module, as it is written, and numba's context."""
    context = cpu_target.target_context
    symbol = f"ringkernel.loop.{next(_numbers)}"
    with global_compiler_lock:
        library = context.codegen().create_library(symbol)
        compiler = WordCompiler(operations(), library.create_ir_module(symbol))
        with context.push_code_library(library):
            function = compiler.function(body)
        function.name, function.linkage = symbol, "external"
        if finish is not None:
            finish(compiler.module, context)
        library.add_ir_module(compiler.module)
        library.finalize()
        return Loop(library.get_pointer_to_function(symbol), library, symbol)


def called_from_words(typed: Callable[..., Any]) -> Any:
    """Numba's `intrinsic`, of words only, for loops that are compiled either way."""
    made = intrinsic(typed)

    def emit(builder: Any, *words: Any) -> Any:
        _, codegen = typed(None, *[types.int64] * len(words))
        return codegen(cpu_target.target_context, builder, None, words)

    made.emit = emit
    return made


def compile_entry(
    function: Callable[..., Any], *, nogil: bool = False, instead: Mapping[Any, Any] | None = None
) -> Callable[..., int]:
    """Compile a function of words, to be called from Python; with `nogil` it runs without the GIL. `instead`: what
    stands for functions, besides the operations."""
    loaded = machine_code.link(compile_words({"entry": EntryPoint(function, nogil)}, instead))
    assert loaded is not None  # it needs what is in this process
    return builtin(function.__name__, loaded.address("entry"), loaded)


def compile_variant(loop: Callable[..., Any], instead: Mapping[Any, Any]) -> Callable[..., int]:
    """A loop in which other functions stand in for some, compiled to run without the GIL; its sleep gives a sign of
    life, see `sleep_beating`."""
    return compile_entry(loop, nogil=True, instead={**instead, ops.sleep_on: threads.SLEEPS[WAKE_MECHANISM].beating})


def compile_words(
    table: Mapping[str, EntryPoint | ByAddress], instead: Mapping[Any, Any] | None = None
) -> machine_code.MachineCode:
    """A table of functions of words, as one object file. Raises `CannotMoveError`. Numba's listeners hear of it as
    `COMPILE_EVENT`."""
    compiler = WordCompiler({**operations(), **(instead or {})})
    names = {}
    with global_compiler_lock, event.trigger_event(COMPILE_EVENT, {"functions": compiler.functions}):
        for label, point in table.items():
            function = compiler.function(point.function)
            if isinstance(point, EntryPoint):
                names[label] = compiler.module.get_unique_name(f"{label}.python")
                write_entry(compiler.module, function, names[label], nogil=point.nogil)
            else:
                names[label] = function.name
                function.linkage = "external"
        with machine_code.of_this_numba():
            codegen = JITCPUCodegen("ringkernel")
            return machine_code.emit_module(optimised(compiler, codegen), codegen, names, {})


def optimised(compiler: WordCompiler, codegen: Any) -> Any:
    """A module as LLVM has optimised it. Loops of the protocol run a few times, so they are not unrolled or
    vectorised."""
    module = llvm.parse_assembly(str(compiler.module))
    module.triple = llvm.get_process_triple()
    module.data_layout = str(codegen.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(codegen._tm, options)
    builder.getModulePassManager().run(module, builder)
    return module
