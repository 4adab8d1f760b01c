"""Message types: what may be declared, and how Python values get into records and out again."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ringkernel import MessageTypeError, RingKernelError, message
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.messages.codecs import codec, from_record, slow_decode, slow_encode
from ringkernel.messages.types import MessageType


@message
class Tick:
    id: int
    price: float
    buy: bool = False


@message
class Mixed:
    tiny: np.int8
    wide: np.uint64
    half: np.float16
    single: np.float32
    flag: np.bool_
    short: np.uint16


@message
class Nested:
    id: np.int32
    values: Annotated[npt.NDArray[np.float32], 3]
    matrix: Annotated[npt.NDArray[np.int16], (2, 2)]
    phase: complex


# --- the decorator -----------------------------------------------------------------------------------------------


def test_a_message_class_is_a_dataclass_with_a_dtype() -> None:
    assert Tick(1, 2.0) == Tick(id=1, price=2.0, buy=False)
    assert [field.name for field in dataclasses.fields(Tick)] == ["id", "price", "buy"]  # type: ignore[arg-type]
    assert Tick.dtype == np.dtype([("id", "i8"), ("price", "f8"), ("buy", "?")], align=True)


def test_records_are_aligned() -> None:
    offsets = {name: Mixed.dtype.fields[name][1] for name in Mixed.dtype.names}
    assert offsets == {"tiny": 0, "wide": 8, "half": 16, "single": 20, "flag": 24, "short": 26}
    assert Mixed.dtype.itemsize == 32
    assert Nested.dtype["values"] == np.dtype((np.float32, (3,)))
    assert Nested.dtype["matrix"] == np.dtype((np.int16, (2, 2)))


def test_a_dataclass_stays_what_it_was() -> None:
    @message
    @dataclasses.dataclass(frozen=True, slots=True)
    class Point:
        x: float
        y: float = 1.0

    assert Point(2.0).y == 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        Point(2.0).x = 3.0  # type: ignore[misc]
    assert Point.dtype.names == ("x", "y")


def test_a_message_class_inherits_fields_and_adds_its_own() -> None:
    @message
    class Stamped(Tick):
        time: float = 0.0

    assert Stamped.dtype.names == ("id", "price", "buy", "time")
    assert Stamped(1, 2.0, True, 3.0).time == 3.0


def test_numpy_scalar_types_and_dtypes_are_field_types() -> None:
    @message
    class Wide:
        a: np.int64
        b: np.dtype("f4")  # type: ignore[valid-type]

    assert Wide.dtype == np.dtype([("a", "i8"), ("b", "f4")], align=True)


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


# --- what may be declared ----------------------------------------------------------------------------------------


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
    assert resolved.scalar
    assert resolved.cls is None
    assert resolved.dtype == np.dtype([("value", plain)])
    assert resolved.name == str(np.dtype(plain))


def test_a_packed_record_becomes_an_aligned_one() -> None:
    packed = np.dtype([("flag", "?"), ("inner", [("a", "i1"), ("b", "f8")]), ("many", "i1", (3,)), ("x", "f8")])
    resolved = MessageType(packed)
    assert not resolved.scalar
    inner = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    assert resolved.dtype == np.dtype([("flag", "?"), ("inner", inner), ("many", "i1", (3,)), ("x", "f8")], align=True)


def test_a_message_class_is_its_own_dtype() -> None:
    resolved = MessageType(Tick)
    assert (resolved.cls, resolved.scalar, resolved.dtype, resolved.name) == (Tick, False, Tick.dtype, "Tick")
    assert MessageType(resolved).cls is Tick
    assert resolved.matches(MessageType(Tick.dtype))
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
        lambda: None,
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


# --- one message: the fast path against NumPy --------------------------------------------------------------------

PLAIN = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]


def python_values(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """Python values that a field of this type holds exactly."""
    if dtype.kind == "?" or dtype.kind == "b":
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
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
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
    values = [data.draw(python_values(Mixed.dtype[name])) for name in Mixed.dtype.names]
    resolved = MessageType(Mixed)
    slots = np.zeros(1, Mixed.dtype)
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
    slots = np.zeros(2, Nested.dtype)
    encode, decode = codec(resolved, slots, 1)
    encode(3, Nested(np.int32(number), values, matrix, phase))
    back = decode(3)
    assert isinstance(back, Nested)
    assert (back.id, type(back.id)) == (number, int)
    assert same(back.values, values)
    assert same(back.matrix, matrix)
    assert same(back.phase, phase)
    slots[:] = np.zeros(1, Nested.dtype)
    assert same(back.values, values)  # a message keeps what it holds


def test_what_was_decoded_does_not_change_with_the_slot() -> None:
    for resolved in (MessageType(Tick.dtype), MessageType(Nested.dtype)):
        slots = np.zeros(1, resolved.dtype)
        slots["id"] = 1
        _, decode = codec(resolved, slots, 0)
        record = decode(0)
        slots["id"] = 2
        assert record.id == record["id"] == 1


def test_records_give_fields_as_attributes_and_by_name() -> None:
    resolved = MessageType(Tick.dtype)
    slots = np.zeros(1, resolved.dtype)
    encode, decode = codec(resolved, slots, 0)
    for value in ((3, 1.5, True), np.array([(3, 1.5, True)], Tick.dtype)[0], np.array((3, 1.5, True), Tick.dtype)):
        slots[:] = np.zeros(1, Tick.dtype)
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


# --- what does not fit -------------------------------------------------------------------------------------------


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
    (Tick.dtype, (1, 2.0)),
    (Tick.dtype, (1, 2.0, True, 4)),
    (Tick.dtype, 5),
    (Tick.dtype, [1, 2.0, True]),
    (Tick.dtype, "abc"),
    (Tick.dtype, Tick(1, 2.0)),
    (Tick.dtype, (1.5, 2.0, True)),
    (Nested.dtype, 5),
    (Nested.dtype, (1, 2.0)),
    (Nested.dtype, "abc"),
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


# --- many messages -----------------------------------------------------------------------------------------------


def test_an_array_of_the_type_is_taken_as_it_is() -> None:
    for resolved in (MessageType(Tick), MessageType(Tick.dtype), MessageType(np.int64)):
        array = np.zeros(5, resolved.dtype)
        assert np.shares_memory(as_array(resolved, array), array)
    plain = np.arange(5.0)
    taken = as_array(MessageType(np.float64), plain)
    assert np.shares_memory(taken, plain)
    assert taken["value"].tolist() == plain.tolist()
    assert from_array(MessageType(np.float64), taken).tolist() == plain.tolist()


def test_a_plain_array_is_converted_only_when_nothing_is_lost() -> None:
    assert as_array(MessageType(np.float64), np.arange(3, dtype=np.int32))["value"].tolist() == [0.0, 1.0, 2.0]
    for given_dtype, declared in (("f8", np.int64), ("i8", np.int32), ("f8", np.float32), ("c16", np.float64)):
        with pytest.raises(MessageTypeError, match=given_dtype[0]):
            as_array(MessageType(declared), np.zeros(3, given_dtype))


def test_strided_and_packed_arrays_become_contiguous() -> None:
    strided = np.arange(10.0)[::3]
    assert as_array(MessageType(np.float64), strided)["value"].tolist() == [0.0, 3.0, 6.0, 9.0]
    packed = np.array([(True, 1.5), (False, 2.5)], [("flag", "?"), ("x", "f8")])
    resolved = MessageType(packed.dtype)
    taken = as_array(resolved, packed)
    assert taken.dtype == resolved.dtype
    assert taken.flags.c_contiguous
    assert taken["x"].tolist() == [1.5, 2.5]
    assert as_array(resolved, taken[::2])["x"].tolist() == [1.5]


def test_record_arrays_are_arrays() -> None:
    array = np.rec.array([(1, 2.0, True)], dtype=Tick.dtype)
    assert as_array(MessageType(Tick), array)["price"].tolist() == [2.0]


@pytest.mark.parametrize("shape", [(), (2, 2), (1, 3)])
def test_only_one_dimension_is_a_batch(shape: tuple[int, ...]) -> None:
    with pytest.raises(MessageTypeError, match="1-D"):
        as_array(MessageType(np.float64), np.zeros(shape))


@pytest.mark.parametrize("names", [("x", "y", "z"), ("price", "id", "buy")])
def test_other_fields_are_another_type(names: tuple[str, ...]) -> None:
    other = np.zeros(2, np.dtype([(name, "f8") for name in names]))
    with pytest.raises(MessageTypeError, match="expected an array of"):
        as_array(MessageType(Tick), other)


@pytest.mark.parametrize(
    ("declared", "given_dtype", "remedy"),
    [
        (Tick, [("id", "i4"), ("price", "f8"), ("buy", "?")], "array.astype(Tick.dtype)"),
        (Tick.dtype, [("id", "i4"), ("price", "f8"), ("buy", "?")], "array.astype(dtype)"),
        (Tick, [("price", "f8"), ("id", "i8"), ("buy", "?")], "array[['id', 'price', 'buy']]"),
        (Tick, [("id", "i8"), ("price", "f8"), ("buy", "?"), ("more", "f8")], "array[['id', 'price', 'buy']]"),
        (np.float32, "f8", "array.astype(np.float32)"),
    ],
)
def test_an_array_of_another_dtype_is_refused_with_the_remedy(declared: Any, given_dtype: Any, remedy: str) -> None:
    array = np.zeros(2, given_dtype)
    resolved = MessageType(declared)
    with pytest.raises(MessageTypeError) as caught:
        as_array(resolved, array)
    assert str(caught.value).endswith(f"`{remedy}`")
    dtype = resolved.dtype["value"] if resolved.scalar else resolved.dtype
    mended = array[list(Tick.dtype.names)] if "[[" in remedy else array.astype(dtype)
    assert len(as_array(resolved, mended)) == 2


def test_a_table_is_refused_with_the_way_to_its_records() -> None:
    table = pd.DataFrame({"id": [1], "price": [2.0], "buy": [True]})
    with pytest.raises(MessageTypeError, match="DataFrame; its records are"):
        as_array(MessageType(Tick), table)
    assert as_array(MessageType(Tick), table.to_records(index=False))["price"].tolist() == [2.0]
    assert as_array(MessageType(float), table["price"].to_numpy())["value"].tolist() == [2.0]


@pytest.mark.parametrize("value", [{"id": 1}, (1,), [1, 2.0, True]])
def test_a_refusal_says_it_once(value: Any) -> None:
    resolved = MessageType(Tick.dtype)
    encode, _ = codec(resolved, np.zeros(1, resolved.dtype), 0)
    with pytest.raises(MessageTypeError) as caught:
        encode(0, value)
    assert str(caught.value).count("expected a record") == 1


@given(values=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans()), max_size=20))
@settings(max_examples=40)
def test_sequences_of_messages_become_arrays(values: list[tuple[int, float, bool]]) -> None:
    expected = np.array(values, Tick.dtype).reshape(-1)
    for array in (
        as_array(MessageType(Tick), [Tick(*row) for row in values]),
        as_array(MessageType(Tick.dtype), values),
        as_array(MessageType(Tick.dtype), iter(values)),
        as_array(MessageType(Tick.dtype), list(expected)),
    ):
        assert all(array[name].tobytes() == expected[name].tobytes() for name in Tick.dtype.names)


@pytest.mark.parametrize("values", [[], (), iter([]), np.zeros(0)], ids=repr)
def test_no_messages_are_an_empty_array(values: Any) -> None:
    array = as_array(MessageType(np.float64), values)
    assert (array.shape, array.dtype) == ((0,), np.dtype([("value", "f8")]))


@pytest.mark.parametrize("values", [5, None, 2.5, object()], ids=lambda v: type(v).__name__)
def test_what_is_no_sequence_is_no_batch(values: Any) -> None:
    with pytest.raises(MessageTypeError, match="expected an array or a sequence"):
        as_array(MessageType(np.float64), values)


def test_a_batch_names_the_message_that_does_not_fit() -> None:
    with pytest.raises(MessageTypeError, match="'wrong'"):
        as_array(MessageType(np.float64), [1.0, "wrong", 3.0])


def test_arrays_of_nested_records_keep_their_arrays() -> None:
    resolved = MessageType(Nested)
    rows = [Nested(i, np.full(3, i, np.float32), np.full((2, 2), i, np.int16), complex(i, -i)) for i in range(4)]
    array = as_array(resolved, rows)
    assert array["values"].tolist() == [[float(i)] * 3 for i in range(4)]
    assert array["phase"].tolist() == [complex(i, -i) for i in range(4)]
    assert from_array(resolved, array) is array
