"""A handler that fails ends its kernel alone, with the class, the message and the line; nothing else is lost."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
from fault_kernels import (
    OwnError,
    check_alive,
    echo,
    fail_at_57,
    failure,
    shown,
)
from helpers import check_books, drain, start, turns, within

from ringkernel import (
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelError,
    RingKernelRuntime,
    message,
    ring_kernel,
)


@ring_kernel(kernel_id="ft_index", input_type=int, output_type=int, state=np.arange(4))
def index_state(msg: Any, out: Any, state: Any) -> None:
    out.value = state[msg.value]


@message
class Vector:
    index: int
    xs: Annotated[npt.NDArray[np.float64], 3]


@ring_kernel(kernel_id="ft_nested", input_type=Vector, output_type=float)
def index_nested(msg: Any, out: Any) -> None:
    out.value = msg.xs[msg.index]


def pick(values: Any, index: Any) -> Any:
    return values[index]


@ring_kernel(kernel_id="ft_helper", input_type=int, output_type=int, state=np.arange(4))
def index_in_helper(msg: Any, out: Any, state: Any) -> None:
    out.value = pick(state, msg.value)


@ring_kernel(kernel_id="ft_batch", input_type=int, output_type=int, batch=True)
def batch_fails(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        outs[i].value = msgs[i].value
        if msgs[i].value == 57:
            raise OwnError("in a batch")


@ring_kernel(kernel_id="ft_beyond", input_type=int, output_type=int, batch=True)
def batch_beyond(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs) + 1):
        outs[i].value = 1


@ring_kernel(kernel_id="ft_count", input_type=int, output_type=int, batch=True)
def batch_counts(msgs: Any, outs: Any) -> Any:
    for i in range(len(msgs)):
        outs[i].value = msgs[i].value
        if msgs[i].value == 57:
            return len(outs) + 1
        if msgs[i].value == -57:
            return -1
    return len(msgs)


async def test_a_failure_in_the_middle_of_a_span_keeps_what_came_before_and_after(runtime: RingKernelRuntime) -> None:
    await start(runtime, "sibling", echo)
    error = await failure(runtime, fail_at_57, np.arange(100))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (100, 57, 1, 42)
    assert (counts.emitted, counts.dropped, counts.in_flight) == (29, 28, 0)
    assert runtime.unprocessed("k").tolist() == list(range(58, 100))
    assert [await within(runtime.receive("k")) for _ in range(29)] == list(range(0, 57, 2))
    with pytest.raises(KernelFailedError) as caught:
        await within(runtime.receive("k"))
    assert caught.value.__cause__ is error
    await check_alive(runtime, "sibling")


async def test_a_failure_has_the_class_the_message_and_the_line_of_the_handler(runtime: RingKernelRuntime) -> None:
    error = await failure(runtime, fail_at_57, [57])
    assert type(error) is OwnError
    assert error.args == ("fifty-seven",)
    text = shown(error)
    assert "the line that the traceback shows" in text
    assert "in fail_at_57" in text
    assert "'k'" in text
    assert "57" in "".join(error.__notes__)
    with pytest.raises(KernelFailedError, match=r"'k'.*OwnError: fifty-seven"):
        await runtime.send("k", 1)
    with pytest.raises(KernelFailedError):
        await anext(runtime.stream("k"))


@pytest.mark.parametrize(
    ("func", "messages", "good"),
    [
        (index_state, [0, 3, 4, 1], 2),
        (index_state, [-1, -4, -5, 1], 2),
        (index_state, [2**40], 0),
        (index_in_helper, [3, 99, 1], 1),
        (index_nested, [Vector(0, np.arange(3.0)), Vector(3, np.arange(3.0))], 1),
    ],
    ids=["state", "negative", "far", "helper", "nested"],
)
async def test_an_index_out_of_range_is_an_index_error(
    runtime: RingKernelRuntime, func: Any, messages: Any, good: Any
) -> None:
    error = await failure(runtime, func, messages)
    assert isinstance(error, IndexError)
    assert f"in {func.__name__}" in shown(error)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (good, 1, len(messages) - good - 1)


async def test_a_batch_fails_as_a_whole_span(runtime: RingKernelRuntime) -> None:
    error = await failure(runtime, batch_fails, np.arange(100))
    assert isinstance(error, OwnError)
    counts = check_books(runtime, "k")
    assert counts.failed >= 1
    assert counts.processed <= 57 < counts.processed + counts.failed
    assert counts.emitted == counts.processed
    assert drain(runtime, "k") == list(range(counts.processed))
    assert runtime.unprocessed("k").tolist() == list(range(counts.processed + counts.failed, 100))


async def test_a_batch_that_writes_beyond_its_outputs_is_an_index_error(runtime: RingKernelRuntime) -> None:
    error = await failure(runtime, batch_beyond, np.arange(10))
    assert isinstance(error, IndexError)
    assert check_books(runtime, "k").emitted == 0


@pytest.mark.parametrize("wrong", [57, -57])
async def test_a_count_out_of_range_is_a_fault(runtime: RingKernelRuntime, wrong: Any) -> None:
    error = await failure(runtime, batch_counts, [1, 2, 3, wrong, 4, 5])
    assert isinstance(error, RingKernelError)
    assert re.search(r"count.*0 to \d+", str(error))
    counts = check_books(runtime, "k")
    assert counts.processed <= 3 < counts.processed + counts.failed
    assert drain(runtime, "k") == [1, 2, 3][: counts.processed]


async def test_all_who_wait_are_woken_by_a_failure(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", fail_at_57, queue_size=4)
    waiting = [
        asyncio.ensure_future(one)
        for one in (runtime.receive("k"), runtime.receive_batch("k"), anext(runtime.stream("k")))
    ]
    await turns()
    await runtime.send("k", 57)
    for task in waiting:
        with pytest.raises(KernelFailedError):
            await within(task)
    assert await within(runtime.wait("k")) is KernelState.TERMINATED


async def test_a_sender_that_waits_for_room_is_told_of_the_failure(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", fail_at_57, queue_size=4)
    await runtime.send_batch("k", [1, 3, 57, 5])
    single = asyncio.create_task(runtime.send("k", 7))
    batch = asyncio.create_task(runtime.send_batch("k", [9] * 50))
    await turns()
    await runtime.activate("k")
    with pytest.raises(KernelFailedError):
        await within(batch)
    await within(asyncio.wait({single}))  # that one may have found room in time
    assert single.exception() is None or isinstance(single.exception(), KernelFailedError)
    counts = check_books(runtime, "k")
    left = runtime.unprocessed("k").tolist()
    assert (counts.processed, counts.failed, left[0]) == (2, 1, 5)
    assert left[1:2] in ([], [7]) if single.exception() is None else 7 not in left
    assert set(left) <= {5, 7, 9}


async def test_a_failed_kernel_is_removed_and_launched_anew(runtime: RingKernelRuntime) -> None:
    for _ in range(3):
        error = await failure(runtime, fail_at_57, [56, 57])
        assert isinstance(error, OwnError)
        with pytest.raises(KernelStateError, match="TERMINATED"):
            await runtime.launch("k", echo)
        runtime.remove("k")
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")
