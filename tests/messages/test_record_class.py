"""What is received for a dtype is a named tuple and a value: it compares, is copied and pickled, and NumPy reads it."""

from __future__ import annotations

import copy
import gc
import json
import operator
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ringkernel import Record
from ringkernel.messages.codecs import codec
from ringkernel.messages.record_class import record_class
from ringkernel.messages.types import MessageType

QUOTE = np.dtype([("price", "f8"), ("volume", "i4"), ("live", "?")], align=True)
INNER = np.dtype([("x", "i4"), ("y", "f8")], align=True)
WAVE = np.dtype(
    [("n", "i2"), ("samples", "f4", 3), ("at", "M8[ns]"), ("inner", INNER), ("many", INNER, 2)],
    align=True,
)


def record_of(dtype: np.dtype[Any], value: Any) -> Any:
    """What comes out for a value that was sent."""
    resolved = MessageType(dtype)
    slots = np.zeros(1, resolved.dtype)
    encode, decode = codec(resolved, slots, 0)
    encode(0, value)
    record = decode(0)
    slots.view(np.uint8)[:] = 0xFF
    return record


@pytest.fixture
def quote() -> Any:
    return record_of(QUOTE, (1.5, 7, True))


@pytest.fixture
def wave() -> Any:
    many = np.array([(3, 4.0), (5, 6.0)], INNER)
    return record_of(WAVE, (1, [1.0, 2.0, 3.0], np.datetime64(9, "ns"), (7, 8.0), many))


def test_fields_are_attributes_and_items(quote: Any) -> None:
    assert (quote.price, quote.volume, quote.live) == (1.5, 7, True)
    assert (quote["price"], quote["volume"], quote["live"]) == (1.5, 7, True)
    assert (quote[0], quote[-1], quote[np.int64(1)], quote[1:]) == (1.5, True, 7, (7, True))
    assert [type(value) for value in quote] == [float, int, bool]
    price, volume, live = quote
    assert (price, volume, live) == (1.5, 7, True)
    assert len(quote) == 3
    assert 7 in quote
    match quote:
        case (price, 7, True):
            assert price == 1.5


def test_what_there_is_not_is_named(quote: Any) -> None:
    with pytest.raises(KeyError, match=r"no field is called 'cost'; there are price, volume, live"):
        quote["cost"]
    with pytest.raises(IndexError):
        quote[3]
    with pytest.raises(AttributeError, match="cost"):
        _ = quote.cost
    with pytest.raises(AttributeError):
        quote.price = 2.0
    with pytest.raises(AttributeError):
        quote.cost = 2.0


def test_it_says_what_it_is(quote: Any, wave: Any) -> None:
    assert repr(quote) == "Record(price=1.5, volume=7, live=True)"
    assert repr(wave.inner) == "Record(x=7, y=8.0)"
    assert quote.dtype == QUOTE
    assert wave.dtype == WAVE
    assert wave.inner.dtype == INNER


def test_it_equals_what_has_its_values(quote: Any) -> None:
    equal = [(1.5, 7, True), record_of(QUOTE, quote), np.array((1.5, 7, True), QUOTE)[()], quote.to_numpy()]
    other = [(1.5, 7, False), (1.5, 7), record_of(QUOTE, (2.5, 7, True)), np.array((1.5, 8, True), QUOTE)[()]]
    for value in equal:
        assert quote == value
        assert value == quote
        assert not operator.ne(quote, value)
    for value in (*other, 1.5, None, "x", [1.5, 7, True]):
        assert quote != value
        assert not operator.eq(quote, value)
    assert hash(quote) == hash((1.5, 7, True))
    assert {quote: 1}[1.5, 7, True] == 1


