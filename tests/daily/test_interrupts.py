"""Ctrl-C between any two steps of the main thread: the next call gives the right result, and nothing waits for ever.

An interrupt is raised at each opcode of this package that the main thread passes in a call, in turn; by default at a
sample of them, at all with `RINGKERNEL_INTERRUPTS=all`.
"""

from __future__ import annotations

import itertools
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from daily_kernels import double, total

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SAMPLE = 10**9 if os.environ.get("RINGKERNEL_INTERRUPTS") == "all" else 12
_TRACED = tuple(
    f"runtime/{name}.py" for name in ("session", "threads/blocking", "threads/loop_thread", "threads/waited_call")
)


@pytest.fixture(autouse=True)
def fewer_in_make_test(random_cases: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SAMPLE", random_cases(SAMPLE))


class Interrupting:
    """Raises KeyboardInterrupt at one opcode of a call, counted from 0; `passed` says how many there were."""

    def __init__(self, at: int) -> None:
        self.at, self.passed = at, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.replace("\\", "/").endswith(_TRACED):
            return None
        if is_finalizer(frame):  # where Python itself ignores it
            return None
        frame.f_trace = self  # before opcodes are asked for: Python 3.13 looks whether it is traced
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.passed += 1
            if self.passed - 1 == self.at:
                raise KeyboardInterrupt
        return self


def is_finalizer(frame: FrameType | None) -> bool:
    return frame is not None and (frame.f_code.co_name == "__del__" or is_finalizer(frame.f_back))


def interrupted(call: Callable[[], Any], at: int) -> int:
    """Do a call, interrupted at an opcode. Return how many were passed."""
    tracer, before = Interrupting(at), sys.gettrace()
    sys.settrace(tracer)
    try:
        call()
    except (KeyboardInterrupt, TimeoutError):
        pass
    finally:
        sys.settrace(before)
    return tracer.passed


def at_each(call: Callable[[], Any], then: Callable[[], None]) -> None:
    """Interrupt a call at each opcode, or at a sample of them, and look each time whether `then` holds."""
    count = interrupted(call, -1)
    then()
    step = max(1, count // SAMPLE)
    assert count > 50
    for at in itertools.chain(range(0, count, step), range(max(0, count - 5), count)):
        interrupted(call, at)
        then()


def test_after_an_interrupt_anywhere_in_a_map_the_next_one_is_right() -> None:
    def then() -> None:
        assert rk.map(total, [1.0, 2.0]).tolist() == [1, 3]

    then()
    at_each(lambda: rk.map(total, [5.0] * 3), then)


def test_after_an_interrupt_while_the_shared_session_is_made_the_next_map_is_right() -> None:
    from inside import end_shared_session

    def call() -> None:
        rk.map(total, [5.0])

    def then() -> None:
        assert rk.map(total, [1.0, 2.0]).tolist() == [1, 3]
        end_shared_session()

    at_each(call, then)


@pytest.fixture
def session() -> Any:
    with rk.Session(workers=1) as session:
        session.launch(double)
        session.activate(double)
        yield session


def test_after_an_interrupt_anywhere_in_a_call_the_session_goes_on(session: rk.Session) -> None:
    def drained() -> None:
        session.send(double, 7)
        while session.receive(double, timeout=5) != 14:
            pass

    at_each(lambda: session.send(double, 1), drained)
    at_each(lambda: session.map(double, [1.0]), drained)
    drained()
    at_each(lambda: session.receive_batch(double, timeout=0.01), drained)

    def first_of_a_stream() -> None:
        session.send(double, 1)
        stream: Any = session.stream(double)
        next(stream)
        stream.close()

    at_each(first_of_a_stream, drained)


def test_after_an_interrupt_anywhere_in_a_replay_the_next_one_is_right(session: rk.Session) -> None:
    def replay() -> Any:
        return session.replay({double: [1.0, 2.0]}, until=double)

    def then() -> None:
        with suppress(rk.KernelStateError):  # it has ended
            session.terminate(double)
        session.remove(double)
        session.launch(double)
        session.activate(double)

    at_each(replay, then)
    assert replay().tolist() == [2, 4]


def test_after_an_interrupt_anywhere_in_its_end_a_session_can_be_closed() -> None:
    sessions = [rk.Session(workers=1)]

    def then() -> None:
        sessions[0].close()
        with pytest.raises(rk.KernelStateError, match="closed"):
            sessions[0].launch(double)
        sessions[0] = rk.Session(workers=1)

    def close() -> None:
        sessions[0].close()

    at_each(close, then)
    close()


def test_after_an_interrupt_anywhere_in_a_block_the_next_one_runs() -> None:
    with rk.Session(workers=1) as session:

        def call() -> None:
            with session.run(total) as running:
                running.send(1)

        def then() -> None:
            assert session.map_once(total, [1.0, 2.0]).tolist() == [1, 3]

        at_each(call, then)


def test_an_interrupt_anywhere_around_a_session_leaves_the_next_one_alone() -> None:
    def call() -> None:
        with rk.Session(workers=1) as session:
            session.launch(double)

    def then() -> None:
        with rk.Session(workers=1) as session:
            assert session.map(double, [1.0]).tolist() == [2]

    at_each(call, then)
