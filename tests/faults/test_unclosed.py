"""Runtimes that nobody closes: they say so, and leave no threads and no descriptors."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from fault_kernels import coroutine, echo, worker_threads
from helpers import eventually, within

from ringkernel import MessageQueue, RingKernelRuntime, ring_kernel

if sys.platform != "win32":
    import uvloop  # before the first test, since it keeps a pipe for the process

pytestmark = pytest.mark.workers


@ring_kernel(kernel_id="un_typed", input_type=int, output_type=int)
async def typed(ctx: Any) -> None:
    async for message in ctx:
        await ctx.send(message)


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


async def use(function: Any = echo) -> RingKernelRuntime:
    """A runtime that works, with a kernel that could go on."""
    runtime = RingKernelRuntime(workers=2)
    await runtime.launch("k", function)
    await runtime.activate("k")
    await runtime.send("k", 3)
    assert await within(runtime.receive("k")) == 3
    return runtime


async def use_and_drop() -> None:
    await use()


def in_another_thread(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def loop_of(name: str) -> asyncio.AbstractEventLoop:
    if name == "uvloop":
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


def run(main: Any, loop: str) -> Any:
    with asyncio.Runner(loop_factory=lambda: loop_of(loop)) as runner:
        return runner.run(main)


LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]


@pytest.mark.parametrize("loop", LOOPS)
def test_one_that_is_dropped_warns_and_leaves_nothing(loop: str) -> None:
    with pytest.warns(ResourceWarning, match=r"RingKernelRuntime was collected.*async with.*close\(\)"):
        run(use_and_drop(), loop)
    assert worker_threads() == 0
    before = descriptors()
    for _ in range(5):
        with pytest.warns(ResourceWarning):
            run(use_and_drop(), loop)
    assert worker_threads() == 0
    assert descriptors() <= before


@pytest.mark.parametrize("loop", LOOPS)
def test_one_that_outlives_its_loop_warns_once_and_leaves_nothing(loop: str) -> None:
    kept = []
    for _ in range(3):
        with pytest.warns(ResourceWarning, match=r"event loop was closed.*async with.*close\(\)") as caught:
            kept.append(run(use(), loop))
        assert len(caught) == 1
        assert worker_threads() == 0
    with warnings.catch_warnings(record=True) as later:
        warnings.simplefilter("always")
        kept.clear()
        gc.collect()
    assert [str(warning.message) for warning in later] == []  # it has said so already


@pytest.mark.parametrize("function", [typed, coroutine], ids=["records", "objects"])
def test_only_what_holds_something_warns(function: Any) -> None:
    """A runtime of coroutines over objects has neither threads nor descriptors."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept = run(use(function), "asyncio")
        del kept
        gc.collect()
    assert [warning.category for warning in caught] == ([ResourceWarning] if function is typed else [])


async def test_one_that_is_collected_in_another_thread_is_closed_in_its_own(loop_errors: list[dict[str, Any]]) -> None:
    runtime = [await use()]
    before = descriptors()
    with pytest.warns(ResourceWarning, match="was collected"):
        in_another_thread(runtime.clear)
    await eventually(lambda: worker_threads() == 0)
    assert descriptors() < before
    async with RingKernelRuntime(workers=1) as another:
        await another.launch("k", echo)
        await another.activate("k")
        await another.send("k", 5)
        assert await within(another.receive("k")) == 5


async def test_one_that_was_closed_says_nothing(loop_errors: list[dict[str, Any]]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runtime = await use()
        before = descriptors()
        await runtime.close()
        assert descriptors() < before
        del runtime
        unused, queue = RingKernelRuntime(), MessageQueue(8, dtype=int)
        await queue.put(1)
        del unused, queue
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


SCRIPT = """
import asyncio, gc, os, sys
import ringkernel as rk

@rk.ring_kernel("k", input_type=int, output_type=int)
def k(msg, out):
    out.value = msg.value

async def main():
    runtime = rk.RingKernelRuntime(workers=2)
    await runtime.launch("k")
    await runtime.activate("k")
    await runtime.send("k", 3)
    assert await runtime.receive("k") == 3
    return runtime

def at_exit():  # the loop is there to the end
    loop = asyncio.new_event_loop()
    return loop, loop.run_until_complete(main())

def in_a_fork():
    kept = list(at_exit())
    child = os.fork()
    kept.clear()
    gc.collect()
    if child == 0:
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

kept = globals()[sys.argv[1]]()
print("done")
"""


@pytest.mark.parametrize("what", ["at_exit", "in_a_fork"])
def test_the_interpreter_ends_as_ever(what: Any, tmp_path: Path) -> None:
    """At its exit nobody is told: everything ends then. In a fork nothing is there to be ended."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", str(script), what],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    said = [line for line in done.stderr.splitlines() if "ResourceWarning" in line or "Exception" in line]
    ours = [line for line in said if "RingKernelRuntime" in line]
    assert len(ours) == (1 if what == "in_a_fork" else 0), done.stderr  # the parent's own
    asyncios = "BaseEventLoop.__del__"  # in 3.13 it may look for modules that are gone by then
    assert not [line for line in said if "Exception" in line and asyncios not in line], done.stderr
