"""Scripts and notebook cells use kernels without awaiting, and are stopped like any other call."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from daily_kernels import double, picky, plus, square, total

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session() -> Iterator[rk.Session]:
    with rk.Session(workers=1) as session:
        yield session


# --- map -----------------------------------------------------------------------------------------------------


def test_map_needs_nothing_around_it() -> None:
    assert rk.map(double, [1.0, 2.0]).tolist() == [2, 4]
    assert rk.map(rk.pipeline(double, plus), np.arange(3.0)).tolist() == [0.5, 2.5, 4.5]
    assert rk.map("daily_square", [3.0]).tolist() == [9]
    out = np.empty(2)
    assert rk.map(square, [3.0, 1.0], out=out).tolist() == out.tolist() == [9, 1]


def test_each_map_begins_with_the_state_as_declared() -> None:
    assert [rk.map(total, [1.0, 2.0]).tolist() for _ in range(2)] == [[1, 3]] * 2


def test_a_map_that_fails_has_what_came_out_and_the_next_one_works() -> None:
    with pytest.raises(rk.KernelFailedError) as caught:
        rk.map(picky, [1.0, -1.0, 2.0])
    assert caught.value.partial.tolist() == [1]
    assert rk.map(picky, [2.0]).tolist() == [2]


def test_map_uses_the_function_that_it_is_given_also_after_an_edit() -> None:
    def edited(msg: float, out: float) -> None:
        out.value = 1.0  # type: ignore[attr-defined]

    first = edited

    def edited(msg: float, out: float) -> None:  # type: ignore[no-redef]
        out.value = 2.0  # type: ignore[attr-defined]

    assert [rk.map(one, [0.0]).tolist() for one in (first, edited, first)] == [[1], [2], [1]]


async def test_map_works_where_an_event_loop_runs() -> None:
    assert rk.map(double, [1.0]).tolist() == [2]


def test_maps_of_several_threads_come_one_after_the_other() -> None:
    results: list[list[float]] = []

    def work() -> None:
        results.extend(rk.map(total, [1.0, 1.0]).tolist() for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[1, 2]] * 15


# --- a session -----------------------------------------------------------------------------------------------


def test_a_session_has_the_methods_of_a_runtime(session: rk.Session) -> None:
    assert session.launch(total).kernel_id == "total"
    session.launch("sink", double, queue_size=16)
    session.connect("total", "sink")
    assert session.get_state("total") is rk.KernelState.LAUNCHED
    session.activate("sink")
    session.activate("total")
    session.send("total", 1)
    assert session.receive("sink") == 2
    session.send_batch("total", [1.0, 2.0])
    batch = session.receive_batch("sink", 1)
    assert [*batch, *session.receive_batch("sink", timeout=5)] == [4, 8]
    assert session.call(("total", "sink"), 1) == 10
    assert session.map(("total", "sink"), [5.0]).tolist() == [20]
    session.deactivate("total")
    assert session.read_state("total").tolist() == [10]
    session.write_state("total", [0])
    session.reactivate("total")
    assert session.statistics("total").processed == 5
    session.send("total", 1)
    session.terminate("total")
    session.terminate("sink")
    assert session.wait("sink") is rk.KernelState.TERMINATED
    assert [batch.tolist() for batch in session.stream("sink")] == [[2]]
    assert session.unprocessed("sink").tolist() == []
    session.remove("sink")
    assert list(session.kernels) == ["total"]


def test_a_session_is_watched_from_outside(session: rk.Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.map(double, [1.0])
    watch = session.watch()
    assert session.map(double, [1.0]).tolist() == [2]
    watch.stop()
    session.close()
    assert "double" in capsys.readouterr().err
    watch.stop()


def test_a_session_shows_its_kernels(session: rk.Session) -> None:
    session.map(double, [1.0])
    assert repr(session) == "<Session with 1 ACTIVE>"
    assert "double" in (session._repr_html_() or "")
    session.close()
    assert repr(session) == "<closed Session with 1 TERMINATED>"
    assert "TERMINATED" in (session._repr_html_() or "")


def test_a_session_runs_pipelines(session: rk.Session) -> None:
    with session.run(rk.pipeline(double, plus)) as running:
        running.send(1)
        assert running.receive() == 2.5
        assert running.map([2.0]).tolist() == [4.5]
        assert running.call(0) == 0.5
        running.send(3)
        running.finish()
        assert [batch.tolist() for batch in running.stream()] == [[6.5]]
    assert session.map(square, [2.0]).tolist() == [4]


def test_errors_come_out_as_they_are(session: rk.Session) -> None:
    with pytest.raises(rk.KernelNotFoundError):
        session.activate("nowhere")
    session.launch(double)
    session.activate("double")
    with pytest.raises(rk.MessageTypeError):
        session.send("double", "text")
    with pytest.raises(TimeoutError):
        session.receive("double", timeout=0.01)


def test_a_closed_session_says_so(session: rk.Session) -> None:
    session.close()
    session.close()
    with pytest.raises(rk.KernelStateError, match="this session is closed; make a new one"):
        session.launch(double)


def test_a_session_cannot_wait_for_itself(session: rk.Session) -> None:
    errors: list[BaseException] = []

    async def asks(ctx: rk.KernelContext[float, float]) -> None:
        await ctx.receive()
        try:
            session.map(double, [1.0])
        except rk.KernelStateError as error:
            errors.append(error)
        await ctx.send(0.0)

    session.launch("asks", asks)
    session.activate("asks")
    session.send("asks", 1)
    assert session.receive("asks", timeout=5) == 0
    assert "session's own thread, which would wait for itself" in str(errors[0])


def test_a_bad_option_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(rk.ConfigurationError):
        rk.Session(workers=0)
    assert threading.active_count() == before


# --- being stopped -------------------------------------------------------------------------------------------


def interrupt_when(condition: threading.Event) -> threading.Thread:
    def send() -> None:
        condition.wait(10)
        time.sleep(0.05)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupt_ends_what_is_waited_for_and_the_session_goes_on(session: rk.Session) -> None:
    session.launch(double)
    session.activate("double")
    waits = threading.Event()
    waits.set()
    thread = interrupt_when(waits)
    with pytest.raises(KeyboardInterrupt):
        session.receive("double")
    thread.join()
    assert session.call("double", 1) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupted_map_has_what_came_out(session: rk.Session) -> None:
    async def slow(ctx: rk.KernelContext[float, float]) -> None:
        while True:
            message = await ctx.receive()
            if message == 3.0:
                begun.set()
                await asyncio.sleep(60)
            await ctx.send(message)

    begun = threading.Event()
    session.launch("slow", slow)
    session.activate("slow")
    thread = interrupt_when(begun)
    with pytest.raises(KeyboardInterrupt) as caught:
        session.map("slow", [1.0, 2.0, 3.0])
    thread.join()
    assert caught.value.partial == [1, 2]  # type: ignore[attr-defined]


SCRIPT = """
import ringkernel as rk

def double(msg: float, out: float):
    out.value = 2 * msg.value

print(rk.map(double, [1.0]).tolist())
session = rk.Session()
session.launch(double)
session.activate("double")
session.send("double", 3)
"""


def test_a_script_that_closes_nothing_ends_quietly() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2.0]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_makes_its_own_session(session: rk.Session) -> None:
    assert rk.map(double, [1.0]).tolist() == [2]
    pid = os.fork()
    if pid == 0:
        try:
            session.launch(double)
        except rk.KernelStateError as error:
            os._exit(0 if "cannot be used in a fork of it" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
