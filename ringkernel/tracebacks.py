"""Short tracebacks: IPython, and Python for uncaught errors, show only the user's lines.

Frames of this package, of asyncio and of numba are left out where an error is printed; the error keeps them. The
environment variable `RINGKERNEL_FULL_TRACEBACK`, and `%xmode Verbose` in IPython, bring them back. Python prints what
nobody has caught by `sys.excepthook`, and IPython has a handler for some classes: both are set when the first of these
errors is made, unless somebody else has done so before.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .audience import shell

if TYPE_CHECKING:
    from collections.abc import Iterator

_HIDDEN = frozenset(
    ("IPython", "asyncio", "concurrent", "contextlib", "llvmlite", "numba", "ringkernel", "selectors", "threading")
)


_MADE_OF_OURS = (TimeoutError, BaseExceptionGroup)
"""Made by asyncio from a cancellation that says what was going on, and by task groups from errors."""


class Short:
    """An exception that is shown so. Where `hides_cause` is true, its cause is not shown: it says the same, longer."""

    hides_cause = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        _install()

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows."""
        return _rendered(self)  # type: ignore[arg-type]  # it is an exception, too


def shorten(error: BaseException, reason: str = "") -> None:
    """Show an exception of another class so, too. `reason`: what it says, if it says nothing yet."""
    if reason and not error.args:
        error.args = (reason,)
    error._render_traceback_ = _render_last  # type: ignore[attr-defined]
    _install()


def is_wanted_in_full() -> bool:
    """Return whether all frames are to be shown."""
    return os.environ.get("RINGKERNEL_FULL_TRACEBACK", "0") not in ("", "0")


def without_frames(error: BaseException) -> BaseException:
    """Return the exception alone, for what it says: hundreds of frames would be shown with it wherever it is a
    cause."""
    return error if is_wanted_in_full() else error.with_traceback(None)


def _install() -> None:
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show
    where = shell()
    if where is not None and not where.custom_exceptions:  # nor does anybody else show some in IPython
        where.set_custom_exc(_MADE_OF_OURS, _show_in_shell)


def _show_in_shell(
    shell: Any, kind: type[BaseException], error: BaseException, trace: TracebackType | None, tb_offset: Any = None
) -> None:
    """Show, for IPython, an error of another class that one of ours led to: IPython asks only the last of a chain how
    it is shown."""
    is_full = is_wanted_in_full() or shell.InteractiveTB.mode == "Verbose"
    if is_full or not any(map(_is_short, _chain(error))):
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return
    with _trimmed(error):
        shell.showtraceback((kind, error, error.__traceback__), tb_offset=0)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught exception; Python's `sys.excepthook`."""
    if is_wanted_in_full() or not any(map(_is_short, _chain(error))):
        sys.__excepthook__(kind, error, trace)
        return
    with _trimmed(error):
        sys.__excepthook__(kind, error, error.__traceback__)


def _render_last() -> list[str]:
    error = sys.last_value  # IPython has just put it there; a bound method would be a circle of references
    return [] if error is None else _rendered(error)


def _rendered(error: BaseException) -> list[str]:
    style = shell().InteractiveTB
    if is_wanted_in_full() or style.mode == "Verbose":
        return style.structured_traceback(type(error), error, error.__traceback__)  # type: ignore[no-any-return]
    with _trimmed(error):
        return style.structured_traceback(  # type: ignore[no-any-return]
            type(error), error, error.__traceback__, tb_offset=0
        )


def _is_short(error: BaseException) -> bool:
    render = getattr(error, "_render_traceback_", None)
    return getattr(render, "__module__", None) == __name__


def _chain(error: BaseException) -> list[BaseException]:
    """Return the exception, those that it groups, and those that led to them."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and not any(one is other for other in found):
            found.append(one)
            left += (one.__cause__, one.__context__, *getattr(one, "exceptions", ()))
    return found


@contextmanager
def _trimmed(error: BaseException) -> Iterator[None]:
    """The exception, and those that led to it, with the user's frames only, for as long as it is shown."""
    chain = _chain(error)
    args = error.args
    kept = [(one, one.__traceback__, one.__cause__, one.__suppress_context__) for one in chain]
    try:
        for one in chain:
            one.__traceback__ = _without_hidden(one.__traceback__) or (one.__traceback__ if one is error else None)
            if getattr(type(one), "hides_cause", False):
                one.__cause__ = None
        if isinstance(error, KeyboardInterrupt):
            _tell_what_was_cancelled(error)
        yield
    finally:
        for one, trace, cause, is_suppressed in kept:
            one.__traceback__, one.__cause__ = trace, cause
            one.__suppress_context__ = is_suppressed
        if error.args is not args:
            error.args = args


def _tell_what_was_cancelled(interrupt: KeyboardInterrupt) -> None:
    """`asyncio.run` makes a `KeyboardInterrupt` of the cancellation that Ctrl-C was: show the two as one."""
    cancelled = interrupt.__context__
    if cancelled is not None and _is_short(cancelled) and not interrupt.args:
        interrupt.args = cancelled.args
        interrupt.__traceback__ = _joined(interrupt.__traceback__, cancelled.__traceback__)
        interrupt.__cause__ = None


def _without_hidden(trace: TracebackType | None) -> TracebackType | None:
    """Return the frames that are the user's."""
    entries = []
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _HIDDEN:
            entries.append(trace)
        trace = trace.tb_next
    made = None
    for one in reversed(entries):
        made = TracebackType(made, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return made


def _joined(first: TracebackType | None, second: TracebackType | None) -> TracebackType | None:
    """Return the second traceback after the first."""
    entries = []
    while first is not None:
        entries.append(first)
        first = first.tb_next
    for one in reversed(entries):
        second = TracebackType(second, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return second
