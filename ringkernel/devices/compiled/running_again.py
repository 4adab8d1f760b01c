"""A handler's function, run again in Python to see what it raises: on copies, for a moment, and noticed by nobody."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.devices.engine import brief
from ringkernel.devices.event_loop.background import in_thread

from .python_form import IsolatedForm, NotIsolatedError, is_isolated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TIMEOUT_S = 0.5
_GIVE_UP_S = 0.7
"""A C function that does not return is no longer waited for after this time."""
_NOT_IN_TIME = f"run again on a copy, did not end within {TIMEOUT_S:g} s"


class _OutOfTimeError(BaseException):
    pass


async def run_again(func: Callable[..., Any], arguments: Sequence[Any]) -> BaseException | str:
    """Run the function in a thread, with these arguments. Return its exception, or what happened instead."""
    try:
        async with asyncio.timeout(_GIVE_UP_S):
            return await in_thread(lambda: _outcome(func, arguments), exit_wait_s=_GIVE_UP_S)
    except TimeoutError:
        return _NOT_IN_TIME
    except Exception as error:  # noqa: BLE001 (there is no thread, or no memory, for it)
        return f"was not run again: {brief(error)}"


def _outcome(func: Callable[..., Any], arguments: Sequence[Any]) -> BaseException | str:
    theirs = sys.gettrace()
    try:
        isolated = IsolatedForm()(func, len(arguments))
        sys.settrace(_until(time.monotonic() + TIMEOUT_S))
        with np.errstate(all="ignore"):
            isolated(*arguments)
    except NotIsolatedError as error:
        return f"was not run again: others might notice that it uses {error}"
    except _OutOfTimeError:
        return _NOT_IN_TIME
    except BaseException as error:  # noqa: BLE001 (whatever the handler raises)
        inside = error.__traceback__
        return error.with_traceback(inside.tb_next if inside is not None else None)  # the user's frames
    finally:
        sys.settrace(theirs)
    return "run again on a copy, did not fail"


def _until(deadline: float) -> Callable[..., Any]:
    """A trace function that ends the handler's functions at the first line after the deadline.

    It raises there and nowhere else. An exception that another thread throws in (`PyThreadState_SetAsyncExc`) comes up
    wherever this one is: in a destructor, or with a lock just taken.
    """

    def at_line(_frame: Any, event: str, _argument: Any) -> Any:
        if event == "line" and time.monotonic() > deadline:
            raise _OutOfTimeError
        return at_line

    def at_call(frame: Any, _event: str, _argument: Any) -> Any:
        return at_line if is_isolated(frame.f_globals) else None

    return at_call
