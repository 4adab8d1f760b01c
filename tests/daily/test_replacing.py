"""A handler that was edited takes over in the kernel that runs: nothing is lost, and nobody has to ask for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, eventually, within

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    KernelCompileError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.declaration.registry import declared

if TYPE_CHECKING:
    from collections.abc import Callable


def cell(
    expression: str,
    *,
    kind: str = "def",
    signature: str = "msg: float, out: float",
    decorated: bool = True,
    **more: Any,
) -> Any:
    """A cell that defines `edited`, run."""
    scope: dict[str, Any] = {"rk": rk, "np": np, "__name__": "__main__", **more}
    decorator = '@rk.ring_kernel("edited")\n' if decorated else ""
    exec(f"{decorator}{kind} edited({signature}):\n    out.value = {expression}\n", scope)
    return scope["edited"]


async def launched(runtime: RingKernelRuntime, func: Any) -> None:
    await runtime.launch(func)
    await runtime.activate("edited")


# --- by the decorator ----------------------------------------------------------------------------------------


async def test_messages_after_an_edit_are_for_the_new_handler(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("msg.value + 1"))
    assert await runtime.call("edited", 1) == 2
    for i in range(5):
        cell(f"msg.value * {10 + i}")
        assert await runtime.call("edited", 1) == 10 + i, "at once, without an await in between"
    cell("-msg.value")
    assert (await runtime.map("edited", [1.0, 2.0])).tolist() == [-1, -2]
    cell("7.0")
    runtime_send = asyncio.ensure_future(runtime.send("edited", 0))
    assert await within(runtime.receive("edited")) == 7
    await runtime_send
    check_books(runtime, "edited")


async def test_the_state_stays(runtime: RingKernelRuntime) -> None:
    signature = "msg: float, out: float, state=np.zeros(1)"
    await launched(runtime, cell("state[0]\n    state[0] += msg.value", signature=signature))
    assert [await runtime.call("edited", 5) for _ in range(2)] == [0, 5]
    cell("state[0] * 100", signature=signature)
    assert await runtime.call("edited", 0) == 1_000


async def test_what_waits_in_a_paused_kernel_is_for_the_new_handler(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    await runtime.deactivate("edited")
    await runtime.send_batch("edited", np.zeros(100))
    cell("2.0")
    assert runtime.get_state("edited") is KernelState.DEACTIVATED
    await runtime.send("edited", 0)
    assert runtime.statistics("edited").processed == 0
    await runtime.reactivate("edited")
    outputs: list[float] = []
    while len(outputs) < 101:
        outputs += (await within(runtime.receive_batch("edited"))).tolist()
    assert outputs == [2] * 101
    check_books(runtime, "edited")


async def test_nothing_is_lost_while_a_flood_goes_through(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("msg.value"))
    count = 200_000

    async def feed() -> None:
        for start in range(0, count, 1_000):
            await runtime.send_batch("edited", np.arange(start, start + 1_000.0))

    async def edit() -> None:
        for i in range(20):
            cell(f"msg.value + {i} - {i}")
            await asyncio.sleep(0.001)

    async def collect() -> list[float]:
        outputs: list[float] = []
        while len(outputs) < count:
            outputs += (await runtime.receive_batch("edited")).tolist()
        return outputs

    _, _, outputs = await asyncio.wait_for(asyncio.gather(feed(), edit(), collect()), 60)
    assert outputs == list(range(count))
    check_books(runtime, "edited")


async def test_a_stage_of_a_chain_is_edited_while_the_chain_runs(runtime: RingKernelRuntime) -> None:
    def source(msg: float, out: float) -> None:
        out.value = msg.value + 1  # type: ignore[attr-defined]

    def sink(msg: float, out: float) -> None:
        out.value = msg.value * 2  # type: ignore[attr-defined]

    line = rk.pipeline(source, cell("msg.value"), sink)
    data = np.arange(100_000.0)
    for factor in (1.0, 2.0, 3.0):
        cell(f"msg.value * {factor}")
        for _ in range(3):
            assert np.array_equal(await runtime.map(line, data), (data + 1) * factor * 2)


async def test_an_edit_during_a_map_takes_over_after_it(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    await runtime.deactivate("edited")
    await runtime.reactivate("edited")
    mapping = asyncio.ensure_future(runtime.map("edited", np.zeros(2_000_000)))
    await asyncio.sleep(0)
    cell("2.0")
    result = await within(mapping, 30)
    assert set(result.tolist()) <= {1.0, 2.0}
    assert await runtime.call("edited", 0) == 2


async def test_the_last_of_several_edits_counts(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("0.0"))
    for i in range(10):
        cell(f"{i}.0")
    assert await runtime.call("edited", 0) == 9


async def test_an_edit_in_another_thread_is_heard(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    thread = threading.Thread(target=cell, args=("2.0",))
    thread.start()
    thread.join()

    async def is_new() -> bool:
        return bool(await runtime.call("edited", 0) == 2)

    await eventually(is_new)


async def test_a_kernel_that_others_share_a_worker_with_is_replaced_alone(runtime: RingKernelRuntime) -> None:
    func = cell("1.0")
    await launched(runtime, func)
    await runtime.launch("other", func)
    await runtime.activate("other")
    cell("2.0")
    assert [await runtime.call(one, 0) for one in ("edited", "other")] == [2, 2]

    def mine(msg: float, out: float) -> None:
        out.value = 5.0  # type: ignore[attr-defined]

    await runtime.launch("mine", mine)
    await runtime.activate("mine")
    cell("3.0")
    assert await runtime.call("mine", 0) == 5


async def test_handlers_of_a_factory_are_no_edits_of_each_other(runtime: RingKernelRuntime) -> None:
    def made(number: float) -> Any:
        @ring_kernel("made")
        def handler(msg: float, out: float) -> None:
            out.value = msg.value + number  # type: ignore[attr-defined]

        return handler

    for name, number in (("seven", 7.0), ("nine", 9.0)):
        await runtime.launch(name, made(number))
        await runtime.activate(name)
    assert [await runtime.call(name, 1) for name in ("seven", "nine")] == [8, 10]


# --- where it cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda: cell("1", signature="msg: int, out: float"), "its input_type was float64, and is int64 now"),
        (lambda: cell("1", signature="msg: float, out: int"), "its output_type was float64, and is int64 now"),
        (
            lambda: cell("1", signature="msg: float, out: float, state=np.zeros(2)"),
            r"its state was None, and is an array of float64 of shape \(2,\) now",
        ),
        (lambda: cell("1", kind="async def", signature="ctx"), "it is a coroutine function now"),
    ],
)
async def test_what_cannot_be_replaced_says_why_and_what_to_call(
    runtime: RingKernelRuntime, edit: Callable[[], Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    await launched(runtime, cell("msg.value + 1"))
    with caplog.at_level(logging.WARNING, "ringkernel"):
        edit()
    (record,) = caplog.records
    pattern = (
        rf"kernel 'edited' keeps the handler .*: {reason}; terminate\(\) and remove\(\) it, and launch\(\) it anew"
    )
    assert __import__("re").fullmatch(pattern, record.getMessage())
    assert await runtime.call("edited", 1) == 2
    with pytest.raises(KernelStateError, match=reason):
        await runtime.replace("edited")
    assert await runtime.call("edited", 1) == 2


async def test_a_coroutine_that_runs_is_not_replaced(
    runtime: RingKernelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    async def edited(ctx: Any) -> None:
        while True:
            await ctx.send(await ctx.receive())

    ring_kernel("coroutine_edited")(edited)
    await runtime.launch("coroutine_edited")
    await runtime.activate("coroutine_edited")

    @ring_kernel("coroutine_edited")
    async def again(ctx: Any) -> None: ...

    assert "cannot be given another handler" in caplog.text
    await runtime.send("coroutine_edited", 1)
    assert await within(runtime.receive("coroutine_edited")) == 1


async def test_an_edit_that_does_not_compile_leaves_the_kernel_at_work(
    runtime: RingKernelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    await launched(runtime, cell("msg.value + 1"))
    cell("msg.nothing")
    assert await within(runtime.call("edited", 1)) == 2
    assert "a kernel goes on with the handler that it had" in caplog.text
    assert "nothing" in caplog.text
    with pytest.raises(KernelCompileError, match="nothing"):
        await runtime.replace("edited")
    assert await runtime.call("edited", 1) == 2
    cell("3.0")
    assert await runtime.call("edited", 1) == 3


async def test_an_id_of_another_module_is_refused_with_both_places() -> None:
    before = cell("1.0")
    with pytest.raises(ConfigurationError, match="'edited' is declared in two modules, at <string>:1 and at <str"):
        cell("2.0", __file__="other.py")
    assert declared("edited").func is before  # type: ignore[union-attr]


async def test_a_kernel_that_has_ended_is_launched_with_the_edit(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    await runtime.terminate("edited")
    cell("2.0")
    with pytest.raises(KernelStateError, match="it is TERMINATED; terminate"):
        await runtime.replace("edited")
    runtime.remove("edited")
    await launched(runtime, "edited")
    assert await runtime.call("edited", 0) == 2


async def test_a_handler_that_would_fail_is_edited_before_it_does(runtime: RingKernelRuntime) -> None:
    def body(limit: int) -> str:
        return f"msg.value\n    if msg.value > {limit}:\n        raise ValueError"

    await launched(runtime, cell(body(1)))
    cell(body(5))
    assert await runtime.call("edited", 3) == 3
    with pytest.raises(KernelFailedError, match="ValueError"):
        await runtime.call("edited", 6)


# --- by the function, and by replace() -----------------------------------------------------------------------


async def test_a_function_that_was_edited_takes_over_where_it_is_used(runtime: RingKernelRuntime) -> None:
    first = cell("1.0", decorated=False)
    assert (await runtime.map(first, [0.0])).tolist() == [1]
    second = cell("2.0", decorated=False)
    assert (await runtime.map(second, [0.0])).tolist() == [2]
    third = cell("3.0", decorated=False)
    await runtime.send(third, 0)
    assert await runtime.receive(third) == 3
    with pytest.raises(KernelCompileError, match="nothing"):
        await runtime.map(cell("msg.nothing", decorated=False), [0.0])
    assert await runtime.call("edited", 0) == 3


async def test_a_pipeline_of_before_an_edit_does_not_bring_the_old_handler_back(runtime: RingKernelRuntime) -> None:
    first, second = cell("1.0", decorated=False), cell("2.0", decorated=False)
    line = rk.pipeline(first)
    for used, wanted in ((line, 1), (second, 2), (line, 2), (rk.pipeline(second), 2), (first, 1), (line, 1)):
        assert (await runtime.map(used, [0.0])).tolist() == [wanted]
    await runtime.replace("edited", second)
    await runtime.replace("edited", first)
    assert (await runtime.map(line, [0.0])).tolist() == [1]


async def test_pipelines_of_handlers_of_one_factory_have_each_their_own(runtime: RingKernelRuntime) -> None:
    def make(factor: float) -> Any:
        def scaled(msg: float, out: float) -> None:
            out.value = factor * msg.value  # type: ignore[attr-defined]

        return scaled

    lines = {factor: rk.pipeline(make(factor)) for factor in (2.0, 3.0)}
    for factor in (2.0, 3.0, 2.0, 3.0):
        assert (await runtime.map(lines[factor], [1.0])).tolist() == [factor]


async def test_a_function_of_the_same_name_elsewhere_is_not_taken_for_an_edit(runtime: RingKernelRuntime) -> None:
    await runtime.map(cell("1.0", decorated=False), [0.0])
    with pytest.raises(ConfigurationError, match="'edited' is declared in two modules"):
        await runtime.map(cell("2.0", decorated=False, __file__="other.py"), [0.0])
    assert await runtime.call("edited", 0) == 1


async def test_replace_takes_any_function_of_the_module(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    await runtime.replace("edited", cell("2.0", decorated=False))
    assert await runtime.call("edited", 0) == 2
    await runtime.replace("edited")
    assert await runtime.call("edited", 0) == 1


async def test_a_cancelled_replace_goes_on_by_itself(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    replacing = asyncio.ensure_future(runtime.replace("edited", cell("2.0", decorated=False)))
    await asyncio.sleep(0)
    replacing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await replacing
    assert await runtime.call("edited", 0) == 2


async def test_close_in_the_middle_of_an_edit_ends_everything(runtime: RingKernelRuntime) -> None:
    await launched(runtime, cell("1.0"))
    cell("2.0")
    await runtime.close()
    assert runtime.get_state("edited") is KernelState.TERMINATED


def test_a_session_hears_of_edits() -> None:
    with rk.Session() as session:
        session.launch(cell("1.0"))
        session.activate("edited")
        assert session.call("edited", 0) == 1
        cell("2.0")
        assert session.call("edited", 0) == 2
