"""Arrays and sequences become batches without a change to any value, or are refused with the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from message_classes import TICK, Nested, Tick

from ringkernel import MessageTypeError
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.messages.codecs import codec
from ringkernel.messages.types import MessageType


def test_an_array_of_the_type_is_taken_as_it_is() -> None:
    for resolved in (MessageType(Tick), MessageType(TICK), MessageType(np.int64)):
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
    array = np.rec.array([(1, 2.0, True)], dtype=TICK)
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
        (TICK, [("id", "i4"), ("price", "f8"), ("buy", "?")], "array.astype(dtype)"),
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
    dtype = resolved.dtype["value"] if resolved.is_scalar else resolved.dtype
    mended = array[list(TICK.names)] if "[[" in remedy else array.astype(dtype)
    assert len(as_array(resolved, mended)) == 2


def test_a_table_is_taken_as_its_records_are() -> None:
    table = pd.DataFrame({"id": [1], "price": [2.0], "buy": [True]})
    for records in (table, table.to_records(index=False)):
        assert as_array(MessageType(Tick), records).tolist() == [(1, 2.0, True)]
    for column in (table["price"], table["price"].to_numpy()):
        assert as_array(MessageType(float), column)["value"].tolist() == [2.0]


@pytest.mark.parametrize("value", [{"id": 1}, (1,), [1, 2.0, True]])
def test_a_refusal_says_it_once(value: Any) -> None:
    resolved = MessageType(TICK)
    encode, _ = codec(resolved, np.zeros(1, resolved.dtype), 0)
    with pytest.raises(MessageTypeError) as caught:
        encode(0, value)
    assert str(caught.value).count("expected a record") == 1


@given(values=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans()), max_size=20))
@settings(max_examples=40, deadline=None)
def test_sequences_of_messages_become_arrays(values: list[tuple[int, float, bool]]) -> None:
    expected = np.array(values, TICK).reshape(-1)
    for array in (
        as_array(MessageType(Tick), [Tick(*row) for row in values]),
        as_array(MessageType(TICK), values),
        as_array(MessageType(TICK), iter(values)),
        as_array(MessageType(TICK), list(expected)),
    ):
        assert all(array[name].tobytes() == expected[name].tobytes() for name in TICK.names)


@pytest.mark.parametrize("values", [[], (), iter([]), np.zeros(0)], ids=["list", "tuple", "iterator", "array"])
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
    rows = [
        Nested(np.int32(i), np.full(3, i, np.float32), np.full((2, 2), i, np.int16), complex(i, -i)) for i in range(4)
    ]
    array = as_array(resolved, rows)
    assert array["values"].tolist() == [[float(i)] * 3 for i in range(4)]
    assert array["phase"].tolist() == [complex(i, -i) for i in range(4)]
    assert from_array(resolved, array) is array