def test_with_arrays_it_equals_what_has_their_values(wave: Any) -> None:
    assert wave == record_of(WAVE, wave)
    assert wave == tuple(wave)
    assert tuple(wave) == wave
    assert wave == wave.to_numpy()
    assert wave == (1, [1.0, 2.0, 3.0], np.datetime64(9, "ns"), (7, 8.0), np.array([(3, 4.0), (5, 6.0)], INNER))
    assert not operator.ne(wave, record_of(WAVE, wave))
    assert wave != wave._replace(samples=np.zeros(3))
    assert wave != wave._replace(samples=np.zeros(2))
    assert wave != wave._replace(n=2)
    assert wave != wave[:-1]
    assert wave != None  # noqa: E711 (comparing is what is tested)
    with pytest.raises(TypeError, match="unhashable"):
        hash(wave)


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (our own)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_it_is_copied_and_pickled(again: Any, quote: Any, wave: Any) -> None:
    for record in (quote, wave):
        twin = again(record)
        assert twin == record
        assert type(twin) is type(record)
        assert twin.dtype == record.dtype


def test_numpy_reads_it(quote: Any, wave: Any) -> None:
    for record, dtype in ((quote, QUOTE), (wave, WAVE)):
        array = np.asarray(record)
        assert (array.shape, array.dtype) == ((), dtype)
        assert array == record
        batch = np.array([record, record])
        assert (batch.shape, batch.dtype) == ((2,), dtype)
        own = record.to_numpy()
        assert isinstance(own, np.record)
        assert own.dtype == dtype
    own = quote.to_numpy()
    own.price = 9.0
    assert (own.price, quote.price) == (9.0, 1.5)
    assert np.asarray(quote, np.dtype([("price", "f4"), ("volume", "i8"), ("live", "?")])).dtype["price"] == np.float32
    with pytest.raises(ValueError, match="copy"):
        quote.__array__(copy=False)


def test_it_is_a_named_tuple_to_others(quote: Any, wave: Any) -> None:
    assert quote._fields == ("price", "volume", "live")
    assert quote._asdict() == {"price": 1.5, "volume": 7, "live": True}
    assert quote._replace(volume=8) == (1.5, 8, True)
    assert type(quote._replace(volume=8)) is type(quote)
    with pytest.raises(ValueError, match="no field is called 'cost'"):
        quote._replace(cost=1)
    assert pd.DataFrame([quote, quote]).columns.tolist() == ["price", "volume", "live"]
    assert json.dumps(quote) == "[1.5, 7, true]"
    assert type(wave.item()[3]) is tuple
    assert wave.item()[3] == (7, 8.0)


def test_arrays_and_records_within_are_its_own(wave: Any) -> None:
    """The slots are overwritten before this looks, see `record_of`."""
    assert wave.samples.tolist() == [1.0, 2.0, 3.0]
    assert wave.samples.dtype == np.float32
    assert wave.at == np.datetime64(9, "ns")
    assert (wave.inner.x, wave.inner["y"]) == (7, 8.0)
    assert isinstance(wave.inner, Record)
    assert (wave.many[1].x, wave.many["y"].tolist()) == (5, [4.0, 6.0])
    wave.samples[0] = 5.0
    assert wave.samples[0] == 5.0


def test_a_field_wins_over_a_method_of_its_name() -> None:
    names = ["mean", "item", "dtype", "count", "index", "_fields", "to_numpy", "a b", "class", "__len__", "__class__"]
    record = record_of(np.dtype([(name, "i8") for name in names]), tuple(range(len(names))))
    for i, name in enumerate(names):
        assert record[name] == i
        assert name.startswith("__") or getattr(record, name) == i
    assert len(record) == len(names)
    assert isinstance(record, Record)
    assert pickled(record) == record
    assert np.asarray(record)["mean"] == 0


def test_a_record_of_many_fields_comes_back() -> None:
    dtype = np.dtype([(f"f{i}", "i4") for i in range(700)])
    record = record_of(dtype, tuple(range(700)))
    assert record == tuple(range(700))
    assert record.f699 == 699


def test_records_of_one_dtype_are_of_one_class_that_outlives_what_it_was_made_of() -> None:
    assert type(record_of(QUOTE, (1.5, 7, True))) is type(record_of(QUOTE, (2.5, 7, True)))
    cls: Any = record_class.__wrapped__(np.dtype([("a", "f8"), ("b", "f8")]))
    gc.collect()
    assert cls((1.0, 2.0)).b == 2.0
