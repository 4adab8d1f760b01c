"""What a compiled handler failed on: the exception's class from the machine code, the traceback from Python.

Compiled code reports a failure as a code and a pointer to numba's description of the exception. The traceback is
made by running the undecorated function on copies of the message and the state, in a thread with a deadline.
"""

from __future__ import annotations

import asyncio
import ctypes
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import RingKernelError
from ringkernel.messages.codecs import from_record

from . import compiling

if TYPE_CHECKING:
    from .cpu.engine import CompiledEngine

REPLAY_TIMEOUT_S = 0.5
COMPUTED = "(computed)"
"""Shown for an argument of an exception that only the compiled code has known."""


class HandlerError(RingKernelError):
    """A compiled handler failed and its Python form did not. `message` is what it failed on."""

    message: Any = None


class _ExceptionInfo(ctypes.Structure):
    # numba's excinfo_t (core/callconv.py): the pickled class, static arguments and location
    _fields_ = (("pickle", ctypes.c_void_p), ("size", ctypes.c_int32))


async def failure_of(engine: CompiledEngine) -> BaseException:
    """The exception that ended a kernel, with the message in a note. The token is the host's."""
    block = engine.snapshot()
    messages = engine.take_failed(int(block["fault_edge"]), int(block["fault_count"]))
    declaration = engine.declaration
    assert declaration.input_type is not None
    shown = from_record(declaration.input_type, messages) if not declaration.batch else messages
    kind, arguments = engine.exception_of(int(block["fault_info_address"]))
    where = f"kernel {declaration.kernel_id!r} failed on message {shown!r:.300}"
    if kind is None:
        return HandlerError(f"{where}: it returned a count outside of 0 to {len(messages) * declaration.max_outputs}")
    replayed = await _replay(engine, messages)
    error: BaseException
    if isinstance(replayed, BaseException):
        error = replayed
        if not isinstance(replayed, kind):
            error.add_note(f"the compiled handler raised {kind.__name__}; its Python form, run again, raised this")
    elif kind is IndexError and not arguments:
        error = IndexError("index is out of bounds")
    else:
        error = _made(kind, arguments)
    error.add_note(where)
    if not isinstance(replayed, BaseException):
        error.add_note(f"no Python traceback: the undecorated function, run again on a copy, {replayed}")
    return error


def _made(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    """An exception of this class, or one that names it if its constructor fails on what is known of the arguments."""
    try:
        return kind(*arguments)
    except Exception:  # noqa: BLE001 (the user's class)
        return RuntimeError(f"{kind.__name__}{arguments!r}")


def described(address: int) -> tuple[type[BaseException] | None, tuple[Any, ...]]:
    """Class and static arguments of the exception that numba describes at this address."""
    if address == 0:
        return None, ()
    info = _ExceptionInfo.from_address(address)
    if not info.pickle:
        return RuntimeError, ()
    try:
        described = pickle.loads(ctypes.string_at(info.pickle, info.size))  # noqa: S301 (our own machine code's)
        kind, arguments = described[0], described[1]
    except Exception:  # noqa: BLE001 (numba's format is not ours; the class is a nicety)
        return RuntimeError, ()
    fixed = tuple(map(_known, arguments)) if isinstance(arguments, tuple | list) else ()
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return RuntimeError, ()
    return kind, fixed


def _known(argument: Any) -> Any:
    """An argument of an exception; numba has an object of LLVM's in the place of one that the handler has computed."""
    return COMPUTED if type(argument).__module__.partition(".")[0] == "llvmlite" else argument


async def _replay(engine: CompiledEngine, messages: Any) -> BaseException | str:
    """Run the Python function on copies. Its exception, or what happened instead."""
    declaration = engine.declaration
    arguments = _arguments(engine, messages)
    outcome: list[BaseException | None] = []
    thread_ids: list[int] = []

    def run() -> None:
        thread_ids.append(threading.get_ident())
        try:
            with np.errstate(all="ignore"):
                declaration.func(*arguments)
            outcome.append(None)
        except Exception as error:  # noqa: BLE001 (whatever the handler raises)
            inside = error.__traceback__
            outcome.append(error.with_traceback(inside.tb_next if inside is not None else None))  # the user's frames

    try:
        async with asyncio.timeout(REPLAY_TIMEOUT_S):
            await compiling.in_thread(run)
    except TimeoutError:
        if thread_ids:  # make a loop that does not end, end
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_ids[0]), ctypes.py_object(SystemExit))
        return f"did not end within {REPLAY_TIMEOUT_S:g} s"
    return outcome[0] if outcome and outcome[0] is not None else "did not fail"


def _arguments(engine: CompiledEngine, messages: Any) -> list[Any]:
    declaration = engine.declaration
    scalar_call = not declaration.batch
    arguments = [given(messages, one=scalar_call)]
    if declaration.output_type is not None:
        outs = np.zeros(len(messages) * declaration.max_outputs, declaration.output_type.dtype)
        arguments.append(given(outs, one=scalar_call))
    if declaration.state is not None:
        arguments.append(given(engine.state_copy(), one=declaration.state_type is not None))
    return arguments


def given(records: Any, *, one: bool) -> Any:
    """Records as a handler sees them; the first of them if it sees `one`."""
    return _seen(records[0] if one else records)


def _seen(value: Any) -> Any:
    """A value as compiled code has it: a record with attributes, also one within a record or an array."""
    if isinstance(value, np.void):
        return _RecordView(value)
    return _ArrayView(value) if isinstance(value, np.ndarray) and value.dtype.fields is not None else value


def _plain(value: Any) -> Any:
    """What NumPy can assign: the record or array behind a view."""
    if isinstance(value, _RecordView):
        return object.__getattribute__(value, "_record")
    return value._array if isinstance(value, _ArrayView) else value


class _RecordView:
    """A record whose attributes are its fields, as in compiled code; `np.record` would hide a field called `mean`."""

    __slots__ = ("_record",)

    def __init__(self, record: Any) -> None:
        object.__setattr__(self, "_record", record)

    def __getattr__(self, name: str) -> Any:
        try:
            return _seen(self._record[name])
        except (KeyError, ValueError):
            raise AttributeError(f"no field {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._record[name] = _plain(value)

    def __getitem__(self, name: str) -> Any:
        return _seen(self._record[name])

    def __setitem__(self, name: str, value: Any) -> None:
        self._record[name] = _plain(value)


class _ArrayView:
    """An array of records: items are records as above, attributes are fields."""

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: Any) -> Any:
        return _seen(self._array[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[key] = _plain(value)

    def __getattr__(self, name: str) -> Any:
        if name in (self._array.dtype.names or ()):
            return _seen(self._array[name])
        return getattr(self._array, name)
