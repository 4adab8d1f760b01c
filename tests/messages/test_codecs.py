"""A value that goes into a record comes out the same, by the fast path and by NumPy's; what does not fit is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from message_classes import MIXED, NESTED, TICK, Mixed, Nested, Tick

from ringkernel import MessageTypeError
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.messages.codecs import codec, from_record, slow_decode, slow_encode
from ringkernel.messages.types import MessageType

# --- one message: the fast path against NumPy ------------------------------------------------------------------------


PLAIN = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def python_values(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Python values that a field of this type holds exactly."""
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return st.integers(int(limits.min), int(limits.max))
    width = 8 * dtype.itemsize
    if dtype.kind == "f":
        return st.floats(width=width)  # type: ignore[arg-type]
    return st.complex_numbers(width=width)  # type: ignore[arg-type]


def same(one: Any, other: Any) -> bool:
    """Equal, NaN being equal to itself and the sign of zero counting."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, complex) and isinstance(other, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, np.ndarray | np.generic):
        return bool(one.dtype == other.dtype and one.tobytes() == other.tobytes())
    return type(one) is type(other) and bool(one == other)


records = st.lists(st.sampled_from(PLAIN), min_size=1, max_size=6).map(
    lambda formats: np.dtype([(f"f{i}", form) for i, form in enumerate(formats)], align=True)
)


@given(data=st.data(), dtype=records, sequence=st.integers(0, 2**40))
def test_both_paths_write_and_read_the_same_record(data: st.DataObject, dtype: np.dtype[Any], sequence: int) -> None:
    resolved = MessageType(dtype)
    value = tuple(data.draw(python_values(dtype[name])) for name in dtype.names or ())
    fast, slow = np.zeros(4, resolved.dtype), np.zeros(4, resolved.dtype)
    encode, decode = codec(resolved, fast, 3)
    assert resolved.struct_format is not None
    encode(sequence, value)
    slow[sequence & 3] = value
    for name in dtype.names or ():
        assert fast[name].tobytes() == slow[name].tobytes()
    out = decode(sequence)
    assert isinstance(out, np.record)
    assert all(same(one, other) for one, other in zip(out.item(), value, strict=True))
    encode_slow, decode_slow = slow_encode(resolved, slow, 3), slow_decode(resolved, fast, 3)
    encode_slow(sequence, value)
    assert fast.tobytes() == slow.tobytes() or _same_but_padding(fast, slow)
    assert all(same(one, other) for one, other in zip(decode_slow(sequence).item(), value, strict=True))


def _same_but_padding(one: Any, other: Any) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one.dtype.names)


@pytest.mark.parametrize("form", [*PLAIN, "c8", "c16"])
@given(data=st.data())
@settings(max_examples=40)
def test_scalars_come_back_as_they_went_in(form: str, data: st.DataObject) -> None:
    resolved = MessageType(np.dtype(form))
    value = data.draw(python_values(np.dtype(form)))
    slots = np.zeros(2, resolved.dtype)
    encode, decode = codec(resolved, slots, 1)
    encode(5, value)
    assert same(decode(5), value)
    assert same(from_record(resolved, slots[1:2].copy()), value)
    assert same(slots["value"][1], np.array(value, form)[()])
    assert slots["value"][0] == 0  # the neighbour is untouched


@given(data=st.data())
@settings(max_examples=60)
def test_message_classes_come_back_as_instances(data: st.DataObject) -> None:
    values = [data.draw(python_values(MIXED[name])) for name in MIXED.names]
    resolved = MessageType(Mixed)
    slots = np.zeros(1, MIXED)
    encode, decode = codec(resolved, slots, 0)
    encode(0, Mixed(*values))
    for back in (decode(0), from_record(resolved, slots.copy()), slow_decode(resolved, slots, 0)(0)):
        assert isinstance(back, Mixed)
        assert all(same(one, other) for one, other in zip(dataclasses.astuple(back), values, strict=True))


@given(
    values=hnp.arrays(np.float32, 3),
    matrix=hnp.arrays(np.int16, (2, 2)),
    phase=st.complex_numbers(),
    number=st.integers(-(2**31), 2**31 - 1),
)
@settings(max_examples=40)
def test_nested_arrays_and_complex_numbers_come_back(values: Any, matrix: Any, phase: complex, number: int) -> None:
    resolved = MessageType(Nested)
    slots = np.zeros(2, NESTED)
    encode, decode = codec(resolved, slots, 1)
    encode(3, Nested(np.int32(number), values, matrix, phase))
    back: Any = decode(3)
    assert isinstance(back, Nested)
    assert back.id == number
    assert type(back.id) is int  # type: ignore[comparison-overlap]
    assert same(back.values, values)
    assert same(back.matrix, matrix)
    assert same(back.phase, phase)
    slots[:] = np.zeros(1, NESTED)
    assert same(back.values, values)  # a message keeps what it holds


def test_what_was_decoded_does_not_change_with_the_slot() -> None:
    for resolved in (MessageType(TICK), MessageType(NESTED)):
        slots = np.zeros(1, resolved.dtype)
        slots["id"] = 1
        _, decode = codec(resolved, slots, 0)
        record = decode(0)
        slots["id"] = 2
        assert record.id == record["id"] == 1


def test_records_give_fields_as_attributes_and_by_name() -> None:
    resolved = MessageType(TICK)
    slots = np.zeros(1, resolved.dtype)
    encode, decode = codec(resolved, slots, 0)
    for value in ((3, 1.5, True), np.array([(3, 1.5, True)], TICK)[0], np.array((3, 1.5, True), TICK)):
        slots[:] = np.zeros(1, TICK)
        encode(0, value)
        record = decode(0)
        assert (record.id, record["price"], record.buy) == (3, 1.5, True)


NUMPY_VALUES = [np.int8(5), np.uint64(5), np.float32(5.0), np.float64(5.0), np.bool_(True), True, 5]


@pytest.mark.parametrize("value", NUMPY_VALUES, ids=repr)
def test_numpy_scalars_are_numbers(value: Any) -> None:
    resolved = MessageType(np.float64)
    slots = np.zeros(1, resolved.dtype)
    encode, decode = codec(resolved, slots, 0)
    encode(0, value)
    assert decode(0) == float(value)


@pytest.mark.parametrize("value", [np.int8(1), np.uint64(1), True], ids=repr)
def test_numpy_integers_and_booleans_fit_into_integers(value: Any) -> None:
    for resolved in (MessageType(np.int64), MessageType(np.uint8)):
        slots = np.zeros(1, resolved.dtype)
        encode, decode = codec(resolved, slots, 0)
        encode(0, value)
        assert decode(0) == 1


# --- what does not fit -----------------------------------------------------------------------------------------------


def outcomes(declared: Any, value: Any) -> set[str]:
    """What each way in makes of a value: the bytes of its fields, or a refusal. There should be one answer."""
    fast, slow = MessageType(declared), MessageType(declared)
    slow.struct_format = None  # as if there were a nested array beside it
    found = set()
    for resolved in (fast, slow):
        slots = np.zeros(1, resolved.dtype)
        encode, _ = codec(resolved, slots, 0)
        try:
            encode(0, value)
            found.add(" ".join(slots[name].tobytes().hex() for name in resolved.dtype.names or ()))
        except MessageTypeError:
            found.add("refused")
        try:
            array = as_array(resolved, [value])
            found.add(" ".join(array[name].tobytes().hex() for name in resolved.dtype.names or ()))
        except MessageTypeError:
            found.add("refused")
    return found


anything = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 3),
    st.floats(width=16),
    st.booleans(),
    st.sampled_from(["i1", "u1", "i4", "u8", "f2", "f4", "f8", "?"]).flatmap(
        lambda form: python_values(np.dtype(form)).map(np.dtype(form).type)
    ),
    st.sampled_from([None, "1", b"1", 1j, np.complex64(1), (1,), [1], {1: 1}, np.zeros(1), np.array(1), object()]),
)


@pytest.mark.parametrize("form", PLAIN)
@given(value=anything)
@settings(max_examples=150)
def test_a_field_takes_the_same_values_whatever_stands_beside_it(form: str, value: Any) -> None:
    """`struct` packs flat records, NumPy the others; what a user may send does not depend on that."""
    assert len(outcomes(np.dtype(form), value)) == 1


WRONG = [
    (np.int64, 1.5),
    (np.int64, "1"),
    (np.int64, None),
    (np.int64, 2**63),
    (np.int8, 128),
    (np.uint8, -1),
    (np.uint64, 2**64),
    (np.float64, "x"),
    (np.float64, None),
    (np.float64, 1j),
    (np.float64, [1.0, 2.0]),
    (np.complex128, "x"),
    (Tick, (1, 2.0, True)),
    (Tick, 5),
    (Tick, Tick("x", 1.0)),  # type: ignore[arg-type]
    (Tick, Tick(1.5, 1.0)),  # type: ignore[arg-type]
    (Tick, Mixed(1, 1, 1.0, 1.0, True, 1)),  # type: ignore[arg-type]
    (Nested, Nested(1, [1.0, 2.0], np.zeros((2, 2)), 0j)),  # type: ignore[arg-type]
    (Nested, (1, 2, 3, 4)),
    (Nested, Nested(1.5, np.zeros(3), np.zeros((2, 2)), 0j)),  # type: ignore[arg-type]
    (TICK, (1, 2.0)),
    (TICK, (1, 2.0, True, 4)),
    (TICK, 5),
    (TICK, [1, 2.0, True]),
    (TICK, "abc"),
    (TICK, Tick(1, 2.0)),
    (TICK, (1.5, 2.0, True)),
    (NESTED, 5),
    (NESTED, (1, 2.0)),
    (NESTED, "abc"),
]


@pytest.mark.parametrize(("declared", "value"), WRONG, ids=lambda v: repr(v)[:40])
def test_what_does_not_fit_is_refused_and_named(declared: Any, value: Any) -> None:
    resolved = MessageType(declared)
    slots = np.zeros(1, resolved.dtype)
    encode, _ = codec(resolved, slots, 0)
    with pytest.raises(MessageTypeError) as caught:
        encode(0, value)
    assert resolved.name in str(caught.value)
    with pytest.raises(MessageTypeError):
        as_array(resolved, [value])


@pytest.mark.parametrize(("declared", "value"), WRONG, ids=lambda v: repr(v)[:40])
def test_all_ways_in_refuse_the_same(declared: Any, value: Any) -> None:
    assert outcomes(declared, value) == {"refused"}


@pytest.mark.parametrize("value", [1e300, -1e300, 1e39])
def test_a_number_that_is_too_large_for_a_small_float_is_treated_alike_everywhere(value: float) -> None:
    assert len(outcomes(np.float32, value)) == 1


@pytest.mark.parametrize("form", [">f8", ">i4", ">u2"])
def test_a_foreign_byte_order_becomes_the_native_one(form: str) -> None:
    value = 258
    scalar = MessageType(np.dtype(form))
    slots = np.zeros(1, scalar.dtype)
    encode, decode = codec(scalar, slots, 0)
    encode(0, value)
    assert decode(0) == value
    assert from_array(scalar, slots).tolist() == [value]
    assert scalar.dtype["value"].isnative
    record = MessageType(np.dtype([("a", form), ("b", "i8")]))
    array = as_array(record, [(value, 1)])
    assert array["a"][0] == value
    assert record.dtype["a"].isnative
