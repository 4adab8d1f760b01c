"""The methods of a runtime, made methods that wait until they are done: each is written once, as a coroutine.

Signature and docstring are those of the coroutine; the docstring is put in the words of code that does not await.
"""

from __future__ import annotations

import functools
import inspect
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ringkernel.tracebacks import shorten

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
F = TypeVar("F", bound="Callable[..., Any]")

_WORDS = (
    (r"\(await ((?:runtime|running)\.\w+\([^()]*\))\)", r"\1"),
    (r"await (?=(?:runtime|running)\b)", ""),
    (r"async (with|for) (?=.*\bruntime\.|.*\brunning\.)", r"\1 "),
    (r"await asyncio\.to_thread\(([\w.]+), (.*)\)", r"\1(\2)"),
    (r"\bruntime\b", "session"),
    (r"\s+\(under `asyncio\.timeout`[^)]*\)", ""),
    (r"an `asyncio\.CancelledError`", "a `KeyboardInterrupt`"),
    (r"(an )?`asyncio\.TimeoutError`", lambda found: f"{'a ' if found[1] else ''}`TimeoutError`"),
    (r"\bCancelled\b", "Interrupted"),
)
"""The differences between the docstring of a coroutine and that of a method that waits."""


@overload
def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]: ...
@overload
def blocking(method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Iterator[T]]: ...


def blocking(method: Any) -> Any:
    """Return the session's method that has its thread do a runtime's `method`, and waits for the result."""
    if inspect.isasyncgenfunction(method):

        def iterate(self: Any, *arguments: Any, **named: Any) -> Any:
            batches = method(self._runtime, *arguments, **named)
            with suppress(StopAsyncIteration):
                while True:
                    yield self._do(_next, batches)

        return _face(iterate, method)

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return self._do(method, self._runtime, *arguments, **named)
        except TypeError:
            check_arguments(face, self, *arguments, **named)
            raise

    face = _face(call, method)
    return face


def in_its_thread(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Return the session's method that has its thread call a runtime's `method`, which is no coroutine."""
    face: Callable[Concatenate[Any, P], T] = blocking(method)  # type: ignore[arg-type]
    return face


def direct(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """Return the session's method that calls a runtime's `method` in the caller's thread, also once it is closed."""

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        return method(self._runtime, *arguments, **named)

    face: Callable[Concatenate[Any, P], T] = _face(call, method)
    return face


def described_by(method: Any) -> Callable[[F], F]:
    """Give a session's method the docstring of the runtime's."""

    def describe(func: F) -> F:
        func.__doc__ = _in_other_words(method.__doc__)
        return func

    return describe


class options_of(Generic[P]):  # noqa: N801 (it is used as a decorator)
    """Let a function, whose last parameter is `**options`, have the options of a runtime's `method`: those that are
    given by name. It has a first parameter of its own, in the place of the runtime and the kernel."""

    def __init__(self, method: Callable[Concatenate[Any, Any, P], Any]) -> None:
        self._options = [
            one for one in inspect.signature(method).parameters.values() if one.kind is inspect.Parameter.KEYWORD_ONLY
        ]

    def __call__(self, func: Callable[Concatenate[A, ...], T]) -> Callable[Concatenate[A, P], T]:
        """Return the function, with another signature."""
        signature = inspect.signature(func)
        own = list(signature.parameters.values())[:-1]
        func.__signature__ = signature.replace(parameters=[*own, *self._options])  # type: ignore[attr-defined]
        return func

    def in_method(self, func: Callable[Concatenate[A, B, ...], T]) -> Callable[Concatenate[A, B, P], T]:
        """Return it, if its own first parameter comes after `self`."""
        return self(func)  # type: ignore[return-value]


def check_arguments(func: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Raise `TypeError` for arguments that `func` does not take, by the name that its caller uses."""
    try:
        inspect.signature(func).bind(*arguments, **named)
    except TypeError as error:
        refusal = TypeError(f"{func.__qualname__}(): {error}")
        shorten(refusal)
        raise refusal from None


async def _next(batches: AsyncIterator[T]) -> T:
    return await anext(batches)


def _face(call: Any, method: Any) -> Any:
    """Make a function look like a method of `Session`, which does what a runtime's method does."""
    functools.update_wrapper(call, method)
    del call.__wrapped__  # which is a coroutine function
    signature = inspect.signature(method)
    returned = str(signature.return_annotation).replace("AsyncIterator", "Iterator")
    call.__signature__ = signature.replace(return_annotation=returned)
    call.__annotations__ = {**call.__annotations__, "return": returned}
    call.__module__, call.__qualname__ = "ringkernel.runtime.session", f"Session.{method.__name__}"
    call.__doc__ = _in_other_words(method.__doc__)
    return call


def _in_other_words(docstring: str | None) -> str | None:
    if docstring is None:  # Python leaves them out, by -OO
        return None
    for asynchronous, blocking_one in _WORDS:
        docstring = re.sub(asynchronous, blocking_one, docstring)
    return docstring
