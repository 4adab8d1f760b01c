"""A consumer in the event loop spins before it sleeps only where that pays, and keeps the loop from nobody."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from helpers import eventually, within
from inside import parker_of

from ringkernel import QueueEmptyError, RingKernelRuntime, ring_kernel
from ringkernel.devices.event_loop import spinning
from ringkernel.devices.event_loop.spinning import MAX_SKIPS, PAID, PAYS_BELOW_NS, SHORT_SPIN_NS, SPIN_NS, Spin, Spinner
from ringkernel.memory.layout import PARKER

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.loop_parker import LoopParker


@ring_kernel("wt_echo", input_type=int, output_type=int)
def echo(msg: Any, out: Any) -> None:
    """With a `while`, so the event loop never runs this itself: there would be nobody to spin for."""
    left = 1
    while left > 0:
        left -= 1
    out.value = msg.value


@ring_kernel("wt_forget", input_type=int)
async def forget(ctx: Any) -> None:
    async for _ in ctx:
        pass


class World:
    """An event loop of which a test sets the clock, and whether it was woken on its waker's core."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.moves = False
        clock = SimpleNamespace(ticks_of=lambda ns: ns)
        self.parker = SimpleNamespace(is_crowded=False, clock=clock, worker_moves=self.worker_moves)
        self.spinner = Spinner()
        monkeypatch.setattr(spinning, "monotonic_ns", lambda: self.now_ns)

    def worker_moves(self) -> bool:
        moves, self.moves = self.moves, False
        return moves

    def spin(self) -> Spin:
        return Spin(self.spinner, cast("LoopParker", self.parker))

    def edge(self) -> Any:
        return SimpleNamespace(head=0, patience=0)

    def nap(self, spin: Spin, edge: Any, slept_ns: int = 1_000) -> None:
        spin.sleep()
        self.now_ns += slept_ns
        spin.wake(edge)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize(
    ("slept_ns", "crowded", "moves", "patience"),
    [
        (PAYS_BELOW_NS - 1, False, False, SPIN_NS),
        (PAYS_BELOW_NS, False, False, 0),
        (PAYS_BELOW_NS - 1, True, False, 0),
        (100 * PAYS_BELOW_NS, True, True, SPIN_NS),
        (100 * PAYS_BELOW_NS, False, True, SPIN_NS),
    ],
)
def test_who_was_woken_soon_or_by_a_worker_that_moves_spins(
    world: World, slept_ns: Any, crowded: Any, moves: Any, patience: Any
) -> None:
    edge = world.edge()
    world.parker.is_crowded, world.moves = crowded, moves
    world.nap(world.spin(), edge, slept_ns)
    assert edge.patience == patience


def test_who_has_nothing_to_spin_on_leaves_the_reason_to_others(world: World) -> None:
    one, edge = world.spin(), world.edge()
    world.moves = True
    world.nap(one, None)
    assert world.moves
    world.nap(world.spin(), edge, 100 * PAYS_BELOW_NS)
    assert edge.patience == SPIN_NS


def test_only_the_last_that_went_to_sleep_spins_for_long(world: World) -> None:
    one, other = world.spin(), world.spin()
    edge, other_edge = world.edge(), world.edge()
    world.nap(one, edge)
    assert edge.patience == SPIN_NS
    other.sleep()
    assert edge.patience == SHORT_SPIN_NS
    edge.head += PAID
    one.sleep()
    other.wake(other_edge)
    assert other_edge.patience == SHORT_SPIN_NS
    one.wake(edge)
    assert edge.patience == SPIN_NS


def test_a_producer_that_sleeps_wants_the_loop_too(world: World) -> None:
    edge = world.edge()
    world.nap(world.spin(), edge)
    world.spinner.give(None)
    assert edge.patience == SHORT_SPIN_NS


def test_who_is_no_more_is_forgotten(world: World) -> None:
    gone, other = (
        world.spin(),
        world.spin(),
    )
    edge = world.edge()
    world.nap(gone, edge)
    world.spinner.forget(other)
    assert world.spinner.belongs_to(gone)
    world.spinner.forget(gone)
    other.sleep()
    assert edge.patience == SPIN_NS  # nobody shortens a spin that is forgotten


def test_after_a_spin_in_vain_more_and_more_are_skipped(world: World) -> None:
    spin, edge = world.spin(), world.edge()
    spun = []
    for _ in range(2_000):
        world.nap(spin, edge)
        spun.append(edge.patience > 0)
    gaps = [len(gap) for gap in "".join("x" if w else "." for w in spun).split("x")[1:-1]]
    assert gaps[:7] == [1, 3, 7, 15, 31, 63, MAX_SKIPS]
    assert max(gaps) == MAX_SKIPS


def test_a_worker_that_moves_is_awaited_whatever_was_in_vain(world: World) -> None:
    spin, edge = world.spin(), world.edge()
    for _ in range(6):
        world.nap(spin, edge)
    assert not edge.patience
    world.moves = True
    world.nap(spin, edge)
    assert edge.patience == SPIN_NS


def test_a_spin_that_pays_ends_the_skipping(world: World) -> None:
    spin, edge = world.spin(), world.edge()
    for _ in range(5):
        world.nap(spin, edge)  # in vain, 1 skipped, in vain, 2 of 3 skipped
    while not edge.patience:
        world.nap(spin, edge)
    edge.head += PAID
    world.nap(spin, edge)
    assert edge.patience
    edge.head += PAID - 1
    world.nap(spin, edge)
    assert not edge.patience


def test_who_sleeps_does_not_spin(world: World) -> None:
    spin, edge = world.spin(), world.edge()
    world.nap(spin, edge)
    spin.sleep()
    assert edge.patience == 0
    world.spinner.give(world.spin())
    assert edge.patience == 0


def test_who_leaves_an_edge_spins_on_it_no_more(world: World) -> None:
    spin, edge = world.spin(), world.edge()
    world.nap(spin, edge)
    spin.leave(world.edge())
    assert edge.patience == SPIN_NS
    spin.leave(edge)
    assert edge.patience == 0
    spin.shorten()
    world.spinner.give(None)
    assert edge.patience == 0  # it is somebody else's


async def spun_on_edge(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    """The edge of a kernel's output, on which the host spins since it was woken."""
    engine: Any = runtime.kernels[kernel_id].engine
    edge = engine.inlet.edges[0]
    receiving = asyncio.create_task(runtime.receive(kernel_id))
    await eventually(lambda: engine.inlet.line.asks)
    engine._parker.api.write_word(engine._parker.address + PARKER.worker_moves, 1)  # reason enough
    await runtime.send(kernel_id, 1)
    assert await within(receiving) == 1
    assert edge.patience
    return edge


async def test_who_does_not_wait_does_not_spin() -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", echo)
        await runtime.activate("k")
        edge = await spun_on_edge(runtime, "k")
        edge.patience = parker_of(runtime).clock.ticks_of(10_000_000_000)
        before = monotonic()
        with pytest.raises(QueueEmptyError):
            runtime.receive_nowait("k")
        assert monotonic() - before < 5


async def test_a_kernel_that_is_connected_does_not_take_over_the_hosts_spin() -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", echo)
        await runtime.activate("k")
        edge = await spun_on_edge(runtime, "k")
        await runtime.deactivate("k")
        await runtime.launch("target", forget)
        runtime.connect("k", "target")
        assert edge.patience == 0
