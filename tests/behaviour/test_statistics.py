"""The ledger balances at every stop: each message is processed, failed, in flight, or handed back."""

from __future__ import annotations

from helpers import check_books, drain, eventually, start, within
from kinds import Kind, drops_thirds, gated, same

from ringkernel import KernelState, RingKernelRuntime


async def test_the_books_are_exact_at_every_stop(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(drops_thirds), queue_size=256)
    await runtime.send_batch("k", range(90))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed, counts.state) == (90, 0, 90, KernelState.LAUNCHED)
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").processed == 90)
    await runtime.deactivate("k")
    await runtime.send_batch("k", range(10))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (100, 90, 10)
    assert (counts.emitted, counts.received, counts.output_depth) == (60, 0, 60)
    assert (counts.failed, counts.in_flight) == (0, 0)
    assert counts.peak_input_depth == 90
    assert counts.peak_output_depth == 60
    assert counts.device == runtime.kernels["k"].device
    assert len(await within(runtime.receive_batch("k", 20))) == 20
    assert check_books(runtime, "k").received == 20
    await runtime.terminate("k")
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (100, 90, 10)
    assert list(runtime.unprocessed("k")) == list(range(10))
    assert drain(runtime, "k") == [n for n in range(30, 90) if n % 3]


async def test_a_compiled_kernel_counts_its_turns_and_its_time(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(drops_thirds))
    await runtime.send_batch("k", range(90))
    await eventually(lambda: runtime.statistics("k").processed == 90)
    await runtime.deactivate("k")
    counts = check_books(runtime, "k")
    assert counts.dropped == 30
    assert 0 < counts.turns <= 90
    assert sum(n for _, n in counts.histogram_ns) == 90
    assert counts.busy_s > 0


async def test_peak_depths_are_those_of_the_fullest_moment(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same), queue_size=8)
    await runtime.send_batch("k", range(5))
    assert runtime.statistics("k").input_depth == 5
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").emitted == 5)
    assert runtime.statistics("k").output_depth == 5
    assert len(drain(runtime, "k")) == 5
    counts = check_books(runtime, "k")
    assert (counts.input_depth, counts.output_depth) == (0, 0)
    assert (counts.peak_input_depth, counts.peak_output_depth) == (5, 5)


async def test_a_message_in_a_handler_is_in_flight(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(gated))
    gate = kind.gate(runtime, "k")
    await runtime.send_batch("k", [1, -1, 2])
    await eventually(lambda: gate.entered)
    await eventually(lambda: runtime.statistics("k").in_flight)
    counts = runtime.statistics("k")
    assert counts.accepted == 3
    assert (counts.failed, counts.in_flight + counts.processed + counts.unprocessed) == (0, 3)
    gate.open()
    await eventually(lambda: runtime.statistics("k").processed == 3)
    assert check_books(runtime, "k").in_flight == 0
