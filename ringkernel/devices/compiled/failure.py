"""What a compiled handler failed on: the exception's class from the machine code, the traceback from Python.

Compiled code reports a failure as a code and a pointer to numba's description of the exception. The traceback is made
by running the undecorated function again.
"""

from __future__ import annotations

import ctypes
import pickle
from typing import TYPE_CHECKING, Any

from ringkernel.codegen.faults import KEYS_FULL, LARGEST
from ringkernel.errors import RingKernelError
from ringkernel.messages.arrays import as_messages

from .failed_call import FailedCall
from .running_again import run_again

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ringkernel.declaration.declaration import Declaration

    from .failed_call import HasFailed

COMPUTED = "(computed)"
"""Shown for an argument of an exception that only the compiled code has known."""


class HandlerError(RingKernelError):
    """A compiled handler failed and its Python form did not. `message` is what it failed on."""

    message: Any = None


class _ExceptionInfo(ctypes.Structure):
    # numba's excinfo_t (core/callconv.py): the pickled class, static arguments and location
    _fields_ = (("pickle", ctypes.c_void_p), ("size", ctypes.c_int32))


async def failure_of(kernel: HasFailed) -> BaseException:
    """The exception that ended a kernel, with the message in a note. The token is the host's."""
    call = FailedCall(kernel)
    if call.count == 0:
        where, func, arguments = call.between_messages()
        return await _raised(where, func, arguments, call.exception)
    declaration, messages = call.handler, call.take_messages()
    wrong = call.out_of_time(messages[0])
    if wrong is not None:
        return HandlerError(f"kernel {declaration.kernel_id!r} has failed: {wrong}")
    where = f"kernel {declaration.kernel_id!r} failed {_on(declaration, messages)}"
    if call.fault == KEYS_FULL:
        assert declaration.keys is not None
        return RingKernelError(f"{where}: {_keys_full(declaration.keys.field, messages, call.n_keys)}")
    described = call.exception
    if described[0] is None:
        return HandlerError(f"{where}: it returned a count outside of 0 to {len(messages) * declaration.max_outputs}")
    return await _raised(where, declaration.func, call.arguments(messages), described)


def _on(declaration: Declaration, messages: Any) -> str:
    """What a handler failed on, in words."""
    if declaration.input_type is None:
        return "when its handler, that of a source, was called"
    shown = messages if declaration.batch else as_messages(declaration.input_type, messages)[0]
    try:
        return f"on message {shown!r:.300}"
    except Exception:  # noqa: BLE001 (the user's `__repr__`)
        return f"on message {messages!r:.300}"


async def _raised(
    where: str,
    func: Callable[..., Any],
    given: Sequence[Any],
    described: tuple[type[BaseException] | None, tuple[Any, ...]],
) -> BaseException:
    """The exception that machine code describes so, with the traceback of the Python function if that raises, too."""
    kind, arguments = described
    assert kind is not None
    replayed = await run_again(func, given)
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
        code = func.__code__
        place = f'File "{code.co_filename}", line {code.co_firstlineno}'
        error.add_note(f"no Python traceback: {func.__name__} ({place}) {replayed}")
    return error


def _keys_full(field: str, messages: Any, count: int) -> str:
    return (
        f"its table has room for {count} keys, and {field}={messages[field][0].item()!r} would be one more; launch it "
        f"with keys={2 * count}, or pause it from time to time, which lets the table grow"
    )


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
    kind, arguments, _ = _unpickled(address)
    return kind, tuple(map(_known, arguments)) if isinstance(arguments, tuple | list) else ()


def is_stop(address: int) -> bool:
    """Whether that exception is of a `raise StopIteration`. That of a generator which `next` has found exhausted has no
    place in the code."""
    if address <= LARGEST:
        return False
    kind, _, place = _unpickled(address)
    return issubclass(kind, StopIteration) and place is not None


def _unpickled(address: int) -> tuple[type[BaseException], Any, Any]:
    """Class, static arguments and place of an exception; what is not known is a `RuntimeError`."""
    info = _ExceptionInfo.from_address(address)
    if not info.pickle:
        return RuntimeError, (), None
    try:
        described = pickle.loads(ctypes.string_at(info.pickle, info.size))  # noqa: S301 (our own machine code's)
        kind, arguments, place = described[:3]
    except Exception:  # noqa: BLE001 (numba's format is not ours; the class is a nicety)
        return RuntimeError, (), None
    is_known = isinstance(kind, type) and issubclass(kind, BaseException)
    return (kind, arguments, place) if is_known else (RuntimeError, (), None)


def _known(argument: Any) -> Any:
    """An argument of an exception; numba has an object of LLVM's in the place of one that the handler has computed."""
    return COMPUTED if type(argument).__module__.partition(".")[0] == "llvmlite" else argument
