"""Where tests look inside a runtime: what a kernel, a worker or a grid is made of, and the settings of their insides.

When something inside moves or gets another name, this file follows, and the tests that look there do not.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING, Any

from ringkernel.devices import selection
from ringkernel.devices.compiled import compiling, handshake, worker
from ringkernel.devices.compiled.chain import ALONE
from ringkernel.devices.compiled.control_block import ControlBlock
from ringkernel.devices.compiled.engine import CompiledEngine
from ringkernel.devices.compiled.worker import RunEntries, Worker
from ringkernel.devices.coroutine.engine import CoroutineEngine
from ringkernel.devices.cpu import balancing, fusing
from ringkernel.devices.cpu import parallel as cpu_parallel
from ringkernel.devices.cpu import pool as cpu_pool
from ringkernel.devices.cpu.device import CpuDevice
from ringkernel.devices.cpu.executor import WorkerExecutor
from ringkernel.devices.event_loop import loop_parker
from ringkernel.devices.event_loop.loop_parker import LoopParker
from ringkernel.devices.grid import image
from ringkernel.devices.grid import pool as grid_pool
from ringkernel.devices.grid.device import GridDevice
from ringkernel.devices.grid.device_rings import DeviceStorage
from ringkernel.memory import wait_handle
from ringkernel.memory.layout import ARMED, BLOCK_DTYPE, LINE, PARKER, RUN_ENTRY
from ringkernel.memory.mailbox_layout import HEART
from ringkernel.runtime import session
from ringkernel.runtime.kernels.kernel import RingKernel
from ringkernel.runtime.lifecycle import quiesce

if TYPE_CHECKING:
    import threading

    import pytest
    from thread_device import ThreadDevice, ThreadGrid

    from ringkernel import RingKernelRuntime
    from ringkernel.devices.compiled.traffic import Traffic
    from ringkernel.devices.compiled.worker import Workers
    from ringkernel.devices.cpu.pool import WorkerPool
    from ringkernel.devices.grid.pool import GridPool
    from ringkernel.memory.arenas import Arena, Region

# --- what a runtime has --------------------------------------------------------------------------------------------


def parker_of(runtime: RingKernelRuntime) -> LoopParker:
    """The event loop as a parker."""
    services = runtime._supervisor._services
    assert services is not None
    return services.parker


def pool_of(runtime: RingKernelRuntime) -> WorkerPool:
    """The CPU workers."""
    devices = runtime._supervisor._devices
    assert devices is not None
    device = devices._made["cpu"]
    assert isinstance(device, CpuDevice)
    return device.pool


def workers_of(runtime: RingKernelRuntime) -> list[Worker]:
    """The CPU workers that take kernels."""
    return pool_of(runtime).workers


def found_by(runtime: RingKernelRuntime) -> set[Any]:
    """What kernels were called by, and are found by since then."""
    return set(runtime._supervisor.found)


def commands_to(runtime: RingKernelRuntime, kernel_id: str) -> int:
    """How many commands a kernel was given."""
    engine: Any = runtime.kernels[kernel_id].engine
    return int(engine.handshake._epoch)


def turns_of_workers(runtime: RingKernelRuntime) -> int:
    """How many turns the CPU workers have taken."""
    return sum(worker._api.read_word(worker.address + PARKER.turns) for worker in workers_of(runtime))


def worker_threads_of(runtime: RingKernelRuntime) -> list[threading.Thread]:
    """Their threads."""
    return [worker.thread for worker in workers_of(runtime)]


def grids_of(runtime: RingKernelRuntime) -> GridPool:
    """What starts and watches grids."""
    devices = runtime._supervisor._devices
    assert devices is not None
    device = next(device for device in devices._made.values() if isinstance(device, GridDevice))
    return device._pool


def watchers_of(runtime: RingKernelRuntime) -> list[Worker]:
    """The CPU workers that watch grids."""
    return grids_of(runtime)._threads.alive


def arena_of(runtime: RingKernelRuntime) -> Arena:
    """Where blocks and rings lie."""
    return parker_of(runtime).arena


def control_arena_of(runtime: RingKernelRuntime) -> Arena:
    """Where the control lines of grids lie."""
    return grids_of(runtime)._controls


def fill(arena: Arena) -> list[Region]:
    """Take what is left of an arena's last chunk, down to a line or two; it comes back with what this returns."""
    taken = []
    for size in (1 << 16, 1 << 10, LINE):
        while arena.room() > 2 * size:
            taken.append(arena.allocate(size))
    return taken


def heartbeat(runtime: RingKernelRuntime) -> int:
    """The sign of life that grids look for: it goes up."""
    grids = grids_of(runtime)
    return int(grids._api.read_word(grids._heart.address + HEART.beat))


