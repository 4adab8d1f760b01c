"""Sessions that are closed while others use them, in forks, and as the interpreter ends: everybody gets an answer."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import numpy as np
import pytest
from daily_kernels import double, total

import ringkernel as rk


def ends(thread: threading.Thread) -> bool:
    thread.join(20)
    return not thread.is_alive()


def test_calls_of_other_threads_end_with_the_session() -> None:
    for _ in range(8):
        session = rk.Session(workers=1)
        session.launch(total)
        session.activate(total)
        called = threading.Semaphore(0)
        wrong: list[BaseException] = []

        def call(session: rk.Session = session, called: Any = called, wrong: Any = wrong) -> None:
            try:
                while True:
                    session.send(total, 1.0)
                    session.receive(total)
                    called.release()
            except rk.KernelStateError:
                pass
            except BaseException as error:  # noqa: BLE001 (the test looks at it)
                wrong.append(error)

        threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            assert called.acquire(timeout=20)
        closing = [threading.Thread(target=session.close, daemon=True) for _ in range(2)]
        for thread in closing:
            thread.start()
        assert all(map(ends, [*threads, *closing]))
        assert not wrong


def test_a_port_ends_with_the_event_loop_of_its_runtime() -> None:
    import asyncio

    ports: list[Any] = []
    waits = threading.Event()
    errors: list[BaseException] = []

    def get() -> None:
        waits.set()
        try:
            while True:
                ports[0].get()
        except rk.KernelStateError as error:
            errors.append(error)

    async def main() -> None:
        async with rk.RingKernelRuntime(workers=1) as runtime:
            await runtime.launch(double)
            await runtime.activate(double)
            ports.append(runtime.port(double))
            thread.start()
            await asyncio.to_thread(waits.wait, 20)

    thread = threading.Thread(target=get, daemon=True)
    asyncio.run(main())
    assert ends(thread)
    assert len(errors) == 1


def test_a_session_refuses_to_be_closed_in_its_own_thread() -> None:
    errors: list[BaseException] = []

    async def closes(ctx: rk.KernelContext[float, float]) -> None:
        await ctx.receive()
        try:
            session.close()
        except rk.KernelStateError as error:
            errors.append(error)
        await ctx.send(0.0)

    with rk.Session() as session:
        session.launch("closes", closes)
        session.activate("closes")
        session.send("closes", 1)
        assert session.receive("closes", timeout=10) == 0
        assert "close() in another one" in str(errors[0])


def test_a_session_whose_thread_is_blocked_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringkernel.runtime.session._CLOSE_S", 0.2)
    begun, let_go = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    async def blocks(ctx: rk.KernelContext[float, float]) -> None:
        await ctx.receive()
        begun.set()
        let_go.wait(30)

    def receive() -> None:
        try:
            session.receive("blocks")
        except rk.KernelStateError as error:
            errors.append(error)

    session = rk.Session()
    session.launch("blocks", blocks)
    session.activate("blocks")
    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    session.send("blocks", 1)
    assert begun.wait(20)
    try:
        with pytest.raises(rk.KernelStateError, match="does not come back"):
            session.close()
        assert ends(thread)
        assert len(errors) == 1
    finally:
        let_go.set()


def test_a_session_that_is_dropped_ends() -> None:
    session = rk.Session(workers=1)
    session.map(double, [1.0])
    thread = session._loop._thread
    del session
    gc.collect()
    assert ends(thread)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGUSR1")
def test_a_signals_handler_uses_the_session_that_it_interrupts() -> None:
    results: list[Any] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: results.append(rk.map(double, [1.0]).tolist()))
    try:
        while len(results) < 10:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert rk.map(total, np.ones(1000))[-1] == 1000
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert results == [[2]] * len(results)


# --- forks ---------------------------------------------------------------------------------------------------


def run(script: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


FORKS = """
    import collections, os, signal, sys, threading, time, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.path.insert(0, {folder!r})
    import numpy as np
    import ringkernel as rk
    from daily_kernels import double, square

    def maps():
        while not stop:
            rk.map(double, np.arange(100_000.0))

    def compiles():
        from ringkernel.codegen.targets.cpu import compile_entry
        while not stop:
            compile_entry(lambda x: x + 1)
            begun.set()

    stop, begun, codes = [], threading.Event(), collections.Counter()
    rk.map(double, [1.0])
    threads = [threading.Thread(target=work, daemon=True) for work in (maps, compiles)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    for _ in range(4):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                from ringkernel.codegen.targets.cpu import compile_entry
                assert rk.map(square, [3.0]).tolist() == [9]
                assert compile_entry(lambda x: x + 2)(1) == 3
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        codes[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])] += 1
    stop.append(1)
    for thread in threads:
        thread.join(30)
    print(dict(codes))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_beside_maps_and_compilations_maps_and_compiles() -> None:
    script = FORKS.format(folder=os.path.dirname(__file__))  # noqa: PTH120
    assert run(script) == (0, "{0: 4}\n", "")


FIRST = """
    import collections, multiprocessing, os, signal, sys, threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.path.insert(0, {folder!r})
    import ringkernel as rk
    from daily_kernels import double

    def child():
        signal.alarm(60)
        os._exit(0 if rk.map(double, [3.0]).tolist() == [6] else 1)

    def forks():
        pid = os.fork()
        if pid == 0:
            child()
        codes[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] += 1

    def mapped(value):
        return rk.map(double, [value]).tolist()

    codes = collections.Counter()
    threads = [threading.Thread(target=work) for work in (lambda: mapped(1.0), forks, forks, forks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(dict(codes), pool.map(mapped, [1.0, 2.0]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_several_threads_fork_beside_the_first_map_and_then_multiprocessing_does() -> None:
    script = FIRST.format(folder=os.path.dirname(__file__))  # noqa: PTH120
    assert run(script) == (0, "{0: 3} [[2.0], [4.0]]\n", "")


# --- the interpreter's exit ----------------------------------------------------------------------------------

AT_EXIT = """
    import atexit, os, sys, threading, weakref
    sys.path.insert(0, {folder!r})
    import ringkernel as rk
    from daily_kernels import double

    def maps(say=os.write):
        try:
            say(1, repr(rk.map(double, [1.0]).tolist()).encode())
        except rk.RingKernelError as error:
            say(1, str(error).encode())

    class Late:
        def __del__(self, maps=maps):
            maps()

    {what}
    rk.RingKernelError, rk.map(double, [1.0])
"""


@pytest.mark.parametrize(
    "what",
    [
        "atexit.register(maps)",
        "late = Late()",
        "kept = type('Kept', (), dict())(); ref = weakref.ref(kept, lambda _, maps=maps: maps())",
    ],
    ids=["atexit", "a finalizer", "a weak reference"],
)
def test_a_map_while_the_interpreter_ends_is_refused_at_once(what: str) -> None:
    begun = time.monotonic()
    code, said, errors = run(AT_EXIT.format(folder=os.path.dirname(__file__), what=what))  # noqa: PTH120
    assert (code, errors) == (0, "")
    assert said == "the interpreter ends: nothing can be begun any more" or ("weakref" in what and not said)
    assert time.monotonic() - begun < 60
