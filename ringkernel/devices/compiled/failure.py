"""The failure of a compiled handler: the exception's class from the machine code, the traceback from Python.

Compiled code reports a failure as a number, see `raised.py`. The traceback is made by running the undecorated function
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.codegen.faults import KEYS_FULL, LARGEST
from ringkernel.errors import RingKernelError
from ringkernel.memory.layout import BLOCK, NOT_BEGUN
from ringkernel.messages.arrays import as_messages

from .handler_views import arguments_between, arguments_of
from .running_again import run_again

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ringkernel.declaration.declaration import Declaration

    from .chain import Stage
    from .raised import Raised


class HandlerError(RingKernelError):
    """A compiled handler failed and its Python form did not."""


async def failure_of(kernel: Stage) -> BaseException:
    """The exception that ended a kernel, with the message in a note. The token is the host's."""
    counters, rings, held = kernel.snapshot(), kernel.rings, kernel.state_access
    count, fault = int(counters["fault_count"]), int(counters["fault_info_address"])
    if count == 0:
        return await _raised(*_between_messages(kernel), kernel.executor.exception_of(fault))
    number = rings.edge_at(int(counters["fault_edge"])).input
    declaration = kernel.declaration.per_input[number]
    messages = rings.take_failed(int(counters["fault_edge"]), count)
    if kernel.merging is not None and 0 < fault <= LARGEST:
        wrong = kernel.merging.explain(fault, number, messages[0])
        if wrong is not None:
            return HandlerError(f"kernel {declaration.kernel_id!r} has failed: {wrong}")
    where = f"kernel {declaration.kernel_id!r} failed {_on(declaration, messages)}"
    if fault == KEYS_FULL:
        assert declaration.keys is not None
        assert kernel.block.keys is not None
        return RingKernelError(f"{where}: {_keys_full(declaration.keys.field, messages, kernel.block.keys.count)}")
    described = kernel.executor.exception_of(fault)
    if described[0] is None:
        return HandlerError(f"{where}: it returned a count outside of 0 to {len(messages) * declaration.max_outputs}")
    arguments, _ = arguments_of(declaration, messages, held.copy_for(messages))
    return await _raised(where, declaration.func, arguments, described)


def _between_messages(kernel: Stage) -> tuple[str, Callable[..., Any], list[Any]]:
    """Of a handler that was called without a message: what to say of it, the function, and its arguments."""
    declaration, held = kernel.declaration, kernel.state_access
    timer, merging, end = declaration.timer, kernel.merging, declaration.end
    if end is not None and kernel.block.read(BLOCK.end_phase) != NOT_BEGUN:
        arguments, _ = arguments_between(declaration, [], held.copy_of_nth(kernel.block.read(BLOCK.end_record)))
        return f"kernel {kernel.kernel_id!r} failed in its on_end", end.func, arguments
    assert timer is not None
    assert merging is not None
    time = merging.timer_time()
    arguments, _ = arguments_between(declaration, [time], held.copy_of_nth(merging.timer_record))
    return f"kernel {kernel.kernel_id!r} failed in its timer, at {time}", timer.func, arguments


def _on(declaration: Declaration, messages: Any) -> str:
    """Return in words what a handler failed on."""
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
    described: Raised,
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
