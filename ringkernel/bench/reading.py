"""JSON into frozen dataclasses, every type checked: what is in a file may be anything."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

_LARGE = 1e300
"""Beyond it lie what JSON cannot say by itself (NaN, infinity) and sums that overflow."""


class UnreadableError(ValueError):
    """Something is not of the type that it should have; the message says where."""


def read(kind: Any, data: Any, where: str) -> Any:
    """`data`, called `where` in errors, as a value of a type: a dataclass, `tuple`, `Mapping`, `X | None` or plain one.

    Fields that the dataclass does not have are passed over, and those that are missing have their defaults. Raises
    `UnreadableError`.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any or (origin is types.UnionType and data is None):
        return data
    if origin is types.UnionType:
        return read(parts[0], data, where)
    if is_dataclass(kind):
        return _record(kind, data, where)
    if origin is tuple:
        return _tuple(parts, data, where)
    if origin is Mapping:
        _expect(isinstance(data, dict), "an object", data, where)
        return {name: read(parts[1], value, f"{where}.{name}") for name, value in data.items()}
    return _plain(kind, data, where)


def _plain(kind: Any, data: Any, where: str) -> Any:
    if kind is float:
        _expect(type(data) in (int, float) and abs(data) < _LARGE, "a number", data, where)
        return float(data)
    _expect(type(data) is kind, {str: "a text", bool: "true or false"}[kind], data, where)
    return data


def _record(kind: Any, data: Any, where: str) -> Any:
    _expect(isinstance(data, dict), "an object", data, where)
    given = {}
    for name, (hint, is_needed) in _fields(kind).items():
        if name in data:
            given[name] = read(hint, data[name], f"{where}.{name}")
        elif is_needed:
            raise UnreadableError(f"{where} has no {name!r}")
    return kind(**given)


def _tuple(parts: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list | tuple), "a list", data, where)
    if parts[-1] is Ellipsis:
        parts = parts[:1] * len(data)
    _expect(len(data) == len(parts), f"a list of {len(parts)}", data, where)
    return tuple(read(part, item, f"{where}[{i}]") for i, (part, item) in enumerate(zip(parts, data, strict=True)))


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Types by name, and whether there is no default."""
    hints = get_type_hints(kind)
    return {
        field.name: (hints[field.name], field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    }


def _expect(holds: bool, what: str, data: Any, where: str) -> None:
    if not holds:
        raise UnreadableError(f"{where} is {data!r:.80}, not {what}")
