"""Take finished machine code out of numba, and load it in another process.

What numba has optimised is emitted as one object file, and a later process links it with an LLVM engine of its own,
without numba's typing, lowering or optimisation: 4 ms instead of 1 to 3 s. Code that holds addresses of this process
is refused (`CannotMoveError`); symbols that it needs are looked up before it is linked, since LLVM ends the process
over one that is missing.

Machine code is never unloaded: a thread may be in it, and nothing says when it leaves.
"""

from __future__ import annotations

import functools
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_ENVIRONMENT = "NumbaEnv"
_loaded: list[Any] = []


class CannotMoveError(Exception):
    """This code works in no process but the one that compiled it, or nothing says that it does."""


@dataclass(frozen=True)
class MachineCode:
    """An object file. `names` maps labels to the symbols behind them, `needs` are symbols from outside of it, `notes`
    further facts, as JSON can hold them."""

    code: bytes
    names: Mapping[str, str]
    needs: tuple[str, ...]
    notes: Mapping[str, Any]

    def encode(self) -> bytes:
        """Return it as bytes: a line of JSON, then the object file."""
        described = {"names": dict(self.names), "needs": self.needs, "notes": dict(self.notes)}
        return json.dumps(described).encode() + b"\n" + self.code

    @classmethod
    def decode(cls, payload: bytes) -> MachineCode | None:
        """Return the code that `encode` wrote, or None for any other bytes."""
        head, _, code = payload.partition(b"\n")
        try:
            described = json.loads(head)
            return cls(code, dict(described["names"]), tuple(described["needs"]), dict(described["notes"]))
        except (ValueError, TypeError, KeyError):
            return None


class LoadedCode:
    """Machine code in this process."""

    def __init__(self, machine_code: MachineCode, codegen: Any) -> None:
        self._machine_code = machine_code  # with the object file, which the engine may still read
        self._engine = codegen._engine
        self._names = machine_code.names
        self.notes = machine_code.notes

    def address(self, label: str) -> int:
        """Return the address of a function."""
        return int(self._engine.get_function_address(self._names[label]))


@contextmanager
def of_this_numba() -> Iterator[None]:
    """Turn an attribute that this numba lacks into a `CannotMoveError`."""
    try:
        yield
    except AttributeError as error:
        raise CannotMoveError(f"this version of numba is built differently: {error}") from error


def emit(libraries: Iterable[Any], names: Mapping[str, str], notes: Mapping[str, Any] | None = None) -> MachineCode:
    """Return the optimised code of numba's libraries as one object file. Raises `CannotMoveError`."""
    from llvmlite import binding as llvm
    from numba.core.compiler_lock import global_compiler_lock

    first, *others = libraries
    with global_compiler_lock, of_this_numba():
        if any(library.has_dynamic_globals for library in (first, *others)):
            raise CannotMoveError("the code holds the address of an object (a large array, or a C function)")
        # copies: linking empties what it links, and emitting code changes it
        module = llvm.parse_bitcode(first._final_module.as_bitcode())
        for other in others:
            module.link_in(llvm.parse_bitcode(other._final_module.as_bitcode()))
        _refuse_environments(module)
        return emit_module(module, first.codegen, names, notes or {})


def emit_module(module: Any, codegen: Any, names: Mapping[str, str], notes: Mapping[str, Any]) -> MachineCode:
    """Return an optimised module as an object file for the machine of numba's `codegen`. Raises `CannotMoveError`."""
    from llvmlite import binding as llvm

    needs = [
        value.name
        for values in (module.functions, module.global_variables)
        for value in values
        if value.is_declaration and not value.name.startswith("llvm.")
    ]
    missing = [name for name in needs if not llvm.address_of_symbol(name)]
    if missing:
        raise CannotMoveError(f"the code needs symbols that are not global ones: {', '.join(missing)}")
    code = codegen._tm.emit_object(module)
    return MachineCode(code, dict(names), tuple(sorted(needs)), dict(notes))


def _refuse_environments(module: Any) -> None:
    """Refuse code that uses numba's environments, which hold Python objects, as `print` needs them."""
    bodies = "\n".join(str(function) for function in module.functions if not function.is_declaration)
    for variable in module.global_variables:
        name = variable.name
        if name.startswith("_ZN") and _ENVIRONMENT in name and name in bodies:
            raise CannotMoveError("the code uses Python objects")


def link(machine_code: MachineCode) -> LoadedCode | None:
    """Link code into this process; return None if a symbol that it needs is missing."""
    from llvmlite import binding as llvm
    from numba.core.codegen import JITCPUCodegen
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        _register_symbols()
        if not _are_there(machine_code.needs):
            _register_rarer_symbols()
        if not _are_there(machine_code.needs):
            return None
        # an engine for each: names are unique within the process that compiled it, and only there
        codegen = JITCPUCodegen("ringkernel")
        codegen._engine._ee.add_object_file(llvm.ObjectFileRef.from_data(machine_code.code))
        codegen._engine.finalize_object()
    loaded = LoadedCode(machine_code, codegen)
    _loaded.append(loaded)
    return loaded


def _are_there(names: Iterable[str]) -> bool:
    from llvmlite import binding as llvm

    return all(llvm.address_of_symbol(name) for name in names)


@functools.cache
def _register_rarer_symbols() -> None:
    """Register all that numba registers when it compiles, as for hashes, which takes as long as it does then."""
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


@functools.cache
def register_division() -> None:
    """Let LLVM find the division of 128 bits that it calls on its own, where it works out how often a loop like
    `while t >= end: end += 1_000` runs. No module declares `__udivti3`, numba does not register it, and without it LLVM
    ends the process, or calls address 0. On other systems than Linux the C library has it."""
    from llvmlite import binding as llvm

    if sys.platform == "linux":
        llvm.load_library_permanently("libgcc_s.so.1")  # llvmlite itself needs it, so it is there


@functools.cache
def _register_symbols() -> None:
    """Register the symbols that numba registers before its first compilation, without compiling."""
    from llvmlite import binding as llvm
    from numba.core.registry import cpu_target
    from numba.core.runtime import _nrt_python

    register_division()
    assert cpu_target.target_context is not None  # making it registers numba's own helpers and the C math functions
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)