def is_open(runtime: RingKernelRuntime) -> bool:
    """Whether its event loop still listens for it."""
    return parker_of(runtime)._open


def retire_worker(runtime: RingKernelRuntime) -> None:
    """As if a kernel that has held the worker had been abandoned."""
    pool_of(runtime).threads.retire(workers_of(runtime)[0])


def held_workers(runtime: RingKernelRuntime) -> set[Worker]:
    """Those that were given up, and still have kernels to move."""
    return {run_entry.worker for worker in pool_of(runtime).threads.retired for run_entry in worker.run_entries}


def chunks_by_helpers(runtime: RingKernelRuntime) -> int:
    """How many chunks of split spans workers have taken that have no kernel of their own."""
    threads = pool_of(runtime).threads
    idle = [worker for worker in (*threads.alive, *threads.spare) if not worker.run_entries]
    return sum(worker._api.read_word(worker.address + PARKER.turns) for worker in idle)


def is_helped(runtime: RingKernelRuntime) -> bool:
    """Whether a worker is helping another one just now."""
    threads = pool_of(runtime).threads
    return any(worker.helping for worker in (*threads.alive, *threads.spare))


def threads_left_to_a_handler(runtime: RingKernelRuntime) -> list[threading.Thread]:
    """Of the workers that were given up since they did not come out of a handler."""
    return [worker.thread for worker in pool_of(runtime).threads.retired]


# --- what a kernel has ---------------------------------------------------------------------------------------------


def traffic_of(runtime: RingKernelRuntime, kernel_id: str) -> Traffic:
    """What has gone through a kernel lately."""
    traffic: Traffic = runtime.kernels[kernel_id].engine.executor.traffic  # type: ignore[attr-defined]
    return traffic


def read_traffic(runtime: RingKernelRuntime) -> list[Traffic]:
    """End a period. The records of the kernels that had turns in it."""
    return [run_entry.traffic for run_entry in pool_of(runtime).balancing.traffic.read()]


def worker_of(runtime: RingKernelRuntime, kernel_id: str) -> Worker:
    """The worker of a kernel."""
    worker: Worker = runtime.kernels[kernel_id].engine.executor.worker  # type: ignore[attr-defined]
    return worker


def move_to_new_worker(runtime: RingKernelRuntime, kernel_id: str) -> bool:
    """Move a kernel to a fresh worker. False if it is in a turn just now."""
    pool, run_entry = pool_of(runtime), poller_of(runtime.kernels[kernel_id])
    fresh = next((worker for worker in pool.workers if not worker.run_entries), None) or pool.threads.start()
    assert fresh is not None
    return pool.move(run_entry, fresh)


def word_of_block(kernel: Any, name: str) -> int:
    """A word of the kernel's block, by its name in the layout."""
    fields = BLOCK_DTYPE.fields
    assert fields is not None
    return int(kernel.engine.block.read(fields[name][1]))


def block_record(kernel: Any) -> Any:
    """The kernel's block as a record that can be written to."""
    return kernel.engine.block._region.view(BLOCK_DTYPE)[0]


def has_poller(kernel: Any) -> bool:
    """Whether somebody runs its turns."""
    return bool(kernel.engine.is_running)


def poller_of(kernel: Any) -> Any:
    """The place of the kernel with who runs its turns; another one after each start."""
    return kernel.engine.executor.run_entry


def notice_status(kernel: Any) -> None:
    """As if the kernel's doorbell had rung."""
    kernel.engine.on_status()


