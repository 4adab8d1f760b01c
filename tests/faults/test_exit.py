"""The interpreter ends, and kernels are running: promptly, with the right exit code, and without a word too many.

Each mode ends a process of its own, forked off one that has compiled everything, so that a round costs no compilation;
some also end a process that was started afresh. `RINGKERNEL_EXIT_ROUNDS` says how often (3 by default; 100 for a soak).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("RINGKERNEL_EXIT_ROUNDS", "3"))
START_S = 60.0
END_S = 5.0
"""How long the end may take after the trigger. The issue is minutes and for ever, not milliseconds."""

PRELUDE = """
import asyncio, faulthandler, json, os, signal, sys, threading, time, warnings
faulthandler.enable()
warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)  # what Python 3.12 on says
import numpy as np
import ringkernel as rk

@rk.ring_kernel("busy", input_type=np.int64, output_type=np.int64)
def busy(msg, out):
    out.value = msg.value + 1

@rk.ring_kernel("parked", input_type=np.float64, output_type=np.float64)
def parked(msg, out):
    out.value = 2.0 * msg.value

@rk.ring_kernel("stuck", input_type=np.int64, output_type=np.int64)
def stuck(msg, out):
    x = msg.value
    while x >= 0:
        x = (x + 1) & 0xFFFF
    out.value = x

@rk.ring_kernel("slow", input_type=np.int64, output_type=np.int64)
def slow(msg, out):
    x = 1.0
    for _ in range(msg.value):
        x = np.sin(x) + 1.0
    out.value = np.int64(x)

@rk.ring_kernel("echo")
async def echo(ctx):
    async for message in ctx:
        await ctx.send(message)

def ready():
    print("ready", flush=True)

async def pump(runtime, kernel_id, first):
    try:
        while True:
            await runtime.send(kernel_id, first)
            await runtime.receive(kernel_id)
    except rk.KernelStateError:
        pass  # the kernel has ended

async def start(runtime, *ids):
    for kernel_id in ids:
        await runtime.launch(kernel_id)
        await runtime.activate(kernel_id)

async def traffic(runtime):
    \"\"\"Three kernels: one under traffic, one that has parked after a while, one in the event loop.\"\"\"
    await start(runtime, "busy", "parked", "echo")
    await runtime.send("parked", 1.0)
    assert await runtime.receive("parked") == 2.0
    pumps = [asyncio.ensure_future(pump(runtime, "busy", 1)), asyncio.ensure_future(pump(runtime, "echo", "x"))]
    await asyncio.sleep(0.02)
    return pumps
"""


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to end. `noise`: what stderr must hold, with so many tracebacks at most; without it stderr stays empty."""

    script: str
    code: int = 0
    noise: str | None = None
    interrupt: bool = False
    output: str = ""
    tracebacks: int = 1


