"""Kernels in a row are named, launched, connected, used and ended in one line each."""

from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest
from daily_kernels import double, negate, plus, relay, square, total
from helpers import within

from ringkernel import (
    ConfigurationError,
    KernelExistsError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    Pipeline,
    RingKernelRuntime,
    Session,
    managed_kernel,
    pipeline,
)

# --- kernels by their functions ------------------------------------------------------------------------------


async def test_a_function_stands_for_its_kernel_everywhere(runtime: RingKernelRuntime) -> None:
    kernel = await runtime.launch(total)
    assert kernel.kernel_id == "total"
    target = await runtime.launch(square)
    assert target.kernel_id == "daily_square"
    runtime.connect(total, square)
    await runtime.activate(total)
    await runtime.activate(square)
    await runtime.send(total, 2)
    runtime.send_nowait(total, 1)
    assert [await runtime.receive(square), await runtime.receive(square)] == [4, 9]
    assert await runtime.call((total, square), 1) == 16
    await runtime.deactivate(total)
    assert (await runtime.read_state(total)).tolist() == [4]
    await runtime.write_state(total, [1])
    await runtime.reactivate(total)
    assert (await runtime.map((total, square), [1.0])).tolist() == [4]
    assert runtime.statistics(total).processed == 4
    await runtime.terminate(total)
    assert await runtime.wait(total) is runtime.get_state(total) is KernelState.TERMINATED
    assert runtime.unprocessed(total).tolist() == []
    runtime.remove(total)
    assert list(runtime.kernels) == ["daily_square"]


async def test_a_function_that_is_not_launched_is_not_found_by_its_name(runtime: RingKernelRuntime) -> None:
    with pytest.raises(KernelNotFoundError, match="'double'"):
        await runtime.send(double, 1)
    assert runtime.get_state(square) is KernelState.CREATED


async def test_a_managed_kernel_may_be_a_function(runtime: RingKernelRuntime) -> None:
    async with managed_kernel(runtime, double) as kernel_id:
        assert kernel_id == "double"
        assert await runtime.call(kernel_id, 4) == 8
    assert runtime.get_state("double") is KernelState.TERMINATED


async def test_map_launches_a_function_once(runtime: RingKernelRuntime) -> None:
    assert (await runtime.map(total, [1.0, 2.0])).tolist() == [1, 3]
    assert (await runtime.map(total, [3.0])).tolist() == [6]
    await runtime.deactivate("total")
    with pytest.raises(KernelStateError, match="DEACTIVATED; it must be ACTIVE"):
        await runtime.map(total, [3.0])


# --- pipelines -----------------------------------------------------------------------------------------------


def test_a_pipeline_prints_as_its_graph() -> None:
    assert repr(pipeline(double, ("a", plus), [square])) == "double → (a, plus) → daily_square"
    inner = pipeline(double, plus)
    assert repr(pipeline("source", inner, (negate, square))) == "source → double → plus → (negate, daily_square)"


def test_a_pipeline_knows_its_connections() -> None:
    line = pipeline("a", ("b", "c"), "d")
    assert list(line.connections) == [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    assert (line.kernel_ids, line.first, line.last) == (("a", "b", "c", "d"), "a", "d")
    with pytest.raises(ConfigurationError, match=r"a → \(b, c\) ends with 2 kernels; say by its id"):
        _ = pipeline("a", ("b", "c")).last


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ((), "a kernel in every stage"),
        (("a", ()), "a kernel in every stage"),
        (("a", 5), "functions or ids; got 5"),
        (("a", ""), "functions or ids; got ''"),
        (("a", ("b", "a")), "'a' stands in the pipeline twice"),
        ((double, "double"), "'double' stands in the pipeline twice"),
    ],
)
def test_what_is_no_pipeline_is_refused(stages: tuple[object, ...], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        pipeline(*stages)


async def test_map_starts_what_is_missing(runtime: RingKernelRuntime) -> None:
    line = pipeline(double, plus, total)
    await runtime.launch(plus)
    assert (await runtime.map(line, [1.0, 2.0])).tolist() == [2.5, 7]
    assert (await runtime.map(line, np.ones(1))).tolist() == [9.5]
    assert await runtime.call(line, 0) == 10
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.ACTIVE}