def output_of(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    """The ring that a kernel writes to."""
    return runtime.kernels[kernel_id].engine.output


def write_control(engine: Any) -> Region:
    """The control lines with which the kernel's grid would start now."""
    region: Region = engine.executor._pool._write_control(engine.executor)
    return region


def is_in_device_memory(ring: Any, poison: int) -> bool:
    """Whether a ring lies in device memory. If so, nobody has written its slots in host memory, which are poisoned."""
    is_there = isinstance(ring.storage, DeviceStorage)
    assert not is_there or (ring._on_host.bytes == poison).all()
    return is_there


def reachable(kernel: Any) -> set[int]:
    """The addresses of a kernel's block and rings."""
    engine = kernel.engine
    return {engine.block.address, engine.outlet.ring.address, engine.output.address}


def grid_of(kernel: Any) -> ThreadGrid:
    """The grid that runs a kernel now."""
    grid: ThreadGrid = kernel.engine.executor.run_entry.grid
    return grid


def table_of(kernel: Any) -> Any:
    """The table of a kernel with keys."""
    return kernel.engine.block.keys


def is_let_be(kernel: Any) -> bool:
    """Whether nobody watches the kernel's grid, until somebody rings."""
    return int(kernel.engine._parker.api.read_word(poller_of(kernel).address + RUN_ENTRY.state)) == ARMED


# --- settings ------------------------------------------------------------------------------------------------------


def use_devices(patch: pytest.MonkeyPatch, *devices: ThreadDevice) -> None:
    """Have these devices and no other."""
    patch.setattr(selection, "_opened", {device.name: device for device in devices})


def set_answer_timeout(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long an answer to a command is waited for."""
    patch.setattr(handshake, "ANSWER_TIMEOUT_S", seconds)


def set_cores(patch: pytest.MonkeyPatch, count: int) -> None:
    """How many threads may be busy, for runtimes that are made from now on."""
    for module in (cpu_parallel, cpu_pool):
        patch.setattr(module, "allowed_cores", lambda: count)


def set_hold(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long a kernel may hold its worker before the others move."""
    patch.setattr(cpu_pool, "HOLD_S", seconds)


def measure_by_hand(patch: pytest.MonkeyPatch) -> None:
    """Let no period end by itself."""
    patch.setattr(balancing, "PERIOD_S", 1e9)


def set_patience(patch: pytest.MonkeyPatch, nanoseconds: int) -> None:
    """How long a worker that is made from now on polls before it parks, at least."""
    patch.setattr(worker, "MIN_PATIENCE_NS", nanoseconds)


def set_beat_timeout(patch: pytest.MonkeyPatch, nanoseconds: int) -> None:
    """How long a grid that is started from now on waits for a sign of life."""
    patch.setattr(image, "BEAT_TIMEOUT_NS", nanoseconds)


def set_control_room(patch: pytest.MonkeyPatch, nbytes: int) -> None:
    """How much room for the control lines of grids there is whenever a device was quiesced."""
    patch.setattr(grid_pool, "CONTROL_ROOM", nbytes)


def set_credit(patch: pytest.MonkeyPatch, nanoseconds: int) -> None:
    """How long the thread of an event loop may take turns in one go."""
    patch.setattr(loop_parker, "CREDIT_NS", nanoseconds)


def leave_turns_to_workers(patch: pytest.MonkeyPatch) -> None:
    """No handler counts as one that is sure to end soon, so workers run all."""
    patch.setattr(WorkerExecutor, "is_bounded", False)


def take_turns_in_loop(patch: pytest.MonkeyPatch) -> None:
    """Let the thread of an event loop take the turns of kernels whose cost is not known yet, too."""
    patch.setattr(loop_parker, "KNOWN_AFTER", 0)


# --- steps that tests make fail ------------------------------------------------------------------------------------

Step = tuple[Any, str]
"""A function of the package: whose it is, and its name."""

WAIT_WHILE_IT_GETS_ON: Step = (CompiledEngine, "wait_while_it_gets_on")
PROGRESS: Step = (CompiledEngine, "progress")
WAIT_OVER: Step = (CompiledEngine, "has_ended_within")
MAKE_RINGS: Step = (CompiledEngine, "_make_output")
FINISH: Step = (CompiledEngine, "finish")
COMMAND: Step = (ControlBlock, "command")
READ_WORD: Step = (ControlBlock, "read")
EVICT: Step = (cpu_pool.WorkerPool, "evict")
DEQUEUE: Step = (cpu_pool.WorkerPool, "dequeue")
ENQUEUE: Step = (cpu_pool.WorkerPool, "enqueue")
NEW_ENTRY: Step = (RunEntries, "new_address")
STOP_WORKER: Step = (Worker, "tell_to_stop")
FINISH_COROUTINE: Step = (CoroutineEngine, "finish")
WAIT_FOR_TASK: Step = (CoroutineEngine, "wait_while_it_gets_on")
DISPATCH: Step = (LoopParker, "dispatch")
ADOPT: Step = (grid_pool.GridPool, "reach_memory")
QUIESCED: Step = (quiesce, "quiesced")
NEW_KERNEL: Step = (RingKernel, "__init__")


def original(step: Step) -> Any:
    """The step itself."""
    owner, name = step
    return getattr(owner, name)


def replace(patch: pytest.MonkeyPatch, step: Step, function: Any) -> Any:
    """Put a function in the place of a step. What stood there."""
    owner, name = step
    before = original(step)
    patch.setattr(owner, name, function)
    return before


class BrokenError(Exception):
    """What an injected failure is."""


def fail(patch: pytest.MonkeyPatch, step: Step, error: BaseException) -> None:
    """Let every call of a step raise."""

    def failing(*arguments: Any, **options: Any) -> Any:
        raise error

    replace(patch, step, failing)


def fail_times(patch: pytest.MonkeyPatch, step: Step, times: int = 1, error: BaseException | None = None) -> list[int]:
    """Let the next calls of a step raise. A list as long as the number of those that have."""
    owner, name = step
    before, failed = original(step), list[int]()

    def failing(*arguments: Any, **options: Any) -> Any:
        if len(failed) < times:
            failed.append(1)
            raise BrokenError(name) if error is None else error
        return before(*arguments, **options)

    patch.setattr(owner, name, failing)
    return failed


def never_runs(patch: pytest.MonkeyPatch) -> None:
    """Workers that are made from now on have a thread that ends at once."""
    make = Worker.__init__

    def make_and_stop(worker: Worker, workers: Workers, number: int) -> None:
        make(worker, workers, number)
        worker.tell_to_stop()
        worker.thread.join(5)

    patch.setattr(Worker, "__init__", make_and_stop)


# --- fused chains --------------------------------------------------------------------------------------------------


def chain_of(runtime: RingKernelRuntime, kernel_id: str) -> list[str]:
    """The kernels that this one runs as one with, in order; none if it runs by itself."""
    engine: Any = runtime.kernels[kernel_id].engine
    chain = getattr(engine, "chain", None)
    return [stage.kernel_id for stage in chain.stages] if chain is not None and chain.is_fused else []


def chains_that_can_be_one(runtime: RingKernelRuntime) -> list[list[str]]:
    """Those that would be fused now if they were busy."""
    policy = pool_of(runtime).fusing
    fed = [kernel for one in policy._fed if (kernel := one()) is not None]
    return [[stage.kernel_id for stage in stages] for stages in policy._chains(fed)]


async def fuse(runtime: RingKernelRuntime, *kernel_ids: str) -> bool:
    """Let these kernels, a chain whose kernels run, run as one now, whatever goes through. Whether they do."""
    if chain_of(runtime, kernel_ids[0]) == list(kernel_ids):
        return True  # somebody was quicker
    engines: Any = [runtime.kernels[kernel_id].engine for kernel_id in kernel_ids]
    return await _fuse(engines)


async def _fuse(engines: list[Any]) -> bool:
    key = compiling.chain_of(one.declaration for one in engines)
    if fusing._spans.get(key) is None:
        await fusing._compile(key, "a test")
    pairs = itertools.pairwise(engines)
    if fusing._spans[key] is None or any(fusing.why_apart(*pair) is not None for pair in pairs):
        return False
    chain = engines[0].executor._pool.fusing.fuse(engines, fusing._spans[key])
    await asyncio.wait([chain._gathering])
    return bool(chain.is_fused)


def force_fusing(patch: pytest.MonkeyPatch, most: int) -> None:
    """Fuse whatever can be, up to so many kernels at a time, as soon as its last kernel runs, and whenever the monitor
    looks; also handlers that may take any time."""
    start = CompiledEngine.start

    async def start_and_fuse(engine: CompiledEngine) -> None:
        await start(engine)
        if not isinstance(engine.executor, WorkerExecutor) or engine.chain is not ALONE:
            return
        policy = engine.executor._pool.fusing
        fed = [kernel for one in policy._fed if (kernel := one()) is not None and not kernel.has_ended]
        for stages in policy._chains(fed):
            if engine in stages:
                await _fuse(stages)

    why_apart = fusing.why_apart

    def why_apart_or_unequal(source: CompiledEngine, target: CompiledEngine) -> Any:
        """The event loop runs what provably ends, and a chain whose first kernel does so must do so all the way."""
        ends = [kernel.executor.span.is_bounded for kernel in (source, target)]  # type: ignore[attr-defined]
        return fusing.Reason("unequal") if ends == [True, False] else why_apart(source, target)

    patch.setattr(CompiledEngine, "start", start_and_fuse)
    patch.setattr(fusing, "why_apart", why_apart_or_unequal)
    patch.setattr(WorkerExecutor, "is_bounded", True)
    patch.setattr(fusing, "MAX_STAGES", most)
    patch.setattr(fusing, "BUSY_MESSAGES", 0)
    patch.setattr(fusing, "BUSY_LOOKS", 1)
    patch.setattr(fusing, "BUSY_LOOKS_OF_MANY", 1)
    patch.setattr(fusing, "MAX_MESSAGE_NS", math.inf)
    patch.setattr(fusing, "FIRST_WAIT_S", 0.0)
    patch.setattr(fusing, "LONGEST_WAIT_S", 0.0)


def end_shared_session() -> None:
    """End the session that all calls of `rk.map` share, if there is one."""
    session._shared.close()


def idle_wakers() -> set[int]:
    """The descriptors of wakers that wait for their next user: those are never closed."""
    return {number for waker in wait_handle._free for number in (waker.read_fd, waker.write_fd)}
