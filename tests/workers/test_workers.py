"""An idle worker polls for a while and then parks; on a CPU that others want it is in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import eventually, within
from inside import parker_of, set_patience, workers_of

from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.codegen.operations import this_cpu, ticks, waits_for_cpu
from ringkernel.codegen.targets import cpu, cpu_threads
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.devices.compiled.worker_loop import (
    LONG_AGO,
    LOOKED,
    MAX_STAYS,
    SCRATCH_BYTES,
    SHORT_SLEEP,
    adapt,
    make_way,
)
from ringkernel.memory.layout import PARKER, PARKER_DTYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.platform != "linux":
    pytest.skip("threads are put on CPUs as Linux does it", allow_module_level=True)

PATIENCE_NS = 20_000_000_000


@ring_kernel("wk_echo", input_type=int, output_type=int)
def echo(msg: Any, out: Any) -> None:
    """With a `while`, so the event loop never runs this itself."""
    left = 1
    while left > 0:
        left -= 1
    out.value = msg.value


@pytest.fixture
def cpus() -> Iterator[list[int]]:
    allowed = os.sched_getaffinity(0)
    yield sorted(allowed)
    os.sched_setaffinity(0, allowed)


def set_word(worker: Any, word: int, value: int) -> None:
    worker._api.write_word(worker.address + word, value)


def word_of(worker: Any, word: int) -> int:
    return int(worker._api.read_word(worker.address + word))


async def patient_worker(runtime: RingKernelRuntime, *, talking: bool) -> Any:
    """The runtime's one worker, made to poll for 20 s before it parks; `talking`: its shortest patience stays less, so
    that loop and worker count as talking."""
    (worker,) = workers_of(runtime)
    await eventually(lambda: worker.parked)
    ticks = parker_of(runtime).clock.ticks_of(PATIENCE_NS)
    set_word(worker, PARKER.max_patience, ticks)
    set_word(worker, PARKER.patience, ticks)
    if not talking:
        set_word(worker, PARKER.min_patience, ticks)
    return worker


async def talk_until(runtime: RingKernelRuntime, has_happened: Callable[[], bool]) -> None:
    for number in range(2_000):
        await runtime.send("k", number)
        assert await within(runtime.receive("k")) == number
        if has_happened():
            return
    raise AssertionError("it has not happened")


@pytest.mark.parametrize("talking", [False, True], ids=["in the way", "nowhere to go"])
async def test_a_worker_that_is_in_the_loops_way_parks(
    monkeypatch: pytest.MonkeyPatch, cpus: list[int], talking: Any
) -> None:
    set_patience(monkeypatch, 1)  # so that it is parked before the test begins
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", echo)
        await runtime.activate("k")
        worker = await patient_worker(runtime, talking=talking)
        os.sched_setaffinity(0, cpus[:1])
        os.sched_setaffinity(worker.thread.native_id, cpus[:1])
        parks = word_of(worker, PARKER.parks)
        await talk_until(runtime, lambda: word_of(worker, PARKER.parks) > parks)


# --- who waits for a CPU ------------------------------------------------------------------------------------------


def _waits(stat: int, cpu: int, scratch: int) -> int:
    return waits_for_cpu(stat, cpu, scratch)


@pytest.fixture(scope="module")
def waits() -> Callable[[int, int], int]:
    entry = compile_entry(_waits)
    scratch = np.zeros(64, np.int64)
    return lambda stat, cpu: entry(stat, cpu, int(scratch.ctypes.data))


def stat_line(name: str, state: str, cpu: int) -> bytes:
    """As proc_pid_stat(5) has it: the CPU is the 39th of 52 fields."""
    return (
        f"4711 ({name}) {state} {' '.join(map(str, range(4, 39)))} {cpu} {' '.join(map(str, range(40, 53)))}\n".encode()
    )


@pytest.mark.parametrize("name", ["python3", "a b", "", "R 1 2 3", ")", "x) R 1", "(((", "é"])
@pytest.mark.parametrize(
    ("state", "cpu", "asked", "expected"),
    [
        ("R", 3, 3, 1),
        ("R", 3, 0, 0),
        ("R", 13, 3, 0),
        ("R", 128, 128, 1),
        ("S", 3, 3, 0),
        ("D", 3, 3, 0),
        ("R", 0, 0, 1),
    ],
)
def test_a_threads_stat_is_read(
    tmp_path: Path, waits: Any, name: str, state: Any, cpu: Any, asked: Any, expected: Any
) -> None:
    (tmp_path / "stat").write_bytes(stat_line(name, state, cpu))
    with (tmp_path / "stat").open("rb") as file:
        assert waits(file.fileno(), asked) == expected


@pytest.mark.parametrize("text", [b"", b")", b"4711 (a) R", b"4711 (a) R 1 2 3", b"4711 (a", b"\0" * 512, b")" * 600])
def test_a_broken_stat_says_nothing(tmp_path: Path, waits: Any, text: Any) -> None:
    (tmp_path / "stat").write_bytes(text)
    with (tmp_path / "stat").open("rb") as file:
        assert [waits(file.fileno(), cpu) for cpu in range(4)] == [0] * 4


def test_no_stat_says_nothing(waits: Any) -> None:
    assert waits(-1, 0) == 0


def test_the_systems_own_stat_tells_who_waits(cpus: list[int], waits: Any) -> None:
    """Another process that could always run waits for this CPU while this thread is on it to ask."""
    os.sched_setaffinity(0, cpus[:1])
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as busy:
        try:
            assert busy.stdout is not None
            busy.stdout.readline()
            with Path(f"/proc/{busy.pid}/task/{busy.pid}/stat").open("rb") as stat:
                assert waits(stat.fileno(), cpus[0]) == 1
                assert waits(stat.fileno(), cpus[0] + 1) == 0
        finally:
            busy.kill()


# --- one look, by this thread in the place of the worker -------------------------------------------------------------

MIN_TICKS = 10_000_000  # some milliseconds
SHORTEST_STAY = SHORT_SLEEP * MIN_TICKS


def _look(parker: int, scratch: int) -> int:
    make_way(parker, scratch)
    return 0


def _adapt(parker: int, slept: int) -> int:
    adapt(parker, slept)
    return 0


class Idle:
    """An idle worker's record and its loop's, whose thread is said to wait for one CPU."""

    def __init__(self, directory: Path, cpu: int) -> None:
        (directory / "stat").write_bytes(stat_line("python3", "R", cpu))
        self._stat = os.open(directory / "stat", os.O_RDONLY)
        self._records = np.zeros(2, PARKER_DTYPE)
        self._scratch = np.zeros(SCRATCH_BYTES // 8, np.int64)
        self._entry = compile_entry(_look)
        self._ticks = compile_entry(lambda _: ticks())
        self.worker, self.loop = self._records
        self.worker["loop_address"] = self._records.ctypes.data + PARKER_DTYPE.itemsize
        self.worker["min_patience"] = MIN_TICKS
        self.worker["patience"] = 2 * MIN_TICKS  # they have been talking
        self.loop["stat_fd"] = self._stat

    def now(self) -> int:
        return int(self._ticks(0))

    def look(self, since: int = LONG_AGO) -> None:
        self.worker["idle_since"] = since
        self._entry(int(self._records.ctypes.data), int(self._scratch.ctypes.data))

    def adapt(self, slept: int) -> None:
        compile_entry(_adapt)(int(self._records.ctypes.data), slept)

    def look_on(self, cpu: int, allowed: list[int]) -> None:
        """Look while on a CPU that may be left for the others."""
        for cpus in ([cpu], allowed):
            os.sched_setaffinity(0, cpus)
        self.look()

    def close(self) -> None:
        os.close(self._stat)


@pytest.fixture
def idle(tmp_path: Path, cpus: list[int]) -> Iterator[Idle]:
    worker = Idle(tmp_path, cpus[0])
    yield worker
    worker.close()


def test_who_has_been_talking_moves(idle: Idle, cpus: list[int]) -> None:
    if len(cpus) == 1:
        pytest.skip("there is no other CPU to go to")
    for _ in range(1_000):  # the system may have moved this thread just before the look
        idle.look_on(cpus[0], cpus)
        if idle.worker["left_at"]:
            break
    assert idle.worker["left_at"]
    assert idle.worker["stay"] == SHORTEST_STAY
    assert idle.loop["worker_moves"]
    assert not idle.worker["crowded"]
    assert os.sched_getaffinity(0) == set(cpus)


def test_who_has_not_been_talking_parks(idle: Idle, cpus: list[int]) -> None:
    os.sched_setaffinity(0, cpus[:1])
    idle.worker["patience"] = MIN_TICKS
    idle.loop["waker_cpu"] = cpus[0]
    idle.look()
    assert not idle.worker["crowded"]  # the loop has taken note already
    idle.loop["inbox_address"] = 1
    idle.loop["waker_cpu"] = cpus[0] + 1
    idle.look()
    assert not idle.worker["crowded"]  # it was woken from elsewhere
    idle.loop["waker_cpu"] = cpus[0]
    idle.look()
    assert idle.worker["crowded"]
    assert not idle.worker["left_at"]
    assert not idle.loop["worker_moves"]


def test_who_has_nowhere_to_go_parks_and_does_not_try_again_soon(idle: Idle, cpus: list[int]) -> None:
    os.sched_setaffinity(0, cpus[:1])
    idle.look()
    assert idle.worker["crowded"]
    assert not idle.loop["worker_moves"]
    assert idle.worker["stay"] == MAX_STAYS * SHORTEST_STAY


def test_who_has_just_moved_parks(idle: Idle, cpus: list[int]) -> None:
    os.sched_setaffinity(0, cpus[:1])
    idle.worker["stay"] = SHORTEST_STAY << 20
    idle.worker["left_at"] = before = idle.now()
    idle.look()
    assert not idle.worker["crowded"]
    idle.loop["inbox_address"], idle.loop["waker_cpu"] = 1, cpus[0]
    idle.look()
    assert idle.worker["crowded"]
    assert idle.worker["left_at"] == before
    assert not idle.loop["worker_moves"]


@pytest.mark.parametrize(
    ("stay", "stayed", "expected"), [(4, 10, 8), (4, 100, 1), (MAX_STAYS, 2 * MAX_STAYS, MAX_STAYS), (0, 5, 1)]
)
def test_a_stay_is_the_longer_the_shorter_those_before_were(
    idle: Idle, cpus: list[int], stay: Any, stayed: Any, expected: Any
) -> None:
    if len(cpus) == 1:
        pytest.skip("there is no other CPU to go to")
    idle.worker["stay"] = stay * SHORTEST_STAY
    for _ in range(1_000):
        idle.worker["left_at"] = before = idle.now() - stayed * SHORTEST_STAY
        idle.look_on(cpus[0], cpus)
        if idle.worker["left_at"] != before:
            break
    assert idle.worker["left_at"] > before
    assert idle.worker["stay"] == expected * SHORTEST_STAY


@pytest.mark.parametrize(
    ("slept", "beside", "has_stayed", "crowded"),
    [
        (1, True, True, 0),
        (1, True, False, 1),
        (1, False, False, 0),
        (SHORT_SLEEP, True, True, 1),
        (100, False, True, 0),
    ],
)
def test_a_worker_woken_on_its_wakers_cpu_polls_only_if_it_can_leave(
    idle: Idle, cpus: list[int], slept: Any, beside: Any, has_stayed: Any, crowded: Any
) -> None:
    os.sched_setaffinity(0, cpus[:1])
    idle.worker["waker_cpu"] = cpus[0] if beside else cpus[0] + 1
    idle.worker["max_patience"] = 100 * MIN_TICKS
    idle.worker["stay"] = 0 if has_stayed else 1 << 60
    idle.adapt(slept * MIN_TICKS)
    assert idle.worker["crowded"] == crowded
    assert idle.worker["patience"] == (4 * MIN_TICKS if slept < SHORT_SLEEP else MIN_TICKS)


def test_where_nobody_knows_on_which_cpu_a_thread_is_everybody_polls(
    idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = cpu.operations()
    monkeypatch.setattr(cpu, "operations", lambda: {**known, this_cpu: cpu_threads.no_cpu})
    idle.worker["waker_cpu"] = idle.loop["waker_cpu"] = -1
    idle.adapt(99 * MIN_TICKS)
    assert not idle.worker["crowded"]
    idle.loop["inbox_address"] = 1
    idle.worker["patience"] = MIN_TICKS
    idle._entry = compile_entry(_look)
    idle.look()
    assert not idle.worker["crowded"]


def test_who_waits_for_another_cpu_is_not_in_the_way(idle: Idle, cpus: list[int]) -> None:
    if len(cpus) == 1:
        pytest.skip("there is no other CPU")
    os.sched_setaffinity(0, cpus[1:])
    idle.look()
    assert not idle.worker["crowded"]
    assert idle.worker["idle_since"] == LOOKED


def test_one_look_and_not_at_once(idle: Idle, cpus: list[int]) -> None:
    os.sched_setaffinity(0, cpus[:1])
    idle.worker["min_patience"] = 1 << 62
    idle.look(since=0)
    assert 0 < idle.worker["idle_since"] <= idle.now()  # from now on
    idle.look(since=idle.now())
    assert not idle.worker["crowded"]
    idle.worker["min_patience"] = MIN_TICKS
    idle.look(since=LOOKED)
    assert not idle.worker["crowded"]