MODES = {
    "the end of asyncio.run": Mode("""
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                pumps = await traffic(runtime)
                for one in pumps:
                    one.cancel()
                ready()
        asyncio.run(main())
    """),
    "the end under traffic": Mode("""
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                pumps = await traffic(runtime)
                ready()
            await asyncio.gather(*pumps)  # the kernels are gone, and whoever still sent or received is told
        asyncio.run(main())
    """),
    "a runtime that is never closed": Mode("""
        async def main():
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
            ready()
        asyncio.run(main())
    """),
    "a runtime that outlives its loop": Mode("""
        async def main():
            global runtime
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
        asyncio.run(main())
        ready()
    """),
    "sys.exit": Mode(
        """
        async def main():
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
            ready()
            sys.exit(3)
        asyncio.run(main())
    """,
        code=3,
    ),
    "sys.exit inside the runtime": Mode(
        """
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                await traffic(runtime)
                ready()
                sys.exit(4)
        asyncio.run(main())
    """,
        code=4,
    ),
    "an exception": Mode(
        """
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                await traffic(runtime)
                ready()
                raise ValueError("the author's own mistake")
        asyncio.run(main())
    """,
        code=1,
        noise="ValueError: the author's own mistake",
    ),
    "an exception without a runtime that is closed": Mode(
        """
        async def main():
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
            ready()
            raise ValueError("the author's own mistake")
        asyncio.run(main())
    """,
        code=1,
        noise="ValueError: the author's own mistake",
    ),
    "Ctrl-C": Mode(
        """
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                await traffic(runtime)
                ready()
                await asyncio.sleep(60)
        asyncio.run(main())
    """,
        code=-signal.SIGINT,
        noise="KeyboardInterrupt",
        tracebacks=2,  # of the cancelled main task, and of the interrupt
        interrupt=True,
    ),
    "Ctrl-C that is caught": Mode(
        """
        async def main():
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
            ready()
            await asyncio.sleep(60)
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            sys.exit(7)
    """,
        code=7,
        interrupt=True,
    ),
    "a handler that never returns": Mode("""
        async def main():
            runtime = rk.RingKernelRuntime()
            await start(runtime, "stuck", "busy")
            await runtime.send("stuck", 1)
            await runtime.send("busy", 1)
            assert await runtime.receive("busy") == 2
            ready()
        asyncio.run(main())
    """),
    "a handler that was abandoned": Mode(
        """
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                await start(runtime, "stuck", "busy")
                await runtime.send("stuck", 1)
                ready()
                await asyncio.sleep(0.05)
                await runtime.terminate("stuck", timeout=0.2)
                assert "stuck" in str(runtime.kernels["stuck"].error)
                await runtime.send("busy", 1)
                assert await runtime.receive("busy") == 2
        asyncio.run(main())
    """,
        noise="did not return from its handler",
    ),
    "a handler that returns while the interpreter ends": Mode("""
        import random
        async def main():
            runtime = rk.RingKernelRuntime()
            await start(runtime, "slow")
            begun = time.monotonic()
            await runtime.send("slow", 1_000_000)
            await runtime.receive("slow")
            each_s = (time.monotonic() - begun) / 1_000_000
            await runtime.send("slow", int(random.uniform(0.1, 0.5) / each_s))
            ready()
        asyncio.run(main())
    """),
    "a handler that is being compiled": Mode("""
        async def main():
            runtime = rk.RingKernelRuntime()
            await start(runtime, "busy")
            compiling = asyncio.ensure_future(runtime.launch("parked"))
            await asyncio.sleep(0.05)
            ready()
        asyncio.run(main())
    """),
    "sys.exit while the first handler is compiled": Mode(
        """
        async def main():
            runtime = rk.RingKernelRuntime()
            compiling = asyncio.ensure_future(runtime.launch("busy"))
            await asyncio.sleep(0.3)
            ready()
            sys.exit(5)
        asyncio.run(main())
    """,
        code=5,
    ),
    "a forked child that exits": Mode(
        """
        async def main():
            global loop, runtime
            loop = asyncio.get_running_loop()
            async with rk.RingKernelRuntime() as runtime:
                await traffic(runtime)
                said.append("started")
                while "forked" not in said:
                    await asyncio.sleep(0.01)
                await runtime.send("parked", 4.0)
                assert await runtime.receive("parked", timeout=10) == 8.0
        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        while "started" not in said:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            sys.exit(9)  # an ordinary end, with all that is done then
        ready()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.append("forked")
        thread.join()
        print("child", code, flush=True)
    """,
        output="child 9",
    ),
    "a forked child that leaves the runtime": Mode(
        """
        async def main():
            try:
                async with rk.RingKernelRuntime() as runtime:
                    await start(runtime, "busy")
                    child = os.fork()
                    if child == 0:
                        raise LookupError("the reason why the child ends")
                    ready()
                    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                    await runtime.send("busy", 4)
                    assert await runtime.receive("busy", timeout=10) == 5
                    print("child", code, flush=True)
            except LookupError:
                os._exit(9)
            except rk.KernelStateError:
                os._exit(8)  # the refusal has taken the reason's place
        asyncio.run(main())
    """,
        output="child 9",
    ),
    "a forked child that refuses": Mode(
        """
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                await start(runtime, "busy")
                child = os.fork()
                if child == 0:
                    try:
                        await runtime.send("busy", 1)
                    except rk.KernelStateError as refusal:
                        os._exit(0 if "fork" in str(refusal) else 1)
                    os._exit(2)
                ready()
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                await runtime.send("busy", 4)
                assert await runtime.receive("busy", timeout=10) == 5
                print("child", code, flush=True)
        asyncio.run(main())
    """,
        output="child 0",
    ),
    "two runtimes in two loops": Mode("""
        async def main():
            async with rk.RingKernelRuntime() as runtime:
                await start(runtime, "busy", "echo")
                await runtime.send("busy", 1)
                assert await runtime.receive("busy") == 2
        asyncio.run(main())
        async def again():
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
            ready()
        asyncio.run(again())
    """),
    "a runtime in another thread": Mode("""
        async def main():
            runtime = rk.RingKernelRuntime()
            await traffic(runtime)
            ready()
            await asyncio.sleep(60)
        def run():
            asyncio.run(main())
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while "ready" not in said:
            time.sleep(0.01)
    """),
}
AFRESH = {"the end of asyncio.run", "a runtime that is never closed", "an exception", "Ctrl-C"}
COMPILED_HERE = {"the end of asyncio.run", "a runtime that is never closed"}
COMPILING = {"a handler that is being compiled", "sys.exit while the first handler is compiled"}

