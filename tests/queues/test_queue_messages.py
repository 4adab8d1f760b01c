"""A queue of objects hands them on unchanged; one of records checks, copies and gives back what was declared."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import in_line, within

from ringkernel import (
    MessageQueue,
    MessageTypeError,
    message,
)

pytestmark = pytest.mark.both_loops


# --- objects ----------------------------------------------------------------------------------------------------------


async def test_objects_pass_unchanged_and_are_let_go(loop_errors: list[Any]) -> None:
    class Thing: ...

    queue = MessageQueue(4)
    thing = Thing()
    await queue.put(thing)
    await queue.put(None)
    assert await queue.get() is thing
    assert await queue.get() is None
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is None


# --- records ----------------------------------------------------------------------------------------------------------


@message
class Tick:
    price: float
    size: int


@message
class Frame:
    at: float
    samples: Annotated[npt.NDArray[np.float32], 3]


async def test_scalars_come_out_as_python_scalars(loop_errors: list[Any]) -> None:
    queue = MessageQueue(4, np.float32)
    await queue.put(1.5)
    await queue.put(np.float32(2.5))
    await queue.put(3)
    assert [type(value) for value in (await queue.get(), await queue.get())] == [float, float]
    assert await queue.get() == 3.0
    await queue.put_batch(np.array([1.0, 2.0], np.float32))
    batch = await queue.get_batch()
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, [1.0, 2.0])


async def test_message_instances_come_out_equal(loop_errors: list[Any]) -> None:
    queue = MessageQueue(4, Tick)
    await queue.put(Tick(1.25, 7))
    tick = await queue.get()
    assert tick == Tick(1.25, 7)
    assert isinstance(tick, Tick)
    await queue.put_batch([Tick(1.0, 1), Tick(2.0, 2)])
    batch = await queue.get_batch()
    assert batch.dtype == Tick.dtype  # type: ignore[attr-defined]
    np.testing.assert_array_equal(batch["size"], [1, 2])


async def test_nested_arrays_are_copied_in_and_out(loop_errors: list[Any]) -> None:
    queue = MessageQueue(2, Frame)
    samples = np.array([1, 2, 3], np.float32)
    await queue.put(Frame(0.5, samples))
    samples[:] = 9
    frame = await queue.get()
    np.testing.assert_array_equal(frame.samples, [1, 2, 3])
    for i in range(4):
        await queue.put(Frame(float(i), samples))
        await queue.get()
    np.testing.assert_array_equal(frame.samples, [1, 2, 3])


async def test_structured_dtypes_come_out_as_records(loop_errors: list[Any]) -> None:
    dtype = np.dtype([("a", np.int16), ("b", np.float64)])
    queue = MessageQueue(4, dtype)
    await queue.put((3, 0.5))
    await queue.put(np.array([(4, 1.5)], dtype)[0])
    record = await queue.get()
    assert (record.a, record["b"]) == (3, 0.5)
    await queue.put((5, 2.5))
    await queue.put((6, 3.5))
    await queue.put((7, 4.5))
    assert (record.a, record.b) == (3, 0.5)  # its own memory
    assert [r["a"] for r in await queue.get_batch()] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [
        (int, "x"),
        (int, 1.5),
        (int, None),
        (np.int8, 300),
        (np.uint8, -1),
        (Tick, (1.0, 2)),
        (Tick, 5),
        (np.dtype([("a", int), ("b", int)]), (1,)),
        (np.dtype([("a", int), ("b", int)]), {"a": 1, "c": 2}),
    ],
)
async def test_a_message_of_another_type_is_refused_and_nothing_is_put(
    dtype: Any, bad: Any, loop_errors: list[Any]
) -> None:
    queue = MessageQueue(4, dtype)
    with pytest.raises(MessageTypeError) as caught:
        await queue.put(bad)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(MessageTypeError):
        queue.put_nowait(bad)
    with pytest.raises(MessageTypeError):
        await queue.put_batch([bad])
    assert queue.empty()
    assert queue.statistics().put == 0


async def test_a_bad_message_among_good_ones_puts_nothing(loop_errors: list[Any]) -> None:
    queue = MessageQueue(4, int)
    with pytest.raises(MessageTypeError):
        await queue.put_batch([1, 2, "three", 4])
    assert queue.empty()


@pytest.mark.parametrize("dtype", [object, str, "no such type", list])
def test_a_type_that_is_none_is_refused(dtype: Any) -> None:
    with pytest.raises(MessageTypeError, match="message type"):
        MessageQueue(4, dtype)


async def test_a_refused_message_leaves_waiting_putters_alone(loop_errors: list[Any]) -> None:
    queue = MessageQueue(1, int)
    await queue.put(0)
    good, bad, last = [await in_line(queue, queue.put(value)) for value in (1, "x", 2)]
    assert [await within(queue.get()) for _ in range(3)] == [0, 1, 2]
    await within(asyncio.gather(good, last))
    with pytest.raises(MessageTypeError):
        await within(bad)
