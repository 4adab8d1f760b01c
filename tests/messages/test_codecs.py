"""A value lies in a record as NumPy writes it, and comes out as it went in; what does not fit is refused."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from message_classes import MIXED, NESTED, TICK, Mixed, Nested, Tick

from ringkernel import MessageTypeError, Record, message
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.messages.codecs import codec
from ringkernel.messages.types import MessageType

# --- one message: against what NumPy writes --------------------------------------------------------------------------


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


TIMES = ["M8[ns]", "M8[us]", "M8[D]", "m8[ns]", "m8[25s]"]
INNER = [("a", "i1"), ("b", "f8"), ("c", "?")]
NESTED_FIELDS = [("f4", 3), ("i2", (2, 2)), ("?", 2), ("f8", 200), ("M8[us]", 2), ("c8", 2), (INNER, 2), INNER]
fields = st.sampled_from([*PLAIN, "c8", "c16", "g", "G", "S1", "S5", "S16", *TIMES, *NESTED_FIELDS])


def _record(parts: list[Any], align: bool) -> np.dtype[Any]:
    """A record of these fields, in this order."""
    return np.dtype([(f"f{i}", *(part if isinstance(part, tuple) else (part,))) for i, part in enumerate(parts)], align)


records = st.builds(_record, st.lists(fields, min_size=1, max_size=6), st.booleans())


def rows(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    """NumPy's records of any value that is no NaN, which would be equal to nothing."""
    size = dtype.itemsize

    def filled(seed: int) -> Any:
        row = np.random.default_rng(seed).integers(0, 256, size, np.uint8).view(dtype)
        _make_valid(row)
        return row[0]

    return st.integers(0, 2**32).map(filled)


def _make_valid(row: Any) -> None:
    """Replace what not every copy keeps: NaN, not-a-time, booleans other than 0 and 1, the padding of long doubles."""
    for name in row.dtype.names:
        part = row[name]
        if part.dtype.names:
            _make_valid(part)
        elif part.dtype.kind in "fc":
            part[...] = np.arange(part.size).reshape(part.shape) + 0.5
        elif part.dtype.kind in "mM":
            part.view(np.int64)[...] >>= 20
        elif part.dtype.kind == "b":
            part.view(np.uint8)[...] &= 1


def bytes_of(records: Any) -> Any:
    """The bytes of each field, without the padding."""
    if records.dtype.char in "gG":  # they have padding of their own
        return repr(records.tolist())
    if records.dtype.names is None:
        return records.tobytes()
    records = np.asarray(records)  # of a scalar's bytes NumPy leaves out the zeros at their end
    return [bytes_of(records[name]) for name in records.dtype.names]


@given(data=st.data(), dtype=records, sequence=st.integers(0, 2**40))
@settings(max_examples=300, deadline=None)
def test_all_forms_of_a_record_are_written_alike_and_come_back(
    data: st.DataObject, dtype: np.dtype[Any], sequence: int
) -> None:
    resolved = MessageType(dtype)
    given_row = data.draw(rows(dtype))
    expected = np.array([given_row], dtype).astype(resolved.dtype)
    own = expected[0]
    slots = np.zeros(4, resolved.dtype)
    encode, decode = codec(resolved, slots, 3)
    encode(sequence, given_row)
    received = decode(sequence)
    forms = [
        given_row,
        own,
        given_row.copy().view(np.dtype((np.record, dtype))),
        expected.view(np.recarray)[0],
        expected.reshape(()),
        np.array([given_row], dtype).reshape(()),
        received,
        tuple(received),
        received.item(),
        received.to_numpy(),
        tuple(own[name] for name in dtype.names or ()),
        *[given_row, own, given_row],  # in turn
    ]
    for form in forms:
        slots[:] = np.zeros(1, resolved.dtype)
        encode(sequence, form)
        assert bytes_of(slots[sequence & 3]) == bytes_of(own), form
        assert bytes_of(np.delete(slots, sequence & 3)) == bytes_of(np.zeros(3, resolved.dtype))
        assert decode(sequence) == received
    assert bytes_of(np.asarray(received)) == bytes_of(own)
    assert isinstance(received, Record)


