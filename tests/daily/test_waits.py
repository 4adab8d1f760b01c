"""What a kernel waits for is named, connection by connection: who sends it nothing, and who makes no room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from daily_kernels import double, negate, plus, relay
from helpers import eventually
from kinds import usleep
from prometheus_client import CollectorRegistry

from ringkernel import RingKernelRuntime
from ringkernel.views.graph import svg_of
from ringkernel.views.table import text_of
from ringkernel.views.view import KernelView, QueueView, RuntimeView, WaitView

SIZE = 16


@pytest.fixture
async def unfused() -> AsyncIterator[RingKernelRuntime]:
    async with RingKernelRuntime(fuse=False) as runtime:
        yield runtime


async def connected(runtime: RingKernelRuntime, *edges: tuple[str, str], **handlers: Any) -> None:
    for kernel_id, handler in handlers.items():
        await runtime.launch(kernel_id, handler, queue_size=SIZE)
    for edge in edges:
        runtime.connect(*edge)


def starved(runtime: RingKernelRuntime, kernel_id: str) -> dict[str, float]:
    return dict(runtime.statistics(kernel_id).starved_by)


def blocked(runtime: RingKernelRuntime, kernel_id: str) -> dict[str, float]:
    return dict(runtime.statistics(kernel_id).blocked_by)


async def grows(read: Any) -> None:
    before = read()
    await eventually(lambda: read() > before + 0.001)


# --- input ---------------------------------------------------------------------------------------------------


async def test_an_idle_kernel_is_starved_by_the_host_and_the_next_one_by_it(unfused: RingKernelRuntime) -> None:
    await connected(unfused, ("a", "b"), a=double, b=plus)
    assert starved(unfused, "a") == {"host": 0}
    for kernel_id in "a", "b":
        await unfused.activate(kernel_id)
    await grows(lambda: starved(unfused, "a")["host"])
    await grows(lambda: starved(unfused, "b")["a"])
    assert starved(unfused, "b").keys() == {"a"}
    assert blocked(unfused, "a") == {"b": 0}
    assert blocked(unfused, "b") == {"host": 0}


async def test_all_that_feed_a_kernel_are_named(unfused: RingKernelRuntime) -> None:
    await connected(unfused, ("a", "c"), ("b", "c"), a=double, b=negate, c=plus)
    await unfused.activate("c")
    await grows(lambda: min(starved(unfused, "c").values()))
    assert starved(unfused, "c").keys() == {"a", "b"}
    await unfused.deactivate("c")
    before = starved(unfused, "c")
    await unfused.launch("late", double)
    unfused.connect("late", "c")
    assert starved(unfused, "c") == pytest.approx(before | {"late": 0}, rel=1e-3)
    await unfused.reactivate("c")
    await grows(lambda: starved(unfused, "c")["late"])
    assert starved(unfused, "c")["late"] < starved(unfused, "c")["a"]


@pytest.mark.parametrize("feeding", ["calls", "maps"])
async def test_the_time_between_messages_is_time_without_input(runtime: RingKernelRuntime, feeding: str) -> None:
    """Also of turns that the event loop takes itself, and of maps, whose arrays are in the place of the input."""
    await runtime.launch("k", double)
    await runtime.activate("k")
    for _ in range(20):
        before = starved(runtime, "k")["host"]
        await asyncio.sleep(0.005)
        await (runtime.call("k", 1.0) if feeding == "calls" else runtime.map("k", [1.0, 2.0]))
        assert starved(runtime, "k")["host"] > before + 0.004


async def test_a_message_in_a_handler_ends_the_wait_for_it(runtime: RingKernelRuntime) -> None:
    def sleeps(msg: float, out: float) -> None:
        for _ in range(100):  # a second
            usleep(10_000)
        out.value = 0  # type: ignore[attr-defined]

    await runtime.launch("k", sleeps)
    await runtime.activate("k")
    await grows(lambda: starved(runtime, "k")["host"])
    await runtime.send("k", 1.0)
    await eventually(lambda: runtime.statistics("k").in_flight == 1)
    before = starved(runtime, "k")
    await asyncio.sleep(0.02)
    assert starved(runtime, "k") == pytest.approx(before, rel=1e-3)
    await runtime.terminate("k", 0.1)


# --- room ----------------------------------------------------------------------------------------------------


async def test_of_two_consumers_the_slow_one_is_named(unfused: RingKernelRuntime) -> None:
    await connected(unfused, ("source", "quick"), ("source", "slow"), source=double, quick=plus, slow=negate)
    for kernel_id in "source", "quick":
        await unfused.activate(kernel_id)
    await unfused.send_batch("source", np.ones(SIZE))
    await unfused.send_batch("source", np.ones(SIZE // 2))
    await eventually(lambda: blocked(unfused, "source")["slow"] > 10 * blocked(unfused, "source")["quick"])
    counts = unfused.statistics("source")
    assert counts.blocked_s == pytest.approx(sum(dict(counts.blocked_by).values()), rel=1e-3)


async def test_the_reason_may_change_while_there_is_no_room(unfused: RingKernelRuntime) -> None:
    await connected(unfused, ("source", "a"), ("source", "b"), source=double, a=plus, b=negate)
    await unfused.activate("source")
    await unfused.send_batch("source", np.ones(SIZE))
    await unfused.send_batch("source", np.ones(SIZE // 2))
    await grows(lambda: blocked(unfused, "source")["a"])  # both are as slow: the first
    await unfused.activate("a")
    await grows(lambda: blocked(unfused, "source")["b"])
    before = blocked(unfused, "source")["a"]
    await grows(lambda: blocked(unfused, "source")["b"])
    assert blocked(unfused, "source")["a"] == pytest.approx(before, rel=1e-3)


async def test_a_consumer_does_not_inherit_the_wait_for_another_one(unfused: RingKernelRuntime) -> None:
    await connected(unfused, a=double, b=plus)
    await unfused.activate("a")
    for _ in range(2):
        await unfused.send_batch("a", np.ones(SIZE))
    await grows(lambda: blocked(unfused, "a")["host"])
    await unfused.deactivate("a")
    unfused.connect("a", "b")
    assert blocked(unfused, "a") == {"b": 0}
    assert unfused.statistics("a").blocked_s > 0


async def test_many_consumers_are_told_apart(unfused: RingKernelRuntime) -> None:
    """More than a ring's own tables hold."""
    names = [f"sink{i}" for i in range(20)]
    await connected(unfused, *(("source", name) for name in names), source=double, **dict.fromkeys(names, plus))
    for kernel_id in "source", *names[:-1]:
        await unfused.activate(kernel_id)
    for _ in range(2):
        await unfused.send_batch("source", np.ones(SIZE))
    await grows(lambda: blocked(unfused, "source")[names[-1]])
    assert list(blocked(unfused, "source")) == names


