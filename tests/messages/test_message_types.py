"""Which types messages may have, and how their records are laid out; what is none is refused by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from message_classes import MIXED, NESTED, TICK, Tick

from ringkernel import MessageTypeError, RingKernelError, message
from ringkernel.messages.types import MessageType

# --- the decorator ---------------------------------------------------------------------------------------------------


def test_a_message_class_is_a_dataclass_with_a_dtype() -> None:
    assert Tick(1, 2.0) == Tick(id=1, price=2.0, buy=False)
    assert [field.name for field in dataclasses.fields(Tick)] == ["id", "price", "buy"]
    assert np.dtype([("id", "i8"), ("price", "f8"), ("buy", "?")], align=True) == TICK


def test_records_are_aligned() -> None:
    offsets = {name: MIXED.fields[name][1] for name in MIXED.names}
    assert offsets == {"tiny": 0, "wide": 8, "half": 16, "single": 20, "flag": 24, "short": 26}
    assert MIXED.itemsize == 32
    assert NESTED["values"] == np.dtype((np.float32, (3,)))
    assert NESTED["matrix"] == np.dtype((np.int16, (2, 2)))


def test_a_dataclass_stays_what_it_was() -> None:
    @message
    @dataclasses.dataclass(frozen=True, slots=True)
    class Point:
        x: float
        y: float = 1.0

    assert Point(2.0).y == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point(2.0).x = 3.0  # type: ignore[misc]
    assert Point.dtype.names == ("x", "y")  # type: ignore[attr-defined]


def test_a_message_class_inherits_fields_and_adds_its_own() -> None:
    @message
    class Stamped(Tick):
        time: float = 0.0

    assert Stamped.dtype.names == ("id", "price", "buy", "time")  # type: ignore[attr-defined]
    assert Stamped(1, 2.0, True, 3.0).time == 3.0


def test_numpy_scalar_types_and_dtypes_are_field_types() -> None:
    @message
    class Wide:
        a: np.int64
        b: np.dtype("f4")  # type: ignore[valid-type]

    assert Wide.dtype == np.dtype([("a", "i8"), ("b", "f4")], align=True)  # type: ignore[attr-defined]


@pytest.mark.parametrize("hint", [str, bytes, list, list[float], object, np.object_, "np.str_", dict, None, np.ndarray])
def test_what_has_no_fixed_size_is_no_field_type(hint: Any) -> None:
    namespace = {"__annotations__": {"x": np.str_ if hint == "np.str_" else hint}}
    with pytest.raises(MessageTypeError) as caught:
        message(type("Bad", (), namespace))
    assert "Bad.x" in str(caught.value)


def test_a_class_without_fields_is_no_message() -> None:
    with pytest.raises(MessageTypeError, match="Empty has no fields"):

        @message
        class Empty:
            pass


# --- what may be declared --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "plain"),
    [
        (int, "i8"),
        (float, "f8"),
        (bool, "?"),
        (complex, "c16"),
        (np.float32, "f4"),
        ("u2", "u2"),
        (np.dtype("i1"), "i1"),
    ],
)
def test_a_scalar_type_is_a_record_of_one_value(declared: Any, plain: str) -> None:
    resolved = MessageType(declared)
    assert resolved.is_scalar
    assert resolved.cls is None
    assert resolved.dtype == np.dtype([("value", plain)])
    assert resolved.name == str(np.dtype(plain))


def test_a_packed_record_becomes_an_aligned_one() -> None:
    packed = np.dtype([("flag", "?"), ("inner", [("a", "i1"), ("b", "f8")]), ("many", "i1", (3,)), ("x", "f8")])
    resolved = MessageType(packed)
    assert not resolved.is_scalar
    inner = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    assert resolved.dtype == np.dtype([("flag", "?"), ("inner", inner), ("many", "i1", (3,)), ("x", "f8")], align=True)


def test_a_message_class_is_its_own_dtype() -> None:
    resolved = MessageType(Tick)
    assert (resolved.cls, resolved.is_scalar, resolved.dtype, resolved.name) == (Tick, False, TICK, "Tick")
    assert MessageType(resolved).cls is Tick
    assert resolved.matches(MessageType(TICK))
    assert not resolved.matches(MessageType(float))


@pytest.mark.parametrize(
    "declared",
    [
        str,
        object,
        list,
        "nonsense",
        np.dtype("U5"),
        np.dtype([("x", object)]),
        3,
        np.zeros(3),
        pytest.param(lambda: None, id="a function"),
        np.dtype([]),
    ],
    ids=repr,
)
def test_what_is_no_message_type_is_refused(declared: Any) -> None:
    with pytest.raises(MessageTypeError, match="no message type") as caught:
        MessageType(declared)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, RingKernelError)


def test_a_class_with_object_fields_is_refused() -> None:
    class Sneaky:
        dtype = np.dtype([("x", object)])

    with pytest.raises(MessageTypeError):
        MessageType(Sneaky)
