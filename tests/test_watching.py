"""How long a consumer in the event loop watches before it sleeps."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import eventually, within

from ringkernel import QueueEmptyError, RingKernelRuntime, ring_kernel
from ringkernel.devices import spinning as watching
from ringkernel.devices.spinning import GLANCE_NS, MAX_DOUBTS, PAID, PAYS_BELOW_NS, WATCH_NS, Spinner, Watch
from ringkernel.memory.layout import PARKER


@ring_kernel("wt_echo", input_type=int, output_type=int)
def echo(msg, out):
    out.value = msg.value


@ring_kernel("wt_forget", input_type=int)
async def forget(ctx):
    async for _ in ctx:
        pass


class World:
    """An event loop of which a test says how late it is, and whether it was woken on its waker's core."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 0
        self.moves = False
        clock = SimpleNamespace(ticks_of=lambda ns: ns)
        self.parker = SimpleNamespace(is_crowded=False, clock=clock, worker_moves=self.worker_moves)
        self.host: Any = SimpleNamespace(attention=Spinner(), parker=self.parker)
        monkeypatch.setattr(watching, "monotonic_ns", lambda: self.now_ns)

    def worker_moves(self) -> bool:
        moves, self.moves = self.moves, False
        return moves

    def edge(self) -> Any:
        return SimpleNamespace(head=0, patience=0)

    def nap(self, watch: Watch, edge: Any, slept_ns: int = 1_000) -> None:
        watch.sleep()
        self.now_ns += slept_ns
        watch.wake(edge)


@pytest.fixture
def world(monkeypatch) -> World:
    return World(monkeypatch)


@pytest.mark.parametrize(
    ("slept_ns", "crowded", "moves", "patience"),
    [
        (PAYS_BELOW_NS - 1, False, False, WATCH_NS),
        (PAYS_BELOW_NS, False, False, 0),
        (PAYS_BELOW_NS - 1, True, False, 0),
        (100 * PAYS_BELOW_NS, True, True, WATCH_NS),
        (100 * PAYS_BELOW_NS, False, True, WATCH_NS),
    ],
)
def test_who_was_woken_soon_or_by_a_worker_that_moves_watches(world, slept_ns, crowded, moves, patience):
    edge = world.edge()
    world.parker.is_crowded, world.moves = crowded, moves
    world.nap(Watch(world.host), edge, slept_ns)
    assert edge.patience == patience


def test_nothing_to_watch(world):
    watch = Watch(world.host)
    world.nap(watch, None)
    watch.sleep()


def test_only_the_last_that_went_to_sleep_watches_for_long(world):
    one, other = Watch(world.host), Watch(world.host)
    edge, other_edge = world.edge(), world.edge()
    world.nap(one, edge)
    assert edge.patience == WATCH_NS
    other.sleep()
    assert edge.patience == GLANCE_NS
    edge.head += PAID
    one.sleep()
    other.wake(other_edge)
    assert other_edge.patience == GLANCE_NS
    one.wake(edge)
    assert edge.patience == WATCH_NS


def test_a_producer_that_sleeps_wants_the_loop_too(world):
    edge = world.edge()
    world.nap(Watch(world.host), edge)
    world.host.attention.give(None)
    assert edge.patience == GLANCE_NS


def test_who_is_no_more_is_forgotten(world):
    gone, other = Watch(world.host), Watch(world.host)
    edge = world.edge()
    world.nap(gone, edge)
    world.host.attention.forget(other)
    assert world.host.attention.belongs_to(gone)
    world.host.attention.forget(gone)
    other.sleep()
    assert edge.patience == WATCH_NS  # nobody shortens what nobody watches


def test_a_watch_in_vain_is_left_out_more_and_more_often(world):
    watch, edge = Watch(world.host), world.edge()
    watched = []
    for _ in range(2_000):
        world.nap(watch, edge)
        watched.append(edge.patience > 0)
    gaps = [len(gap) for gap in "".join("x" if w else "." for w in watched).split("x")[1:-1]]
    assert gaps[:7] == [1, 3, 7, 15, 31, 63, MAX_DOUBTS]
    assert max(gaps) == MAX_DOUBTS


def test_a_worker_that_moves_is_awaited_whatever_the_doubts(world):
    watch, edge = Watch(world.host), world.edge()
    for _ in range(6):
        world.nap(watch, edge)
    assert not edge.patience
    world.moves = True
    world.nap(watch, edge)
    assert edge.patience == WATCH_NS


def test_a_watch_that_pays_ends_all_doubts(world):
    watch, edge = Watch(world.host), world.edge()
    for _ in range(5):
        world.nap(watch, edge)  # in vain, 1 left out, in vain, 2 of 3 left out
    while not edge.patience:
        world.nap(watch, edge)
    edge.head += PAID
    world.nap(watch, edge)
    assert edge.patience
    edge.head += PAID - 1
    world.nap(watch, edge)
    assert not edge.patience


def test_who_sleeps_does_not_watch(world):
    watch, edge = Watch(world.host), world.edge()
    world.nap(watch, edge)
    watch.sleep()
    assert edge.patience == 0
    world.host.attention.give(Watch(world.host))
    assert edge.patience == 0


def test_who_leaves_an_edge_watches_it_no_more(world):
    watch, edge = Watch(world.host), world.edge()
    world.nap(watch, edge)
    watch.leave(world.edge())
    assert edge.patience == WATCH_NS
    watch.leave(edge)
    assert edge.patience == 0
    watch.shorten()
    world.host.attention.give(None)
    assert edge.patience == 0  # it is somebody else's


async def watched_edge(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    """The edge of a kernel's output, which the host watches since it was woken."""
    engine: Any = runtime.kernels[kernel_id].engine
    edge = engine.inlet.edges[0]
    receiving = asyncio.create_task(runtime.receive(kernel_id))
    await eventually(lambda: engine.inlet.line.asks)
    engine._api.write_word(engine._parker.address + PARKER.worker_moves, 1)  # reason enough
    await runtime.send(kernel_id, 1)
    assert await within(receiving) == 1
    assert edge.patience
    return edge


async def test_who_does_not_wait_does_not_watch():
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", echo)
        await runtime.activate("k")
        edge = await watched_edge(runtime, "k")
        edge.patience = runtime.kernels["k"].engine._parker.clock.ticks_of(10_000_000_000)
        before = monotonic()
        with pytest.raises(QueueEmptyError):
            runtime.receive_nowait("k")
        assert monotonic() - before < 5


async def test_a_kernel_that_is_connected_does_not_take_over_the_hosts_watch():
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", echo)
        await runtime.activate("k")
        edge = await watched_edge(runtime, "k")
        await runtime.deactivate("k")
        await runtime.launch("target", forget)
        runtime.connect("k", "target")
        assert edge.patience == 0
