"""`make gpu`: everything that needs a GPU, in a few minutes. Tests first, then what may block, then the figures.

Writes its raw output with card and driver to `benchmarks/results/`. With `--rehearse` the grids are threads of this
CPU: that checks this script, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.devices import selection
from ringkernel.devices.grid import device_rings
from ringkernel.devices.grid.cuda_probe import cuda_facts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

HERE = Path(__file__).parent
SUITES = ["behaviour", "test_contract.py", "streams"]
DEVICE = "cuda:0"
TICK = np.dtype([("time", "i8"), ("symbol", "i8"), ("price", "f8"), ("volume", "f8")])


@rk.ring_kernel("echo", input_type=TICK, output_type=TICK)
def echo(msg, out):
    out.price, out.volume = 2 * msg.price, msg.volume


@rk.ring_kernel("mean", input_type=TICK, output_type=TICK, state=np.zeros(1))
def mean(msg, out, state):
    state[0] += 0.1 * (msg.price - state[0])
    out.price, out.volume = state[0], msg.volume


EACH = np.zeros((), [("mean", "f8"), ("n", "i8")])


@rk.ring_kernel("each", input_type=TICK, output_type=TICK, state=EACH, key="symbol", keys=1_000)
def each(msg, out, state):
    state.mean += 0.1 * (msg.price - state.mean)
    state.n += 1
    out.price, out.volume = state.mean, state.n


@rk.ring_kernel("priced", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
def priced(msg, out, state):
    out.time, out.price, out.volume = msg.time, state[0], msg.volume


@rk.on_input("priced", "quotes", TICK)
def priced_quote(msg, out, state):
    state[0] = msg.price
    return False


async def start(runtime: rk.RingKernelRuntime, *kernels: tuple[str, Any]) -> None:
    for name, function in kernels:
        await runtime.launch(name, function, device=DEVICE)
    for name, _ in kernels:
        await runtime.activate(name)


def ticks(count: int) -> np.ndarray:
    values = np.zeros(count, TICK)
    values["time"] = values["price"] = np.arange(count)
    values["symbol"], values["volume"] = np.arange(count) % 1_000, 1
    return values


def percentiles(times: list[float]) -> dict[str, float]:
    ordered = np.sort(times)
    return {"p50_us": float(np.percentile(ordered, 50) * 1e6), "p99_us": float(np.percentile(ordered, 99) * 1e6)}


# --- what may block ----------------------------------------------------------------------------------------------


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    begin = time.perf_counter()
    async with asyncio.timeout(20):
        await work()
    return time.perf_counter() - begin


async def nothing_blocks(most: int) -> dict[str, Any]:
    """Launch more and more kernels while all others run; send through every one; stop cleanly."""
    found: dict[str, Any] = {"launch_s": [], "refused": None}
    async with rk.RingKernelRuntime() as runtime:
        names = []
        for i in range(most):
            name = f"k{i}"
            try:
                found["launch_s"].append(await timed(lambda name=name: start(runtime, (name, echo))))
            except rk.DeviceUnavailableError as refusal:
                found["refused"] = str(refusal)
                break
            names.append(name)
            if i in (1, 8, most - 1):
                for one in names:
                    await runtime.send(one, ticks(2)[1])
                    assert (await runtime.receive(one)).price == 2
        found["running"] = len(names)
        found["pause_s"] = [await timed(lambda name=name: runtime.deactivate(name)) for name in names]
        found["resume_s"] = [await timed(lambda name=name: runtime.reactivate(name)) for name in names]
        found["terminate_s"] = [await timed(lambda name=name: runtime.terminate(name)) for name in names]
    return found


# --- figures -----------------------------------------------------------------------------------------------------


async def round_trips(rounds: int) -> dict[str, float]:
    async with rk.RingKernelRuntime() as runtime:
        await start(runtime, ("k", echo))
        message, times = ticks(2)[1], []
        for _ in range(rounds):
            begin = time.perf_counter()
            await runtime.send("k", message)
            answer = await runtime.receive("k")
            times.append(time.perf_counter() - begin)
            assert answer.price == 2
        return percentiles(times[rounds // 10 :])


@contextlib.contextmanager
def rings_in(memory: str) -> Iterator[None]:
    """Where the rings between grids lie: in the "device" memory, as ever, or in the "host" memory, to compare."""
    decide = device_rings._wanted
    device_rings._wanted = decide if memory == "device" else lambda _ring: None
    try:
        yield
    finally:
        device_rings._wanted = decide


async def throughput(kernels: list[tuple[str, Any]], batch: int, total: int, memory: str = "device") -> float:
    """Messages per second, host to host, in batches of this size; rings between the kernels lie in `memory`."""
    async with rk.RingKernelRuntime() as runtime:
        for name, function in kernels:
            await runtime.launch(name, function, device=DEVICE)
        for (source, _), (target, _) in itertools.pairwise(kernels):
            runtime.connect(source, target)
        for name, _ in kernels:
            await runtime.activate(name)
        between = [runtime.kernels[source].engine.output.storage for (source, _), _ in itertools.pairwise(kernels)]
        assert all(isinstance(one, device_rings.DeviceStorage) == (memory == "device") for one in between)
        first, last, values = kernels[0][0], kernels[-1][0], ticks(batch)
        count = max(1, total // batch)
        begin = time.perf_counter()

        async def feed() -> None:
            for _ in range(count):
                await runtime.send_batch(first, values)

        feeding = asyncio.create_task(feed())
        received = 0
        while received < count * batch:
            received += len(await runtime.receive_batch(last))
        await feeding
        return count * batch / (time.perf_counter() - begin)


async def figures(quick: bool) -> dict[str, Any]:
    total = 20_000 if quick else 1_000_000
    chain = [("a", echo), ("b", echo)]
    found: dict[str, Any] = {"round_trip": await round_trips(1_000 if quick else 20_000)}
    rows = [
        ("stateless", [("k", echo)], "device"),
        ("stateful", [("k", mean)], "device"),
        ("with a state for each of 1,000 keys", [("k", each)], "device"),
        ("chain of two, the ring between them in device memory", chain, "device"),
        ("chain of two, the ring between them in host memory", chain, "host"),
    ]
    for label, kernels, memory in rows:
        with rings_in(memory):
            found[f"messages_per_s {label}"] = {
                batch: await throughput(kernels, batch, max(batch, total if batch > 1 else total // 20), memory)
                for batch in (1, 16, 256, 4096)
            }
    async with rk.RingKernelRuntime() as runtime:
        await start(runtime, ("k", echo))
        values = ticks(total)
        begin = time.perf_counter()
        result = await runtime.map("k", values)
        found["map_messages_per_s"] = total / (time.perf_counter() - begin)
        assert (result["price"] == 2 * values["price"]).all()
    found["replayed_messages_per_s, an ordered join"] = await replayed(total // 2)
    return found


async def replayed(count: int) -> float:
    """Messages per second of a join of two inputs by time, which comes to what it comes to on the CPU."""
    trades, quotes, outputs, elapsed = ticks(count), ticks(count), {}, 0.0
    quotes["price"] *= 3
    for device in ("cpu", DEVICE):
        async with rk.RingKernelRuntime() as runtime:
            await runtime.launch("k", priced, device=device)
            await runtime.activate("k")
            begin = time.perf_counter()
            outputs[device] = await runtime.replay({"k": trades, ("k", "quotes"): quotes}, until="k")
            elapsed = time.perf_counter() - begin
    assert (outputs[DEVICE] == outputs["cpu"]).all()
    return 2 * count / elapsed


def floors(rounds: int) -> dict[str, Any]:
    """On the device itself, with memory of an arena that it has been made to reach."""
    from gpu_floors import bare_ping_pong, launch_and_synchronize

    from ringkernel.memory.arenas import Arena

    device, arena = selection.open_hardware(DEVICE), Arena()
    memory = arena.allocate(2 * 8 * 4096 + 8)
    device.adopt(arena)
    found = {
        "launch + synchronize per message": percentiles(launch_and_synchronize(device, memory, 1, rounds)),
        "launch + synchronize per batch of 4096": percentiles(launch_and_synchronize(device, memory, 4096, rounds)),
        "bare mapped ping-pong with payload": percentiles(bare_ping_pong(device, arena.allocate(256), rounds)),
    }
    device.forget(arena)
    return found


# --- all of it ---------------------------------------------------------------------------------------------------


def rehearse() -> None:
    """Let threads of this CPU stand for the GPU's grids, and compile what would run beside them."""
    sys.path.insert(0, str(HERE.parent / "tests" / "support"))
    from thread_device import ThreadDevice

    selection._opened[DEVICE] = ThreadDevice(DEVICE)
    with contextlib.suppress(ImportError):
        import gpu_floors

        for function in (gpu_floors.double, gpu_floors.ping_pong):
            assert ".entry" in gpu_floors.compile_plain(function, (9, 0))[0]