async def test_who_does_not_receive_is_named_and_a_pause_is_no_wait(runtime: RingKernelRuntime) -> None:
    await connected(runtime, k=double)
    await runtime.activate("k")
    await runtime.send_batch("k", np.ones(SIZE))
    await runtime.send_batch("k", np.ones(SIZE))
    await grows(lambda: blocked(runtime, "k")["host"])
    await runtime.deactivate("k")
    before = runtime.statistics("k")
    await asyncio.sleep(0.02)
    for name in "starved_by", "blocked_by":
        assert dict(getattr(runtime.statistics("k"), name)) == pytest.approx(dict(getattr(before, name)), rel=1e-3)
    await runtime.reactivate("k")
    await grows(lambda: blocked(runtime, "k")["host"])


@pytest.mark.parametrize("timeout", [5.0, 0.0], ids=["its drain has come to a stop", "at once"])
async def test_a_kernel_that_has_ended_waits_no_more(runtime: RingKernelRuntime, timeout: float) -> None:
    await connected(runtime, k=double)
    await runtime.activate("k")
    await runtime.send_batch("k", np.ones(SIZE))
    await runtime.send_batch("k", np.ones(SIZE))
    await grows(lambda: blocked(runtime, "k")["host"])
    await runtime.terminate("k", timeout)
    before = runtime.statistics("k").blocked_s
    await asyncio.sleep(0.02)
    assert before > 0.001
    assert runtime.statistics("k").blocked_s == pytest.approx(before, rel=1e-3)


