"""A kernel with several inputs, each with a type and a handler of its own."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import check_books, within

import ringkernel as rk
from ringkernel import ConfigurationError, KernelState, KernelStateError, MessageTypeError, RingKernelRuntime

PRICED = np.dtype([("tick", "i8"), ("factor", "f8")])
RESET = np.dtype([("to", "i4"), ("by", "f8")], align=True)


@rk.ring_kernel("leveller", input_type=float, output_type=float, state=np.zeros(1))
def level(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] += msg.value
    out.value = state[0]


@rk.on_input("leveller", "reset", RESET)
def reset(msg, out, state):  # type: ignore[no-untyped-def]
    if msg.to < 0:
        raise ValueError("negative")
    state[0] = msg.to * msg.by
    return False


@rk.on_input(level, "many", float, batch=True)
def many(msgs, outs, state):  # type: ignore[no-untyped-def]
    state[0] += msgs.value.sum()
    outs[0].value = -state[0]
    return 1


@rk.ring_kernel("resetter", input_type=float, output_type=RESET)
def make_reset(msg, out):  # type: ignore[no-untyped-def]
    out.to, out.by = 10, msg.value


@pytest.mark.workers
async def test_each_input_has_its_handler_and_all_share_state_and_output() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, level):
        await runtime.send(level, 1.0)
        assert await within(runtime.receive(level)) == 1.0
        await runtime.send(level, (100, 2.0), input="reset")
        await runtime.send(level, 1.0)
        assert await within(runtime.receive(level)) == 201.0
        await runtime.send_batch(level, [1.0, 2.0], input="many")
        assert await within(runtime.receive(level)) == -204.0
        runtime.send_nowait(level, (1, 1.0), input="reset")
        await runtime.send(level, 0.0)
        assert await within(runtime.receive(level)) == 1.0
        check_books(runtime, "leveller")


async def test_what_an_input_was_left_with_is_told_by_input() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(level)
        await runtime.send(level, 1.0)
        await runtime.send_batch(level, [(1, 1.0), (2, 2.0)], input="reset")
        await runtime.terminate(level)
        assert runtime.unprocessed(level).tolist() == [1.0]
        assert runtime.unprocessed(level, input="reset").tolist() == [(1, 1.0), (2, 2.0)]
        assert runtime.statistics(level).unprocessed == 3


async def test_a_failure_names_the_message_of_its_input() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, level):
        await runtime.send_batch(level, [(1, 1.0), (-2, 2.0), (3, 3.0)], input="reset")
        await within(runtime.wait(level))
        error = runtime.kernels["leveller"].error
        assert isinstance(error, ValueError)
        assert "Record(to=-2, by=2.0)" in error.__notes__[0]
        assert runtime.unprocessed(level, input="reset").tolist() == [(3, 3.0)]
        check_books(runtime, "leveller")


async def test_kernels_feed_an_input_by_its_name() -> None:
    async with RingKernelRuntime() as runtime:
        for each in (make_reset, level):
            await runtime.launch(each)
        with pytest.raises(MessageTypeError, match="takes float64"):
            runtime.connect(make_reset, level)
        with pytest.raises(ConfigurationError, match="has no input 'rest'; its inputs are '', 'reset', 'many'"):
            runtime.connect(make_reset, level, input="rest")
        runtime.connect(make_reset, level, input="reset")
        for each in (make_reset, level):
            await runtime.activate(each)
        await runtime.send(make_reset, 5.0)
        await within(runtime.terminate(make_reset))
        while runtime.statistics(level).processed == 0:
            await runtime.deactivate(level)
            await runtime.reactivate(level)
        await runtime.send(level, 1.0)
        assert await within(runtime.receive(level)) == 51.0


async def test_an_unknown_input_is_refused_and_nothing_changes() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, level):
        for call in (runtime.send(level, 1.0, input="x"), runtime.send_batch(level, [1.0], input="x")):
            with pytest.raises(ConfigurationError, match="no input 'x'"):
                await call
        with pytest.raises(MessageTypeError):
            await runtime.send(level, "a", input="reset")
        assert runtime.statistics(level).accepted == 0


async def test_a_map_goes_over_the_first_input() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, level):
        await runtime.send(level, (100, 1.0), input="reset")
        while runtime.statistics(level).processed == 0:
            await runtime.deactivate(level)
            await runtime.reactivate(level)
        result = await within(runtime.map(level, np.ones(5_000)))
        assert result[-1] == 5_100.0


async def test_an_edited_handler_of_a_further_input_takes_over() -> None:
    @rk.ring_kernel("edited input", input_type=float, output_type=float)
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.value = msg.value

    @rk.on_input("edited input", "other", float)
    def other(msg, out):  # type: ignore[no-untyped-def]
        out.value = 2 * msg.value

    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, kernel):
        await runtime.send(kernel, 1.0, input="other")
        assert await within(runtime.receive(kernel)) == 2.0

        @rk.on_input("edited input", "other", float)
        def other(msg, out):  # type: ignore[no-untyped-def]
            out.value = 3 * msg.value

        await within(runtime.replace("edited input"))
        await runtime.send(kernel, 1.0, input="other")
        assert await within(runtime.receive(kernel)) == 3.0
        assert runtime.get_state(kernel) is KernelState.ACTIVE


def test_what_no_input_can_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="name of an input is ''"):
        rk.on_input("leveller", "", float)
    with pytest.raises(ConfigurationError, match="is no kernel"):
        rk.on_input(3, "a", float)  # type: ignore[arg-type]
    with pytest.raises(MessageTypeError, match="needs a type"):

        @rk.on_input("leveller", "untyped")
        def untyped(msg, out, state): ...  # type: ignore[no-untyped-def]


async def test_a_handler_that_does_not_fit_the_kernel_is_refused_at_launch() -> None:
    @rk.ring_kernel("odd inputs", input_type=float, output_type=float)
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.value = msg.value

    @rk.on_input("odd inputs", "other", float)
    def other(msg):  # type: ignore[no-untyped-def]
        pass

    async with RingKernelRuntime() as runtime:
        with pytest.raises(ConfigurationError, match=r"other\(msg\) should take \(msg, out\)"):
            await runtime.launch(kernel)


async def test_one_kernel_feeds_several_inputs_of_another() -> None:
    """Each of them once; both see all that comes, so what comes out is in no order that a map could promise."""

    @rk.ring_kernel("lagged", input_type=PRICED, output_type=float, state=np.zeros(1), order_by="tick")
    def lagged(msg, out, state):  # type: ignore[no-untyped-def]
        out.value = msg.factor - state[0]

    @rk.on_input("lagged", "earlier", PRICED)
    def lagged_earlier(msg, out, state):  # type: ignore[no-untyped-def]
        state[0] = msg.factor
        return False

    @rk.ring_kernel("lag source", input_type=PRICED, output_type=PRICED, order_by="tick")
    def source(msg, out):  # type: ignore[no-untyped-def]
        out.tick, out.factor = msg.tick, msg.factor

    async with RingKernelRuntime() as runtime:
        for kernel in (source, lagged):
            await runtime.launch(kernel)
        runtime.connect(source, lagged)
        with pytest.raises(KernelStateError, match="already feeds 'lagged'"):
            runtime.connect(source, lagged)
        runtime.connect(source, lagged, input="earlier")
        with pytest.raises(KernelStateError, match="already feeds input 'earlier' of 'lagged'"):
            runtime.connect(source, lagged, input="earlier")
        for kernel in (source, lagged):
            await runtime.activate(kernel)
        assert runtime.kernels["lag source"].targets == (runtime.kernels["lagged"],)
        with pytest.raises((KernelStateError, ConfigurationError)):
            await runtime.map((source, lagged), np.zeros(2, PRICED))
        prices = np.array([(1, 10.0), (2, 13.0), (5, 9.0)], PRICED)
        assert (await within(runtime.replay({source: prices}, until=lagged))).tolist() == [10.0, 3.0, -4.0]
        assert check_books(runtime, "lagged").processed == 6
        if runtime.kernels["lagged"].device == "cpu":  # grids do not measure what they wait for
            assert [name for name, _ in runtime.statistics(lagged).starved_by] == ["lag source"]
            assert [name for name, _ in runtime.statistics(source).blocked_by] == ["lagged"]