@pytest.mark.parametrize(
    ("line", "ways"),
    [
        (
            pipeline(double, (plus, negate), total),
            "send_batch() to 'double', while receive_batch() takes the outputs of",
        ),
        (pipeline(double, (plus, negate)), "takes the outputs of 'plus' and 'negate'"),
        (pipeline((double, plus), total), "send_batch() to 'double' and 'plus'"),
    ],
    ids=repr,
)
async def test_a_map_through_branches_says_what_to_do_and_launches_nothing(
    runtime: RingKernelRuntime, line: Pipeline, ways: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(ways)):
        await runtime.map(line, [1.0])
    assert runtime.kernels == {}
    with Session() as session:
        for mapped in (session.map, session.map_once):
            with pytest.raises(ConfigurationError, match=re.escape(ways)):
                mapped(line, [1.0])
        assert not session.runtime.kernels


async def test_what_a_map_through_branches_would_be_goes_by_batches(runtime: RingKernelRuntime) -> None:
    data = np.arange(50_000.0)
    async with runtime.run(pipeline(double, (plus, negate), relay)) as running:
        sending = asyncio.create_task(running.send_batch(data))
        got: list[float] = []
        while len(got) < 2 * len(data):
            got += await within(running.receive_batch())
        await within(sending)
    wanted = np.concatenate([2 * data + 0.5, -2 * data])
    np.testing.assert_array_equal(np.sort(np.array(got)), np.sort(wanted))


async def test_a_pipeline_of_kernels_that_do_not_fit_starts_nothing(runtime: RingKernelRuntime) -> None:
    def texts(msg: np.int8, out: np.int8) -> None:
        out.value = msg.value  # type: ignore[attr-defined]

    with pytest.raises(MessageTypeError, match="emits float64, kernel 'texts' takes int8"):
        await runtime.map(pipeline(double, texts), [1.0])
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.LAUNCHED}


async def test_run_starts_a_pipeline_and_ends_it(runtime: RingKernelRuntime) -> None:
    async with runtime.run(pipeline(double, relay, total)) as running:
        assert repr(running) == "<running double → relay → total>"
        await running.send(1)
        assert await running.receive(timeout=5) == 2
        await running.send_batch([1.0, 2.0])
        assert [await running.receive() for _ in range(2)] == [4, 8]
        assert await running.call(1) == 10
        await running.send(1)
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.TERMINATED}
    assert await runtime.receive("total") == 12, "what was queued at the end has gone through"


async def test_finish_lets_the_outputs_be_read_to_their_end(runtime: RingKernelRuntime) -> None:
    async with runtime.run(pipeline(double, plus)) as running:
        await running.send_batch(np.arange(1_000.0))
        await running.finish()
        batches = [batch async for batch in running.stream()]
        assert np.array_equal(np.concatenate(batches), np.arange(1_000.0) * 2 + 0.5)


async def test_side_by_side_kernels_see_all_and_are_all_seen(runtime: RingKernelRuntime) -> None:
    async with runtime.run(pipeline(double, (plus, negate), total)) as running:
        await running.send_batch([1.0, 2.0])
        await running.finish()
        outputs = np.concatenate([batch async for batch in running.stream()])
        assert len(outputs) == 4
        assert outputs[-1] == 1.0  # 2.5 + 4.5 - 2 - 4


async def test_a_pipeline_runs_again_and_not_twice_at_once(runtime: RingKernelRuntime) -> None:
    line = pipeline(double, plus)
    async with runtime.run(line) as running:
        assert (await running.map([1.0])).tolist() == [2.5]
        with pytest.raises(KernelExistsError, match="run: kernel 'double' is ACTIVE already"):
            async with runtime.run(line):
                pytest.fail("it ran twice")
    async with runtime.run(line) as running:
        assert await running.call(2) == 4.5
    async with runtime.run(double) as running:
        assert await running.call(2) == 4


async def test_an_error_in_the_block_ends_the_pipeline(runtime: RingKernelRuntime) -> None:
    with pytest.raises(ZeroDivisionError):
        async with runtime.run(pipeline(double, plus)):
            raise ZeroDivisionError
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.TERMINATED}


async def test_a_pipeline_that_cannot_start_leaves_nothing_running(runtime: RingKernelRuntime) -> None:
    with pytest.raises(KernelNotFoundError, match="no kernel 'nowhere' is declared"):
        async with runtime.run(pipeline(double, "nowhere")):
            pytest.fail("it ran")
    assert [kernel.state for kernel in runtime.kernels.values()] == [KernelState.TERMINATED]


async def test_terminate_takes_a_pipeline(runtime: RingKernelRuntime) -> None:
    line = pipeline(double, plus)
    await runtime.map(line, [1.0])
    await runtime.terminate("double")
    await runtime.terminate(line)
    await runtime.terminate(line)
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.TERMINATED}
