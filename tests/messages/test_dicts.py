"""A list of dicts is read column by column, and what comes of it is what comes of its messages one by one."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ringkernel import MessageTypeError
from ringkernel.messages.frames import reading
from ringkernel.messages.frames.fitted import numbers_for
from ringkernel.messages.types import MessageType

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = ("?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", "c16", "S3", "M8[s]", ("f4", (2,)), [("x", "i4")])
VALUES: tuple[Any, ...] = (
    0, 1, -1, True, False, 127, 128, 255, -129, 2**31, 2**53 + 1, 2**60 + 3, 2**63, 2**64 - 1, 2**64, 10**400,
    0.0, -0.0, 0.1, 1e-46, 1e39, 65520.0, math.inf, -math.inf, math.nan, 16777217, 2.0, 1j,
    None, "1", b"ab", b"abcd", np.float32(0.1), np.int64(3), np.bool_(True), (1, 2), [1.5, 2], {"x": 3}, {"x": None},
    np.datetime64(3, "s"),
)  # fmt: skip


def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every message be looked at by itself."""
    monkeypatch.setattr(reading, "_columns_of", lambda *_: None)


def made(dtype: Any, rows: list[Any], extra: str) -> Any:
    """The records as bytes, or what is said."""
    try:
        return reading.from_rows(MessageType(dtype), rows, extra).tobytes()
    except MessageTypeError as error:
        return str(error)


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_values_come_out_as_messages_or_are_refused_in_the_same_words(
    field: Any, monkeypatch: pytest.MonkeyPatch, random_cases: Callable[[int], int]
) -> None:
    draw, cases = random.Random(str(field)), []
    dtype = np.dtype([("a", field), ("b", "f8")])
    for _ in range(random_cases(3000)):
        some = draw.sample(VALUES, draw.choice([1, 1, 2, 3]))
        rows = [{"a": draw.choice(some), "b": draw.choice([1, 2.5])} for _ in range(draw.choice([1, 2, 5]))]
        if draw.random() < 0.1:
            draw.choice(rows)["c"] = 1
        if draw.random() < 0.1:
            del draw.choice(rows)["b"]
        extra = draw.choice(["refuse", "ignore"])
        cases.append((rows, extra, made(dtype, rows, extra)))
    in_turn(monkeypatch)
    for rows, extra, found in cases:
        assert found == made(dtype, rows, extra), (rows, extra)
    assert any(isinstance(found, bytes) for *_, found in cases)


def test_columns_are_what_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = np.dtype([("a", "i4"), ("b", "f4"), ("c", "?")])
    read: list[Any] = []

    def noted(dtype: np.dtype[Any], values: list[Any]) -> Any:
        read.append(values)
        return numbers_for(dtype, values)

    monkeypatch.setattr(reading, "numbers_for", noted)
    rows = [{"c": True, "b": 0.1, "a": 1}, {"a": 2, "b": 3, "c": False}]
    assert reading.from_rows(MessageType(dtype), rows, "refuse").tolist() == [
        (1, np.float32(0.1), True),
        (2, 3.0, False),
    ]
    assert read == [[1, 2], [0.1, 3], [True, False]]
