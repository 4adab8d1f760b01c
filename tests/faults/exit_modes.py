"""The ways in which an interpreter may end while kernels are running, as scripts."""

from __future__ import annotations

import dataclasses
import signal

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

HANG = False

@rk.ring_kernel("fails", input_type=np.int64, output_type=np.int64)
def fails(msg, out):
    while HANG:  # when it is run again, in Python, to see why
        pass
    if msg.value == 0:
        raise ValueError("zero")
    out.value = msg.value

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

async def run_again_for_long(runtime):
    \"\"\"A kernel whose handler has failed, and is run again in Python, which does not end.\"\"\"
    global HANG
    await start(runtime, "fails")
    HANG = True
    await runtime.send("fails", 0)
    while not any(thread.name == "ringkernel-compile" for thread in threading.enumerate()):
        await asyncio.sleep(0.001)

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
    "a handler that is run again": Mode(
        """
        async def main():
            runtime = rk.RingKernelRuntime()
            await run_again_for_long(runtime)
            ready()
        asyncio.run(main())
    """
    ),
    "a forked child while a handler is run again": Mode(
        """
        async def main():
            runtime = rk.RingKernelRuntime()
            await run_again_for_long(runtime)
            child = os.fork()
            if child == 0:
                sys.exit(9)
            ready()
            print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        asyncio.run(main())
    """,
        output="child 9",
    ),
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