def run_suites() -> dict[str, str]:
    found = {}
    for suite in SUITES:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--cuda",
            "-q",
            "--timeout",
            "60",
            str(HERE.parent / "tests" / suite),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parent)
        found[suite] = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]
        print(f"  {suite:<28} {found[suite]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="threads of this CPU in the place of grids")
    arguments = parser.parse_args()
    facts = cuda_facts()
    if arguments.rehearse:
        rehearse()
    elif facts.problem is not None or facts.simulator:
        print(f"no GPU to run on: {facts.problem or 'NUMBA_ENABLE_CUDASIM is set'}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {
        "rehearsal": arguments.rehearse,
        "cuda": facts.as_dict(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    if not arguments.rehearse:
        print("correctness on the device")
        results["suites"] = run_suites()
    print("launching, pausing and stopping while others run")
    counts = (2,) if arguments.rehearse else (2, 9, 33)
    results["nothing_blocks"] = {most: asyncio.run(nothing_blocks(most)) for most in counts}
    print("figures")
    results["figures"] = asyncio.run(figures(arguments.rehearse))
    if not arguments.rehearse:
        results["floors"] = floors(5_000)
    text = json.dumps(results, indent=2)
    print(text)
    if not arguments.rehearse:
        card = facts.gpus[0].name.replace(" ", "-").lower()
        path = HERE / "results" / f"gpu-{card}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
        print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
