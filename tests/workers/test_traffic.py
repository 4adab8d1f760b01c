"""What goes through each kernel is measured over periods, and a kernel stays where it was put."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import eventually, receive_all, start, start_chain, within
from inside import measure_by_hand, move_to_new_worker, read_traffic, traffic_of, worker_of
from kinds import same, usleep

from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.devices.compiled.traffic import TURN_NS, Traffic

pytestmark = pytest.mark.workers


async def pass_through(runtime: RingKernelRuntime, kernel_id: str, count: int) -> None:
    before = runtime.statistics(kernel_id).processed
    await runtime.send_batch(kernel_id, range(count))
    await receive_all(runtime, kernel_id, count)
    await eventually(lambda: runtime.statistics(kernel_id).processed == before + count)


async def test_a_record_is_of_the_last_period_with_turns(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_by_hand(monkeypatch)
    for name in ("k", "idle"):
        await start(runtime, name, same.handler)
    assert read_traffic(runtime) == []
    await pass_through(runtime, "k", 1_000)
    assert read_traffic(runtime) == [traffic_of(runtime, "k")]
    record = traffic_of(runtime, "k")
    assert record.messages == 1_000
    assert 1 <= record.turns <= 1_000
    assert 0 < record.busy_s <= record.period_s
    assert 0 < record.share <= 1
    assert record.rate == pytest.approx(1_000 / record.period_s)
    assert record.waiting == 0
    await pass_through(runtime, "k", 10)
    read_traffic(runtime)
    assert record.messages == 10
    assert read_traffic(runtime) == []
    assert record.messages == 10


async def test_what_is_done_before_a_pause_counts_in_the_period_after_it(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_by_hand(monkeypatch)
    await start(runtime, "k", same.handler)
    await pass_through(runtime, "k", 100)
    await runtime.deactivate("k")
    assert read_traffic(runtime) == []
    await start(runtime, "other", same.handler)
    await runtime.reactivate("k")
    await pass_through(runtime, "k", 20)
    assert read_traffic(runtime) == [traffic_of(runtime, "k")]
    assert traffic_of(runtime, "k").messages == 120
    await runtime.terminate("other")
    await start(runtime, "third", same.handler)
    await pass_through(runtime, "third", 7)
    read_traffic(runtime)
    assert traffic_of(runtime, "third").messages == 7


async def test_many_kernels_are_measured(runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    measure_by_hand(monkeypatch)
    names = [f"k{i}" for i in range(40)]
    for name in names:
        await start(runtime, name, same.handler, queue_size=8)
    for i, name in enumerate(names[::2]):
        await pass_through(runtime, name, i % 8 + 1)
    assert len(read_traffic(runtime)) == 20
    assert [traffic_of(runtime, name).messages for name in names[::2]] == [i % 8 + 1 for i in range(20)]


def test_means_follow_and_peaks_fade() -> None:
    record = Traffic()
    assert (record.share, record.rate, record.message_s) == (0.0, 0.0, 0.0)
    record.note(0.1, 0.05, 1_000, 100, waiting=64)
    assert record.share == pytest.approx((0.05 + 1_000 * TURN_NS / 1e9) / 0.1)
    assert record.message_s == pytest.approx(500e-6)
    record.note(0.1, 0.01, 1, 100, waiting=0)
    assert record.message_s == pytest.approx(300e-6)
    assert record.peak_waiting == 32
    record.note(0.1, 0.01, 1, 0, waiting=0)
    assert record.message_s == pytest.approx(300e-6)
    record.note(0.1, 5.0, 1, 1, waiting=0)  # one turn that lasted for many periods
    assert record.share == 1.0


async def test_a_kernel_stays_where_it_was_put() -> None:
    async with RingKernelRuntime(workers=2) as runtime:
        await start_chain(runtime, a=same.handler, b=same.handler)
        assert worker_of(runtime, "a") is worker_of(runtime, "b")
        await eventually(lambda: move_to_new_worker(runtime, "b"))
        places = worker_of(runtime, "a"), worker_of(runtime, "b")
        assert places[0] is not places[1]
        assert (await within(runtime.map(("a", "b"), range(100)))).tolist() == list(range(100))
        assert (worker_of(runtime, "a"), worker_of(runtime, "b")) == places
        await runtime.deactivate("b")
        await runtime.reactivate("b")
        assert worker_of(runtime, "b") is places[1]


@ring_kernel("tr_moody", input_type=int, output_type=int)
def moody(msg: Any, out: Any) -> None:
    usleep(msg.value)
    out.value = msg.value


async def test_a_kernel_that_is_quick_again_gives_up_the_worker_that_it_had_to_itself() -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, "other", moody)
        await start(runtime, "moody", moody)
        before = worker_of(runtime, "other")
        while worker_of(runtime, "other") is before:
            await runtime.send("moody", 60_000)
            await pass_through(runtime, "other", 1)
            assert await within(runtime.receive("moody")) == 60_000
        assert worker_of(runtime, "moody") is before

        async def is_back() -> bool:
            await pass_through(runtime, "moody", 100)
            return worker_of(runtime, "moody") is worker_of(runtime, "other")

        await eventually(is_back, timeout=20.0)
        await eventually(lambda: not before.thread.is_alive())
        await pass_through(runtime, "moody", 1)
        await pass_through(runtime, "other", 1)