def _plain_values(dtype: np.dtype[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(*(python_values(dtype[name]) for name in dtype.names or ()))


flat = st.builds(_record, st.lists(st.sampled_from(PLAIN), min_size=1, max_size=6), st.booleans())


@given(data=st.data(), dtype=flat, sequence=st.integers(0, 2**40))
def test_numbers_come_back_as_python_has_them(data: st.DataObject, dtype: np.dtype[Any], sequence: int) -> None:
    resolved = MessageType(dtype)
    value = data.draw(_plain_values(dtype))
    slots, expected = np.zeros(4, resolved.dtype), np.zeros(1, resolved.dtype)
    encode, decode = codec(resolved, slots, 3)
    encode(sequence, value)
    expected[0] = value
    assert bytes_of(slots[sequence & 3]) == bytes_of(expected[0])
    assert all(same(one, other) for one, other in zip(decode(sequence), value, strict=True))


@pytest.mark.parametrize("form", [*PLAIN, "c8", "c16"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_scalars_come_back_as_they_went_in(form: str, data: st.DataObject) -> None:
    resolved = MessageType(np.dtype(form))
    value = data.draw(python_values(np.dtype(form)))
    slots = np.zeros(2, resolved.dtype)
    encode, decode = codec(resolved, slots, 1)
    encode(5, value)
    assert same(decode(5), value)
    assert same(slots["value"][1], np.array(value, form)[()])
    assert slots["value"][0] == 0  # the neighbour is untouched


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_message_classes_come_back_as_instances(data: st.DataObject) -> None:
    values = [data.draw(python_values(MIXED[name])) for name in MIXED.names]
    resolved = MessageType(Mixed)
    slots = np.zeros(1, MIXED)
    encode, decode = codec(resolved, slots, 0)
    encode(0, Mixed(*values))
    back = decode(0)
    assert isinstance(back, Mixed)
    assert all(same(one, other) for one, other in zip(dataclasses.astuple(back), values, strict=True))


@given(
    values=hnp.arrays(np.float32, 3),
    matrix=hnp.arrays(np.int16, (2, 2)),
    phase=st.complex_numbers(),
    number=st.integers(-(2**31), 2**31 - 1),
)
@settings(max_examples=40, deadline=None)
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


def written(resolved: MessageType, value: Any, *, in_a_batch: bool = False) -> Any:
    """The bytes of the fields of a value, or that it is refused."""
    slots = np.zeros(1, resolved.dtype)
    try:
        if in_a_batch:
            slots = as_array(resolved, [value])
        else:
            codec(resolved, slots, 0)[0](0, value)
    except MessageTypeError:
        return "refused"
    return bytes_of(slots[0])


@functools.cache
def neighbours(form: str) -> list[tuple[MessageType, Any]]:
    """Message types with a field `x` of this form, and how its value becomes one of theirs."""
    beside = [("x", form), ("xs", "f4", 3), ("t", "M8[ns]")]
    cls: Any = message(type("Lone", (), {"__annotations__": {"x": np.dtype(form)}}))
    time, zeros = np.datetime64(0, "ns"), np.zeros(3, np.float32)
    ways: list[tuple[Any, Any]] = [
        (np.dtype(form), lambda value: value),
        (np.dtype([("x", form)]), lambda value: (value,)),
        (np.dtype(beside), lambda value: (value, zeros, time)),
        (np.dtype([("inner", beside)]), lambda value: ((value, zeros, time),)),
        (cls, cls),
    ]
    return [(MessageType(declared), wrap) for declared, wrap in ways]


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
@settings(max_examples=150, deadline=None)
def test_a_field_takes_the_same_values_whatever_stands_beside_it(form: str, value: Any) -> None:
    found = []
    for resolved, wrap in neighbours(form):
        for in_a_batch in (False, True):
            fields = written(resolved, wrap(value), in_a_batch=in_a_batch)
            while isinstance(fields, list):
                fields = fields[0]
            found.append(fields)
    assert len(set(found)) == 1


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
    assert written(MessageType(declared), value) == written(MessageType(declared), value, in_a_batch=True) == "refused"


@pytest.mark.parametrize("value", [1e300, -1e300, 1e39])
def test_a_number_that_is_too_large_for_a_small_float_is_refused_everywhere(value: float) -> None:
    for resolved, wrap in neighbours("f4"):
        assert written(resolved, wrap(value)) == "refused"
    for sent in ([value, 0.0, 0.0], np.array([value, 0.0, 0.0]), (0.0, value, 0.0)):
        assert written(MessageType(np.dtype([("xs", "f4", 3)])), (sent,)) == "refused"


DEEP = np.dtype([("a", "i1"), ("inner", [("x", "i4"), ("y", "?")]), ("xs", "i2", 3), ("t", "M8[ns]"), ("z", "c8")])
FITS = (1, (2, True), [1, 2, 3], np.datetime64(1, "ns"), 1j)


def told_by_struct(code: str, value: int) -> str:
    """What this Python's `struct` says of a value that it does not take: 3.13 says it in other words."""
    with pytest.raises(struct.error, match="format requires -128 <= number <= 127") as caught:
        struct.pack(code, value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, 300, f"field 'a': {told_by_struct('b', 300)}"),
        (0, 1.0, "field 'a': required argument is not an integer"),
        (0, None, "field 'a': required argument is not an integer"),
        (1, 5, "field 'inner': 5 is no record, tuple or dict of x, y"),
        (1, (1,), "field 'inner': 1 values instead of 2"),
        (1, (1.5, True), "field 'inner.x': required argument is not an integer"),
        (1, (1, 2), "field 'inner.y': 2 is no bool"),
        (1, np.array((1, 2.0), [("x", "i4"), ("z", "f8")])[()], "is no record, tuple or dict of x, y"),
        (1, np.array((2**40, True), [("x", "i8"), ("y", "?")])[()], "field 'inner.x': 'i' format requires"),
        (2, [1, 2], "field 'xs': shape (2,) instead of (3,)"),
        (2, [[1, 2, 3]], "field 'xs': shape (1, 3) instead of (3,)"),
        (2, 1, "field 'xs': shape () instead of (3,)"),
        (2, [1, 70000, 3], "field 'xs': 70000 at index 1 does not fit into int16"),
        (2, np.array([1, 70000, 3]), "field 'xs': 70000 at index 1 does not fit into int16"),
        (2, [1.0, 2.0, 3.0], "field 'xs': float64 is no int16"),
        (2, ["1", "2", "3"], "field 'xs': <U1 is no int16"),
        (2, [1, [2], 3], "field 'xs': setting an array element with a sequence"),
        (3, 5, "field 't': int64 is no datetime64[ns]"),
        (3, np.timedelta64(5, "ns"), "field 't': timedelta64[ns] is no datetime64[ns]"),
        (3, np.datetime64(2**62, "s"), "field 't': 146138514283-06-19T07:45:04 does not fit into datetime64[ns]"),
        (4, "1", "field 'z': <U1 is no complex64"),
        (4, 1e300, "field 'z': 1e+300 does not fit into complex64"),
        (4, 1e300j, "field 'z': 1e+300j does not fit into complex64"),
    ],
)
def test_a_refusal_names_the_field(place: int, value: Any, reason: str) -> None:
    resolved = MessageType(DEEP)
    slots = np.zeros(1, resolved.dtype)
    encode, _ = codec(resolved, slots, 0)
    encode(0, FITS)
    with pytest.raises(MessageTypeError, match=re.escape(reason)):
        encode(0, (*FITS[:place], value, *FITS[place + 1 :]))


TICK_DICT = {"id": 1, "price": 1.5, "buy": True}
DEEP_DICT = {"a": 1, "inner": {"y": True, "x": 2}, "xs": [1, 2, 3], "t": np.datetime64(1, "ns"), "z": 1j}


@pytest.mark.parametrize(
    ("declared", "value", "wanted"),
    [(Tick, dict(reversed(TICK_DICT.items())), Tick(1, 1.5, True)), (TICK, TICK_DICT, (1, 1.5, True))],
)
def test_a_dict_is_a_message_by_its_keys(declared: Any, value: Any, wanted: Any) -> None:
    encode, decode = codec(MessageType(declared), np.zeros(1, TICK), 0)
    encode(0, value)
    assert decode(0) == wanted


def test_a_dict_has_dicts_for_records_within_it() -> None:
    resolved = MessageType(DEEP)
    slots = np.zeros(2, resolved.dtype)
    encode, _ = codec(resolved, slots, 1)
    encode(0, FITS)
    encode(1, DEEP_DICT)
    assert slots[0].tobytes() == slots[1].tobytes()


@pytest.mark.parametrize(
    ("declared", "value", "reason"),
    [
        (Tick, {"id": 1, "price": 1.5}, "it has no 'buy'"),
        (Tick, {}, "it has no 'id', 'price', 'buy'"),
        (Tick, {**TICK_DICT, "venue": "A"}, "no field is called 'venue'"),
        (TICK, {"id": 1, "prize": 1.5, "buy": True}, "it has no 'price'; perhaps 'prize' is meant"),
        (Tick, {**TICK_DICT, "price": "1.5"}, "field 'price': required argument is not a float"),
        (DEEP, {**DEEP_DICT, "inner": {"x": 1}}, "field 'inner': it has no 'y'"),
        (DEEP, {**DEEP_DICT, "inner": {"x": 1.5, "y": True}}, "field 'inner.x': required argument is not an integer"),
    ],
)
def test_a_dict_that_is_no_message_says_which_key_is_wrong(declared: Any, value: Any, reason: str) -> None:
    resolved = MessageType(declared)
    encode, _ = codec(resolved, np.zeros(1, resolved.dtype), 0)
    with pytest.raises(MessageTypeError, match=f"{re.escape(reason)}$"):
        encode(0, value)


@pytest.mark.parametrize("value", [FITS[:3], (), (*FITS, 1)], ids=len)
def test_a_refusal_counts_the_fields(value: Any) -> None:
    encode, _ = codec(MessageType(DEEP), np.zeros(1, MessageType(DEEP).dtype), 0)
    with pytest.raises(MessageTypeError, match=f": {len(value)} values instead of 5$"):
        encode(0, value)


def test_records_of_other_names_are_refused_in_every_form() -> None:
    """A tuple goes by place; what has names goes by them, also where a dtype was given other names later."""
    resolved = MessageType(np.dtype([("a", "f8"), ("b", "f8")]))
    slots = np.zeros(1, resolved.dtype)
    encode, _ = codec(resolved, slots, 0)
    swapped = np.dtype([("b", "f8"), ("a", "f8")])
    other = MessageType(swapped)
    one = np.zeros(1, other.dtype)
    received = codec(other, one, 0)[1](0)
    for value in (one[0], one.reshape(()), one.view(np.recarray)[0], received, received.to_numpy()):
        with pytest.raises(MessageTypeError, match="expected a record, tuple or dict"):
            encode(0, value)
    renamed = np.zeros(1, [("a", "f8"), ("b", "f8")])
    encode(0, renamed[0])
    renamed.dtype.names = ("b", "a")
    with pytest.raises(MessageTypeError, match="expected a record, tuple or dict"):
        encode(0, renamed[0])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_array_of_records_is_no_record(count: int) -> None:
    resolved = MessageType(TICK)
    encode, _ = codec(resolved, np.zeros(1, TICK), 0)
    encode(0, np.zeros((), TICK))
    with pytest.raises(MessageTypeError, match="expected a record, tuple or dict"):
        encode(0, np.zeros(count, TICK))


def test_records_of_other_types_are_converted_where_nothing_is_lost() -> None:
    resolved = MessageType(np.dtype([("t", "M8[ns]"), ("x", "f8"), ("xs", "f4", 2)]))
    encode, decode = codec(resolved, np.zeros(1, resolved.dtype), 0)
    coarse = np.array([(np.datetime64(3, "s"), 4, [1, 2])], [("t", "M8[s]"), ("x", ">i2"), ("xs", ">f4", 2)])
    encode(0, coarse[0])
    assert decode(0) == (np.datetime64(3, "s"), 4.0, [1.0, 2.0])
    fine = np.array([(np.datetime64(3, "ps"), 4, [1, 2])], [("t", "M8[ps]"), ("x", "f8"), ("xs", "f4", 2)])
    with pytest.raises(MessageTypeError, match="field 't': .* does not fit"):
        encode(0, fine[0])


@pytest.mark.parametrize("form", TIMES)
def test_times_come_back_in_their_unit(form: str) -> None:
    dtype = np.dtype(form)
    cls: Any = message(type("Stamped", (), {"__annotations__": {"x": dtype}}))
    for declared, wrap in ((dtype, lambda value: value), (np.dtype([("x", form)]), lambda value: (value,)), (cls, cls)):
        resolved = MessageType(declared)
        slots = np.zeros(1, resolved.dtype)
        encode, decode = codec(resolved, slots, 0)
        for value in (np.array(5, form)[()], np.array("NaT", form)[()]):
            encode(0, wrap(value))
            back = decode(0)
            back = back if resolved.is_scalar else back.x
            assert (type(back), back.dtype) == (dtype.type, dtype)
            assert np.array_equal([back], [value], equal_nan=True)
            encode(0, wrap(back))


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
    cls: Any = message(type("Foreign", (), {"__annotations__": {"a": np.dtype(form)}}))
    assert cls.dtype["a"].isnative
    record = MessageType(np.dtype([("a", form), ("b", "i8")]))
    array = as_array(record, [(value, 1)])
    assert array["a"][0] == value
    assert record.dtype["a"].isnative