_SAID = """
said = []
_ready = ready
def ready():
    _ready()
    said.append("ready")
"""

TEMPLATE = """
async def warm_up():
    async with rk.RingKernelRuntime() as runtime:
        for kernel_id in ("busy", "parked", "stuck", "slow", "echo"):
            await runtime.launch(kernel_id)
        await runtime.activate("busy")

def serve():
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
                opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
                os.dup2(opened, number)
                os.close(opened)
            return job["script"]
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit(0)

asyncio.run(warm_up())
for thread in set(threading.enumerate()) - {threading.current_thread()}:
    thread.join(10)  # one that has just delivered what it compiled may not have ended yet
assert threading.active_count() == 1, threading.enumerate()
exec(compile(serve(), "<mode>", "exec"), globals())
"""


class Process:
    """A process that runs a mode, and what it has written so far."""

    def __init__(self, folder: Path) -> None:
        self.out, self.err = folder / "out", folder / "err"
        self.out.write_text("")
        self.err.write_text("")
        self.pid = 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Afresh(Process):
    """An interpreter of its own, which compiles everything or (`cached`) loads it from the tests' cache."""

    def __init__(self, folder: Path, script: str, *, cached: bool) -> None:
        super().__init__(folder)
        with self.out.open("w") as out, self.err.open("w") as err:
            command = [sys.executable, "-c", PRELUDE + _SAID + script]
            environment = os.environ if cached else {**os.environ, "RINGKERNEL_CACHE_SIZE": "0"}
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment)
        self.pid = self._process.pid

    def code(self) -> int | None:
        return self._process.poll()

    def reap(self) -> None:
        self._process.wait()


class Forked(Process):
    """A fork of the template."""

    def __init__(self, folder: Path, script: str, template: Any) -> None:
        super().__init__(folder)
        self._template = template
        self._code: int | None = None
        job = {"script": script, "out": str(self.out), "err": str(self.err)}
        template.stdin.write(json.dumps(job).encode() + b"\n")
        self.pid = int(template.stdout.readline())

    def code(self) -> int | None:
        if self._code is None and select.select([self._template.stdout], [], [], 0)[0]:
            self._code = int(self._template.stdout.readline())
        return self._code

    def reap(self) -> None:
        if self._code is None:
            self._code = int(self._template.stdout.readline())


