"""A failure that cannot be told whole ends its kernel all the same: whoever waits hears of it, and `close` ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from helpers import check_books, start, within

import ringkernel as rk
from ringkernel import KernelFailedError, KernelState, RingKernelRuntime
from ringkernel.devices.compiled import failure


@rk.message
class Silent:
    x: float

    def __repr__(self) -> str:
        raise ValueError("no repr")


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


def positive(msg: Silent, out: float) -> None:
    if msg.x < 0:
        raise ValueError("below zero")
    out.value = msg.x  # type: ignore[attr-defined]


def speechless(msg: float, out: float) -> None:
    if msg.value < 0:  # type: ignore[attr-defined]
        raise SilentError
    out.value = msg.value  # type: ignore[attr-defined]


async def speechless_coroutine(ctx: Any) -> None:
    async for _ in ctx:
        raise SilentError


async def check_fails(runtime: RingKernelRuntime, message: Any) -> BaseException | None:
    """What a receiver is told the kernel "k" has failed of."""
    await runtime.send("k", message)
    with pytest.raises(KernelFailedError, match="'k' has failed: ") as told:
        await within(runtime.receive("k"))
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert check_books(runtime, "k").failed == 1
    return told.value.__cause__


async def test_a_message_that_cannot_be_shown(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", positive)
    error = await check_fails(runtime, Silent(-1.0))
    assert isinstance(error, ValueError)
    assert "failed on message" in error.__notes__[0]


@pytest.mark.parametrize("function", [speechless, speechless_coroutine])
async def test_an_exception_that_says_nothing(runtime: RingKernelRuntime, function: Any) -> None:
    await start(runtime, "k", function)
    assert isinstance(await check_fails(runtime, -1.0), SilentError)


async def test_no_thread_to_run_the_handler_again(runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    await start(runtime, "k", positive)

    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    error = await check_fails(runtime, Silent(-1.0))
    assert isinstance(error, ValueError)
    assert "was not run again: RuntimeError: can't start new thread" in error.__notes__[1]


async def test_no_memory_to_explain_it(runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    await start(runtime, "k", positive)

    def refuse(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(failure, "arguments_of", refuse)
    error = await check_fails(runtime, Silent(-1.0))
    assert "why cannot be said: MemoryError" in str(error)
