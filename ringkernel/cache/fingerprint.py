"""A hash of a function and of everything that compiled code of it depends on, as far as it can be seen.

numba freezes what a function reads (globals, closure, helper functions, attributes of modules) when it compiles it.
So all of that is in the hash, recursively, by content. Names of files, line numbers and the function's own name are
not: compiled code shows them to nobody (a failing handler's traceback comes from running the Python function).

Whatever is of a type that is not listed here raises `UnkeyableError`: such a function is compiled in every process.
"""

from __future__ import annotations

import builtins
import dis
import enum
import hashlib
import struct
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .environment import SourcesUnknownError, describe, is_numba_extended

LIBRARIES = frozenset({"builtins", "cmath", "math", "numba", "numpy", "operator", "_operator", "random", "_random"})
"""Known by name, since their versions are in the key."""

MAX_ARRAY_BYTES = 1_000_000
"""numba embeds the address of a larger array, and such code stays in its process anyway."""

_DATA = (
    bool, int, float, complex, str, bytes, tuple, frozenset, slice, enum.Enum, types.ModuleType, np.ndarray, np.generic,
    np.dtype,
)  # fmt: skip
"""Values of which a library's own cannot be told from somebody else's."""

_READS_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_READS_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_IMPORTS = frozenset({"IMPORT_NAME", "IMPORT_FROM"})


class UnkeyableError(Exception):
    """Something that this module does not know is read, so a change of it could go unseen."""


def key_of(*parts: Any) -> str:
    """A file name for machine code made from these values, in this environment. Raises `UnkeyableError`."""
    return in_this_environment(*parts).hexdigest()


def in_this_environment(*parts: Any) -> Fingerprint:
    """A hash of these values and the environment. Raises `UnkeyableError`."""
    if is_numba_extended():
        raise UnkeyableError("numba was extended in this process, and what that changes cannot be seen")
    try:
        environment = describe()
    except (SourcesUnknownError, OSError) as error:
        raise UnkeyableError(str(error)) from error
    return fingerprint_of(environment, *parts)


def fingerprint_of(*parts: Any) -> Fingerprint:
    """A hash of these values alone. Raises `UnkeyableError`."""
    fingerprint = Fingerprint()
    try:
        fingerprint.add(parts)
        fingerprint.hexdigest()
    except UnkeyableError:
        raise
    except Exception as error:  # the values are the user's, and may do anything when they are looked at
        raise UnkeyableError(f"{type(error).__name__} while looking at what is read") from error
    return fingerprint


