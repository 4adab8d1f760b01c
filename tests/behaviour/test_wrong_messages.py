"""A message that does not fit its type is refused by every way in, by name, and nothing of it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest

from ringkernel import KernelContext, MessageTypeError, RingKernelRuntime, message, ring_kernel

PACKED = np.dtype([("side", "i1"), ("price", "f8"), ("lots", "i4")])
NESTED = np.dtype([("n", "i2"), ("xs", "f8", 3)])


@message
class Tick:
    price: float
    size: np.int32
    live: bool = True


@message
class Wave:
    samples: Annotated[npt.NDArray[np.float32], 4]
    grid: Annotated[npt.NDArray[np.int64], (2, 3)]
    gain: float


@dataclass
class NotTick:
    price: float = 1.0
    size: int = 1
    live: bool = True


tick: Any = Tick  # for values that the type checker refuses, too
wave: Any = Wave

WRONG: list[tuple[str, Any, Any]] = [
    ("float", float, "1.5"),
    ("float-none", float, None),
    ("float-list", float, [1.0]),
    ("float-complex", float, 1j),
    ("int-float", np.int32, 1.5),
    ("int-text", np.int32, "1"),
    ("int-over", np.int32, 2**31),
    ("int-under", np.int32, -(2**31) - 1),
    ("int64-over", np.int64, 2**63),
    ("uint-negative", np.uint8, -1),
    ("uint-over", np.uint8, 256),
    ("bool-text", np.bool_, "yes"),
    ("complex-text", np.complex64, "1+2j"),
    ("float32-over", np.float32, 1e300),
    ("record-short", PACKED, (1, 2.0)),
    ("record-long", PACKED, (1, 2.0, 3, 4)),
    ("record-dict", PACKED, {"side": 1}),
    ("record-number", PACKED, 1.0),
    ("record-float-in-int", PACKED, (1, 2.0, 3.5)),
    ("record-other-fields", PACKED, np.zeros((), [("a", "i4"), ("b", "f8"), ("c", "i4")])),
    ("class-other", Tick, NotTick()),
    ("class-tuple", Tick, (1.0, 2, True)),
    ("class-field-text", Tick, tick("x", 1)),
    ("class-field-over", Tick, tick(1.0, 2**40)),
    ("nested-length", NESTED, (1, [1.0, 2.0])),
    ("nested-float-in-int", NESTED, (1.5, [1.0, 2.0, 3.0])),
    ("nested-over", NESTED, (2**20, [1.0, 2.0, 3.0])),
    ("nested-class-length", Wave, wave([1.0, 2.0, 3.0], np.zeros((2, 3), int), 1.0)),
    ("nested-class-broadcast", Wave, wave([1.0], np.zeros((2, 3), int), 1.0)),
    ("nested-class-float-in-int", Wave, wave([1.0] * 4, np.full((2, 3), 0.5), 1.0)),
]


def swallow(msg: Any) -> None:
    pass


async def takes_nothing(ctx: KernelContext[Any, Any]) -> None:
    """A coroutine kernel with types has the same way in as a compiled one, and needs no compiling."""


@pytest.mark.parametrize(("declared", "wrong"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_a_wrong_message_is_refused_and_nothing_is_sent(
    runtime: RingKernelRuntime, declared: Any, wrong: Any
) -> None:
    await runtime.launch("k", ring_kernel("wm_sink", input_type=declared)(takes_nothing))
    with pytest.raises(MessageTypeError) as caught:
        await runtime.send("k", wrong)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(MessageTypeError):
        runtime.send_nowait("k", wrong)
    with pytest.raises(MessageTypeError):
        await runtime.send_batch("k", [wrong])
    assert runtime.statistics("k").accepted == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [1, 2, 3, 2.5],
        [1, 2**31],
        np.zeros((2, 2), np.int32),
        np.arange(3.0),
        np.arange(3, dtype=np.int64),
        np.array(["1"]),
        np.zeros(3, PACKED),
        5,
        None,
    ],
    ids=["last-is-float", "overflow", "2-d", "floats", "wider", "text", "records", "no-sequence", "none"],
)
async def test_a_batch_with_one_wrong_message_sends_nothing(runtime: RingKernelRuntime, wrong: Any) -> None:
    await runtime.launch("k", ring_kernel("wm_sink", input_type=np.int32)(swallow))
    with pytest.raises(MessageTypeError):
        await runtime.send_batch("k", wrong)
    assert runtime.statistics("k").accepted == 0


async def test_the_error_names_the_type_and_the_message(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", ring_kernel("wm_sink", input_type=Tick)(swallow))
    with pytest.raises(MessageTypeError, match="Tick") as caught:
        await runtime.send("k", "a string")
    assert "a string" in str(caught.value)
    assert "price" in str(caught.value)


@pytest.mark.parametrize("wrong", [object, "no type", np.dtype("O"), np.dtype([("x", "O")]), np.str_, dict, 3.5])
def test_what_is_no_message_type_is_refused_at_the_declaration(wrong: Any) -> None:
    with pytest.raises(MessageTypeError):
        ring_kernel("wm_bad", input_type=wrong)(swallow)


def test_a_message_class_says_which_field_it_cannot_hold() -> None:
    with pytest.raises(MessageTypeError, match="names"):

        @message
        class Bad:
            price: float
            names: list[str]

    with pytest.raises(MessageTypeError, match="no fields"):

        @message
        class Empty:
            pass