async def test_a_coroutine_kernel_measures_nothing(runtime: RingKernelRuntime) -> None:
    await runtime.launch(relay)
    assert runtime.statistics(relay).starved_by == runtime.statistics(relay).blocked_by == ()


# --- drawings ------------------------------------------------------------------------------------------------


def kernel(kernel_id: str, *targets: str, **changed: Any) -> KernelView:
    idle = KernelView(
        *(kernel_id, "ACTIVE", "cpu", 10, 0, 0, QueueView(0, 64), None, 1.0, 1.0, 1.0, 1.0, 0.1, 0.0),
        *((), (), targets, None),
    )
    return replace(idle, **changed)


SOURCE = kernel(
    "source", "quick", "slow", blocked=0.8, blocked_by=(WaitView("quick", 0, 0.0), WaitView("slow", 9, 0.8))
)
QUICK = kernel("quick", busy=0.2, starved_by=(WaitView("source", 7, 0.7),))
VIEW = RuntimeView((SOURCE, QUICK, kernel("slow", busy=0.1)))


def test_only_the_slow_one_of_two_consumers_holds_the_others_up() -> None:
    assert VIEW.bottleneck == "slow"
    assert RuntimeView((replace(SOURCE, blocked_by=()), *VIEW.kernels[1:])).bottleneck == "quick", "if nobody measures"


def test_time_in_which_a_worker_was_busy_with_others_is_no_time_without_input() -> None:
    assert QUICK.starved == 0.7
    assert replace(QUICK, starved_by=()).starved == 0.8


def test_the_table_says_what_each_kernel_waits_for() -> None:
    rows = {line.split()[0]: line.split()[-1] for line in text_of(VIEW).splitlines() if line.strip()}
    assert (rows["source"], rows["quick"]) == ("slow", "source")
    assert "slow holds the others up" in text_of(VIEW)
    assert "waits for" not in text_of(RuntimeView((kernel("alone"),)))


def test_the_graph_marks_the_connection_that_waits_for_room() -> None:
    svg = svg_of(VIEW)
    assert svg.count('stroke-width="3"') == 1
    assert "source waits for room 80% of the time" in svg
    assert "quick waits for messages 70% of the time" in svg


async def test_the_shares_of_a_view_go_through_json(unfused: RingKernelRuntime) -> None:
    await connected(unfused, ("a", "b"), a=double, b=plus)
    for kernel_id in "a", "b":
        await unfused.activate(kernel_id)
    assert [wait.share for one in unfused.view().kernels for wait in one.starved_by] == [None, None]
    await asyncio.sleep(0.2)
    view = unfused.view()
    (wait,) = view.kernels[1].starved_by
    assert wait.kernel_id == "a"
    assert wait.share is not None
    assert 0.5 < wait.share <= 1
    assert RuntimeView.from_json(view.as_json()) == view


async def test_prometheus_has_them_for_each_connection(unfused: RingKernelRuntime) -> None:
    await connected(unfused, ("a", "b"), a=double, b=plus)
    await unfused.activate("b")
    await grows(lambda: starved(unfused, "b")["a"])
    registry = CollectorRegistry()
    registry.register(unfused.collector())
    labels = {"kernel": "b", "device": "cpu", "source": "a"}
    assert (registry.get_sample_value("ringkernel_starved_seconds_total", labels) or 0) > 0.001
    labels = {"kernel": "a", "device": "cpu", "target": "b"}
    assert registry.get_sample_value("ringkernel_blocked_seconds_total", labels) == 0
