"""A forked child is refused, the parent goes on, and the child may have a runtime of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fault_kernels import (
    check_alive,
    echo,
)
from helpers import check_books, eventually, start

if TYPE_CHECKING:
    from ringkernel import RingKernelRuntime


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_fork_is_refused_and_the_parent_goes_on(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: that is what is being tested
        pid = os.fork()
    if pid == 0:
        text = "nothing was raised"
        try:
            runtime.send_nowait("k", 1)
        except BaseException as error:  # noqa: BLE001 (the parent looks at it)
            text = f"{type(error).__name__}: {error}"
        os.write(write_end, text.encode())
        os._exit(0)
    os.close(write_end)
    os.set_blocking(read_end, False)

    def answer() -> bytes:
        try:
            return os.read(read_end, 10_000)
        except BlockingIOError:
            return b""

    text = (await eventually(answer)).decode()
    os.close(read_end)
    os.waitpid(pid, 0)  # noqa: ASYNC222 (it has already said its last word)
    assert text.startswith("KernelStateError")
    assert "fork" in text
    await check_alive(runtime, "k")
    assert check_books(runtime, "k").accepted == 2


FORKED = """
    import asyncio, os, sys, warnings
    import ringkernel as rk

    @rk.ring_kernel(kernel_id="echo", input_type=int, output_type=int)
    def echo(msg, out):
        out.value = msg.value

    async def echo_once(value):
        async with rk.RingKernelRuntime(workers=1) as runtime:
            async with rk.managed_kernel(runtime, "echo") as kernel_id:
                await runtime.send(kernel_id, value)
                assert await runtime.receive(kernel_id, timeout=10) == value

    def child():
        # a forked child may make a runtime of its own, and exit in the ordinary way
        asyncio.run(echo_once(5))
        sys.exit(7)

    async def main():
        async with rk.RingKernelRuntime(workers=1) as runtime:
            async with rk.managed_kernel(runtime, "echo") as kernel_id:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    pid = os.fork()
                if pid == 0:
                    asyncio._set_running_loop(None)
                    try:
                        child()
                    except SystemExit as leaving:
                        os._exit(leaving.code)
                    except BaseException as error:
                        print("child:", repr(error), file=sys.stderr, flush=True)
                        os._exit(1)
                for value in range(100):
                    await runtime.send(kernel_id, value)
                    assert await runtime.receive(kernel_id, timeout=10) == value
                _, status = await asyncio.to_thread(os.waitpid, pid, 0)
                assert os.waitstatus_to_exitcode(status) == 7, status
                await runtime.send(kernel_id, 1)
                assert await runtime.receive(kernel_id, timeout=10) == 1

    asyncio.run(main())
    pid = os.fork()  # and once more with the first runtime closed
    if pid == 0:
        child()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_may_make_a_runtime_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "forked.py"
    script.write_text(textwrap.dedent(FORKED))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout.strip(), run.returncode) == ("done", 0), run.stderr