class Fingerprint:
    """A hash that values are added to."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # the objects, too: an address serves again when its object is gone
        self._modules: list[types.ModuleType] = []
        self._attributes: set[str] = set()
        self._texts: set[str] = set()
        self._texts_are_names = False
        self._done: set[tuple[int, str]] = set()

    def hexdigest(self) -> str:
        """The hash of all that was added. What is read from modules is added here.

        A module may be handed on to a helper, or come out of one: so it is every attribute, of every module in sight,
        that is called like something that any of the code reads from anything.
        """
        while pending := self._pending():
            for module, name in pending:
                self._done.add((id(module), name))
                self._attribute(module, name)
        return self._hash.hexdigest()

    def _pending(self) -> list[tuple[types.ModuleType, str]]:
        names = sorted(self._attributes | (self._texts if self._texts_are_names else set()))
        return [
            (module, name)
            for module in self._modules
            for name in names
            if (id(module), name) not in self._done and (name in vars(module) or _is_lazy(module))
        ]

    def add(self, value: Any) -> None:
        """Add a value and all that it leads to, but for the attributes of modules: see `hexdigest`."""
        for matches, add in _KINDS:
            if matches(value):
                add(self, value)
                return
        raise UnkeyableError(f"{type(value).__qualname__} objects have no key: {value!r:.80}")

    def _put(self, tag: str, payload: bytes | str = b"") -> None:
        content = payload.encode("utf-8", "backslashreplace") if isinstance(payload, str) else payload
        self._hash.update(f"{tag} {len(content)}\n".encode() + content)

    def _add_all(self, tag: str, values: Any) -> None:
        self._put(tag, str(len(values)))
        for value in values:
            self.add(value)

    def _is_new(self, value: Any) -> bool:
        """Whether this object was not added before; otherwise a reference to it is."""
        if id(value) in self._seen:
            self._put("again", str(self._seen[id(value)][0]))
            return False
        self._seen[id(value)] = (len(self._seen), value)
        return True

    # --- plain values ----------------------------------------------------------------------------------------

    def _plain(self, value: Any) -> None:
        self._put(type(value).__name__, repr(value))

    def _text(self, value: str) -> None:
        self._put("str", repr(value))
        self._texts.add(value)

    def _float(self, value: float) -> None:
        self._put("float", struct.pack("<d", value))

    def _complex(self, value: complex) -> None:
        self._put("complex", struct.pack("<dd", value.real, value.imag))

    def _tuple(self, value: Any) -> None:
        self._add_all("tuple", value)

    def _slice(self, value: slice) -> None:
        self._add_all("slice", (value.start, value.stop, value.step))

    def _named_tuple(self, value: Any) -> None:
        self._put("namedtuple", f"{type(value).__module__} {type(value).__qualname__} {value._fields}")
        self._add_all("fields", tuple(value))

    def _frozenset(self, value: frozenset[Any]) -> None:
        members = []
        for member in value:
            of_member = Fingerprint()
            of_member.add(member)
            members.append(of_member.hexdigest())
        self._put("frozenset", " ".join(sorted(members)))

    # --- NumPy -----------------------------------------------------------------------------------------------

    def _dtype(self, value: np.dtype[Any]) -> None:
        if value.hasobject:
            raise UnkeyableError(f"{value} holds Python objects")
        kind = f"{value.str} {value.itemsize} {value.alignment} {value.isalignedstruct} {value.type.__name__}"
        self._put("dtype", kind)
        if value.subdtype is not None:
            self._add_all("subarray", value.subdtype)
        if value.fields is not None:
            self._put("fields", str(len(value.fields)))
            for name, field in value.fields.items():
                self._put("field", f"{name!r} {field[1]}")
                self.add(field[0])

    def _scalar(self, value: np.generic) -> None:
        self.add(value.dtype)
        self._content("scalar", value)

    def _array(self, value: np.ndarray[Any, Any]) -> None:
        if value.nbytes > MAX_ARRAY_BYTES:
            raise UnkeyableError(f"an array of {value.nbytes} bytes is read where it is, not copied into the code")
        self.add(value.dtype)
        flags = value.flags
        layout = (flags.c_contiguous, flags.f_contiguous, flags.aligned, flags.writeable)
        self._put("array", f"{value.shape} {value.strides} {layout}")
        self._content("content", value)

    def _content(self, tag: str, value: Any) -> None:
        """The bytes of an array or a record, without those between the fields, which may be anything."""
        if value.dtype.names is None:
            self._put(tag, value.tobytes())
        else:
            for name in value.dtype.names:
                self._content(tag, value[name])

    # --- enums, classes, what libraries offer ----------------------------------------------------------------

    def _enum(self, value: Any) -> None:
        if self._is_new(value):
            bases = [base.__qualname__ for base in value.__mro__]
            self._put("enum", f"{value.__module__} {bases}")
            for name, member in value.__members__.items():
                self._put("member", name)
                self.add(member.value)

    def _member(self, value: enum.Enum) -> None:
        self.add(type(value))
        self.add(value.value)

    def _by_name(self, value: Any) -> None:
        if value is getattr or value is hasattr:
            self._texts_are_names = True
        self._put("library", f"{type(value).__name__} {value.__module__}.{value.__qualname__}")

    def _ufunc(self, value: np.ufunc) -> None:
        self._put("ufunc", value.__name__)

    def _number_type(self, value: Any) -> None:
        self._put("numba type", repr(value))

    def _exception(self, value: type[BaseException]) -> None:
        self._put("exception", f"{value.__module__}.{value.__qualname__}")  # pickled by name

    # --- functions and modules -------------------------------------------------------------------------------

    def _code(self, value: types.CodeType) -> None:
        shape = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        self._put("code", f"{shape} {names}")
        self._put("bytecode", value.co_code)
        self._put("exceptions", value.co_exceptiontable)
        self._add_all("constants", value.co_consts)

    def _function(self, value: types.FunctionType) -> None:
        if not self._is_new(value):
            return
        self._put("function")
        self.add(value.__code__)
        self.add(value.__defaults__)
        self._add_all("keywords", tuple((value.__kwdefaults__ or {}).items()))
        names = self._reads(value.__code__)
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            self._put("cell", name)
            self.add(_content(name, cell))
        for name in sorted(names):
            for scope in (value.__globals__, vars(builtins)):
                if name in scope:
                    self._put("global", name)
                    self.add(scope[name])
                    break

    def _dispatcher(self, value: Any) -> None:
        if not self._is_new(value):
            return
        self._put("dispatcher")
        self.add(value._compiler.pipeline_class)
        self._add_all("options", sorted(value.targetoptions.items()))
        self._add_all("locals", sorted(getattr(value, "locals", {}).items()))
        if not value._can_compile:  # it was given its signatures, and casts to them
            self._put("signatures", str(value.signatures))
        self.add(value.py_func)

    def _module(self, value: types.ModuleType) -> None:
        if self._is_new(value):
            self._put("module", value.__name__)
            self._modules.append(value)

    def _attribute(self, module: types.ModuleType, name: str) -> None:
        if name not in vars(module):
            raise UnkeyableError(f"module {module.__name__} makes attributes when they are asked for")
        value = vars(module)[name]
        if not is_library(module.__name__) or _is_foreign(value):
            self._put("attribute", f"{module.__name__} {name}")
            self.add(value)

    def _reads(self, code: types.CodeType) -> set[str]:
        """The global names that `code` and the functions inside it read; notes the names of attributes."""
        names = set[str]()
        for instruction in instructions(code):
            if instruction.opname in _READS_GLOBAL:
                names.add(instruction.argval)
            elif instruction.opname in _READS_ATTRIBUTE:
                self._attributes.add(instruction.argval)
            elif instruction.opname in _IMPORTS:
                raise UnkeyableError("it imports a module when it is called")
        return names


# --- which value is of which kind ------------------------------------------------------------------------------------

Kind = tuple[Callable[[Any], bool], Callable[[Fingerprint, Any], None]]


def _exactly(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds  # a subclass may do anything


def is_library(module: Any) -> bool:
    """Whether a module's name is one of those whose versions are in the key."""
    return isinstance(module, str) and module.partition(".")[0] in LIBRARIES


