"""Compiling off the event loop, each handler once, and saying why one cannot be compiled."""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from ringkernel.errors import ConfigurationError, KernelCompileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.declaration.decorator import Declaration

    from .grid.device import GridDevice

T = TypeVar("T")

_spans: dict[Any, Any] = {}
_pending: dict[Any, asyncio.Future[Any]] = {}
_threads: set[threading.Thread] = set()
_ending = threading.Event()


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own: not in the loop's executor, which `asyncio.run` would wait for."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 (whatever it is belongs to the caller)
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            pass  # the loop was closed meanwhile
        finally:
            _threads.discard(threading.current_thread())

    thread = threading.Thread(target=run, name="ringkernel-compile", daemon=True)
    _threads.add(thread)
    thread.start()
    return await future


@atexit.register
def _wait_for_compilers() -> None:
    _ending.set()
    for thread in list(_threads):  # LLVM must not be taken apart under a thread that is inside it
        thread.join(10.0)


def is_exiting() -> bool:
    """Whether the interpreter ends, and waits for whoever compiles: nobody will use what comes of it."""
    return _ending.is_set()


async def compiled_span(declaration: Declaration) -> Any:
    """The declaration's compiled span: compiled once per function, types and options in this process.

    Raises `KernelCompileError`, at every call.
    """
    spec = spec_of(declaration)
    key = (declaration.func, spec)
    if key in _spans:
        return _spans[key]
    here = (asyncio.get_running_loop(), key)
    if here not in _pending:
        _pending[here] = asyncio.ensure_future(in_thread(lambda: _find(declaration, spec)))
        _pending[here].add_done_callback(lambda _: _pending.pop(here, None))
    _spans[key] = span = await asyncio.shield(_pending[here])
    return span


_grids: dict[Any, Any] = {}


async def compiled_grid(device: GridDevice, declaration: Declaration, span: Any) -> Any:
    """What the device makes of a declaration: compiled once per device, function, types and options in this process.

    Raises `KernelCompileError`, at every call.
    """
    key = (device.name, declaration.func, spec_of(declaration), declaration.block_size, declaration.fma)
    if key not in _grids:
        _grids[key] = await in_thread(lambda: _compile_for(device, declaration, span))
    return _grids[key]


def _compile_for(device: GridDevice, declaration: Declaration, span: Any) -> Any:
    try:
        return device.compile(declaration, span)
    except KernelCompileError:
        raise
    except Exception as error:
        reason = f"it compiles for the CPU, but not for {device.name}: {_explain(declaration, error)}"
        raise KernelCompileError(reason) from error


def spec_of(declaration: Declaration) -> Any:
    """What the declaration's handler is compiled for, as a `SpanTypes`."""
    from ringkernel.codegen.span_types import SpanTypes

    assert declaration.input_type is not None
    state = None
    if declaration.state is not None:
        shape = None if declaration.state_type is not None else declaration.state.shape
        state = (declaration.state.dtype, shape)
    return SpanTypes(
        input=declaration.input_type.dtype,
        output=None if declaration.output_type is None else declaration.output_type.dtype,
        state=state,
        batch=declaration.batch,
        max_outputs=declaration.max_outputs,
        check=declaration.check,
        zeroed=declaration.zeroed,
    )


def compile_now(declaration: Declaration) -> Any:
    """The declaration's span, compiled here and now, whatever the cache holds. Raises `KernelCompileError`."""
    from ringkernel.codegen.span import compile_span

    return _compile(declaration, spec_of(declaration), compile_span)


def _find(declaration: Declaration, spec: Any) -> Any:
    from ringkernel.codegen.span_cache import find_span

    return _compile(declaration, spec, find_span)


def _compile(declaration: Declaration, spec: Any, make: Callable[..., Any]) -> Any:
    from ringkernel.codegen.span_types import HandlerError

    try:
        return make(declaration.func, spec)
    except ConfigurationError:
        raise
    except HandlerError as error:
        raise KernelCompileError(
            f"{error}\n  in kernel {declaration.kernel_id!r}, handler {declaration.func.__name__}"
        ) from None
    except Exception as error:
        raise KernelCompileError(_explain(declaration, error)) from error


def _explain(declaration: Declaration, error: Exception) -> str:
    """The reason first, then which kernel, then numba's own words."""
    from ringkernel.codegen import diagnosis

    reason, where = diagnosis.reason_of(declaration, error)
    own_words = str(error).strip()
    detail = f"\n\nnumba said ({type(error).__name__}):\n{own_words}" if own_words and own_words != reason else ""
    return f"{reason}\n  in kernel {declaration.kernel_id!r}, handler {declaration.func.__name__}{where}{detail}"