@pytest.fixture(scope="module")
def template() -> Iterator[Any]:
    """A process that has compiled everything."""
    command = [sys.executable, "-c", PRELUDE + _SAID + TEMPLATE]
    # without a buffer, which might have read ahead what `select` is to see: how a process ended that died at once
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(END_S) == 0


def until(predicate: Callable[[], Any], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def complaint_about(mode: Mode, process: Any, end_s: float = END_S) -> str | None:
    """What is wrong with how a process ended, or None. It should within `end_s` seconds."""
    try:
        until(lambda: "ready" in process.out.read_text() or process.code() is not None, START_S)
        if "ready" not in process.out.read_text():
            return f"did not get ready; code {process.code()}, stderr:\n{process.err.read_text()}"
        begun = time.monotonic()
        if mode.interrupt:
            os.kill(process.pid, signal.SIGINT)
        if not until(lambda: process.code() is not None, 4 * end_s):
            return f"still there after {4 * end_s:g} s; stderr:\n{process.err.read_text()}"
        took_s = time.monotonic() - begun
    finally:
        if process.code() is None:
            process.kill()
            process.reap()
    errors, problems = process.err.read_text(), []
    if process.code() != mode.code:
        problems.append(f"exit code {process.code()} instead of {mode.code}")
    if took_s > end_s:
        problems.append(f"took {took_s:.1f} s")
    if mode.noise is None and errors:
        problems.append("spoke")
    loud = errors.count("Traceback") > mode.tracebacks or "Fatal" in errors or "'echo' has failed" in errors
    if mode.noise is not None and (mode.noise not in errors or loud):
        problems.append("said something else")
    if mode.output not in process.out.read_text():
        problems.append(f"printed {process.out.read_text()!r}")
    return f"{', '.join(problems)}; stderr:\n{errors}" if problems else None


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and sends signals")


@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize("name", sorted(MODES.keys() - COMPILING))
def test_the_interpreter_ends(name: str, template: Any, tmp_path: Path) -> None:
    mode = MODES[name]
    script = textwrap.dedent(mode.script)
    outcomes = [complaint_about(mode, Forked(tmp_path, script, template)) for _ in range(ROUNDS)]
    wrong = [outcome for outcome in outcomes if outcome is not None]
    assert not wrong, f"{len(wrong)} of {ROUNDS} ended badly. {wrong[0]}"


@pytest.mark.timeout(120 + 10 * ROUNDS)
@pytest.mark.parametrize(
    ("name", "cached"),
    [*((name, False) for name in sorted(COMPILED_HERE | COMPILING)), *((name, True) for name in sorted(AFRESH))],
)
def test_an_interpreter_of_its_own_ends(name: str, cached: bool, tmp_path: Path) -> None:
    mode = MODES[name]
    rounds = 1 if ROUNDS <= 3 else ROUNDS
    script = textwrap.dedent(mode.script)
    outcomes = [complaint_about(mode, Afresh(tmp_path, script, cached=cached)) for _ in range(rounds)]
    wrong = [outcome for outcome in outcomes if outcome is not None]
    assert not wrong, f"{len(wrong)} of {rounds} ended badly. {wrong[0]}"


@pytest.mark.parametrize(
    ("script", "code", "complaint", "end_s"),
    [
        ("ready(); os.kill(os.getpid(), signal.SIGKILL)", 0, "exit code -9", END_S),
        ("ready(); print('noise', file=sys.stderr)", 0, "spoke", END_S),
        ("ready(); time.sleep(1.2)", 0, "took", 0.8),
        ("ready(); time.sleep(60)", 0, "still there", 0.1),
        ("ready()", 1, "exit code 0", END_S),
        ("ready(); raise ValueError", 1, "spoke", END_S),
    ],
)
def test_the_check_can_fail(
    script: str, code: int, complaint: str, end_s: float, template: Any, tmp_path: Path
) -> None:
    outcome = complaint_about(Mode(script, code=code), Forked(tmp_path, script, template), end_s)
    assert outcome is not None
    assert complaint in outcome