def _is_reachable(value: Any) -> bool:
    """Whether a class or function is what its module and name say."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in str(getattr(value, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found is value


def _is_library_object(value: Any) -> bool:
    return is_library(_affinity(value)) and is_library(getattr(value, "__module__", None)) and _is_reachable(value)


def _affinity(value: Any) -> Any:
    """The name of the module that a value comes from. Of a function it is where its code is, since a decorator may
    have given it another's name."""
    function = getattr(value, "py_func", value)
    is_function = isinstance(function, types.FunctionType)
    return function.__globals__.get("__name__") if is_function else getattr(value, "__module__", None)


def _is_lazy(module: types.ModuleType) -> bool:
    return "__getattr__" in vars(module) and not is_library(module.__name__)


def _is_dispatcher(value: Any) -> bool:
    from numba.core.registry import CPUDispatcher

    return isinstance(value, CPUDispatcher)


def _is_number_type(value: Any) -> bool:
    from numba import types as numba_types

    return isinstance(value, numba_types.Number | numba_types.Boolean)


def _is_exception(value: Any) -> bool:
    is_class = isinstance(value, type) and issubclass(value, BaseException)
    return is_class and value.__module__ != "__main__" and _is_reachable(value)  # otherwise it is pickled by value


def _is_foreign(value: Any) -> bool:
    """Whether something in a library's module may have been put there by somebody else."""
    if isinstance(value, types.FunctionType) or _is_dispatcher(value):
        return not _is_library_object(value)
    if isinstance(value, type):
        return not is_library(value.__module__)
    return isinstance(value, _DATA) or not is_library(type(value).__module__)


def _is_numpy_ufunc(value: Any) -> bool:
    return type(value) is np.ufunc and getattr(np, value.__name__, None) is value


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


_KINDS: tuple[Kind, ...] = (
    (_exactly(type(None), bool, int, bytes, type(Ellipsis)), Fingerprint._plain),
    (_exactly(str), Fingerprint._text),
    (_exactly(float), Fingerprint._float),
    (_exactly(complex), Fingerprint._complex),
    (_exactly(tuple), Fingerprint._tuple),
    (_exactly(frozenset), Fingerprint._frozenset),
    (_exactly(slice), Fingerprint._slice),
    (_exactly(types.CodeType), Fingerprint._code),
    (_exactly(types.ModuleType), Fingerprint._module),
    (_exactly(np.ndarray), Fingerprint._array),
    (_is_numpy_ufunc, Fingerprint._ufunc),
    (lambda value: isinstance(value, np.dtype), Fingerprint._dtype),
    (lambda value: isinstance(value, np.generic), Fingerprint._scalar),
    (lambda value: isinstance(value, enum.Enum), Fingerprint._member),
    (lambda value: isinstance(value, enum.EnumMeta), Fingerprint._enum),
    (_is_named_tuple, Fingerprint._named_tuple),
    (_is_library_object, Fingerprint._by_name),
    (_exactly(types.FunctionType), Fingerprint._function),
    (_is_exception, Fingerprint._exception),
    (_is_dispatcher, Fingerprint._dispatcher),
    (_is_number_type, Fingerprint._number_type),
)


# --- what code reads -------------------------------------------------------------------------------------------------


def instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    """Instructions of `code` and of the functions inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from instructions(constant)


def _content(name: str, cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise UnkeyableError(f"{name} has no value yet") from None
