"""Frames as arrays of records: columns are matched by the names of the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.errors import ConfigurationError, MessageTypeError
from ringkernel.messages.codecs import encoder
from ringkernel.messages.fitting import guess
from ringkernel.messages.types import MessageType

from .columns import Frame, plain
from .fitted import array_for, column_for, numbers_for

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = npt.NDArray[Any]
Path = tuple[str, ...]

BLOCK = 4096
"""Records that fit in the cache until all of their fields are written: 26 instead of 36 ms for a million of six."""
MOST_NAMES = 12
MISFITS = (ValueError, TypeError, OverflowError)


def check_extra(extra: str) -> None:
    """Refuse what is no way to treat columns without a field. Raises `ConfigurationError`."""
    if extra not in ("refuse", "ignore"):
        raise ConfigurationError(f"extra={extra!r}: columns that are no fields are to 'refuse' or to 'ignore'")


def from_frame(message_type: MessageType, values: Any, extra: str) -> Array | None:
    """Return the records of a frame, or of a column for a scalar type; None for what is neither. Raises
    `MessageTypeError`.

    Each column is copied once. That of a scalar type is not, where NumPy reads it in place and its dtype is the type's.
    """
    dtype = message_type.dtype
    try:
        found = plain(values)
        if found is None:
            return None
        if isinstance(found, Frame):
            parts = dict(_parts(dtype, found, (), (), extra))
            _check_lengths(parts)
        elif message_type.is_scalar:
            parts = {("value",): array_for(dtype["value"], found)}
        else:
            raise TypeError(f"it is one column; the fields are found by the names of several, {_listed(dtype.names)}")
    except MISFITS as error:
        where = f"no batch of {message_type.description} in this {_kind(values)}"
        raise MessageTypeError(f"{where}: {error}{_hint(message_type, error)}") from None
    return _records(dtype, parts)


def from_rows(message_type: MessageType, rows: list[Any], extra: str) -> Array:
    """Return the records of a list of dicts. Raises `MessageTypeError`."""
    dtype = message_type.dtype
    columns = _columns_of(dtype, rows, extra)
    if columns is not None:
        return _records(dtype, columns)
    result = np.zeros(len(rows), dtype)
    encode = encoder(MessageType(dtype), result, -1)  # by their names, also where the type is a class
    for i, row in enumerate(rows):
        try:
            encode(i, _row(dtype, row, (), extra))
        except (MessageTypeError, *MISFITS) as error:
            raise MessageTypeError(f"message {i}: {_missing_in(dtype, rows, i) or error}") from None
    return result


def _columns_of(dtype: np.dtype[Any], rows: list[Any], extra: str) -> dict[Path, Array] | None:
    """Return the columns of dicts that have Python's own numbers for fields that are numbers; None for any others, and
    where one does not fit: these are looked at one by one."""
    names = dtype.names or ()
    if {*map(type, rows)} != {dict} or (extra == "refuse" and {*map(len, rows)} != {len(names)}):
        return None
    columns: dict[Path, Array] = {}
    for name in names:
        try:
            values = [row[name] for row in rows]
        except KeyError:
            return None
        column = numbers_for(dtype[name], values)
        if column is None:
            return None
        columns[name,] = column
    return columns


class _NamesError(TypeError):
    """A frame has other columns than a type has fields."""


def _parts(
    dtype: np.dtype[Any], frame: Frame, path: Path, shape: tuple[int, ...], extra: str
) -> Iterator[tuple[Path, Array]]:
    """Yield the path of every field that is no record itself, and its column as an array of its dtype; of records that
    are items of arrays of this shape."""
    names = dtype.names or ()
    _check_names(names, frame, path, extra)
    for name in names:
        here = (*path, name)
        field = np.dtype((dtype[name].base, shape + dtype[name].shape))
        try:
            column = column_for(field, frame.column(name))
        except MISFITS as error:
            raise ValueError(f"column {_dotted(here)}: {error}") from None
        if not isinstance(column, Frame):
            yield here, column
        elif field.base.names is None:
            raise TypeError(f"column {_dotted(here)}: it has records ({column.kind}), and the field has none")
        else:
            yield from _parts(field.base, column, here, field.shape, extra)


def _check_names(names: Sequence[str], frame: Frame, path: Path, extra: str) -> None:
    """Match the names of fields and columns. Raises `_NamesError`."""
    columns = list(frame.names)
    known = {*columns, *frame.labels}
    missing = [name for name in names if name not in known]
    where = f" in {_dotted(path)}" if path else ""
    if missing:
        raise _NamesError(
            f"there is no column {_listed(missing)}{where} among {_listed(columns)}{guess(missing, known)}"
        )
    if extra == "refuse" and not set(names).issuperset(columns):
        others = [name for name in columns if name not in names]
        raise _NamesError(f'no field is called {_listed(others)}{where}; leave them out, or say extra="ignore"')
    for name in names:
        if columns.count(name) > 1:
            raise _NamesError(f"{columns.count(name)} columns are called {name!r}{where}")


def _check_lengths(parts: dict[Path, Array]) -> None:
    lengths = {path: len(array) for path, array in parts.items()}
    first = next(iter(lengths))
    for path, length in lengths.items():
        if length != lengths[first]:
            raise ValueError(f"column {_dotted(path)} has length {length}, and {_dotted(first)} {lengths[first]}")


def _records(dtype: np.dtype[Any], parts: dict[Path, Array]) -> Array:
    """Columns side by side as records."""
    first = next(iter(parts.values()))
    if len(parts) == 1 and first.ndim == 1 and first.dtype.itemsize == dtype.itemsize:
        return np.require(first, requirements=["C", "A"]).view(dtype)
    result = np.zeros(len(first), dtype)
    fields = [(_field(result, path), array) for path, array in parts.items()]
    for start in range(0, len(result), BLOCK):
        for field, array in fields:
            field[start : start + BLOCK] = array[start : start + BLOCK]
    return result


def _field(records: Array, path: Path) -> Array:
    for name in path:
        records = records[name]
    return records


def _row(dtype: np.dtype[Any], row: Any, path: Path, extra: str) -> tuple[Any, ...]:
    """Return a dict as a tuple of the fields' values."""
    names = dtype.names or ()
    if not isinstance(row, Mapping):
        raise TypeError(f"{row!r:.100} is no dict")
    if row.keys() != set(names):
        _check_names(names, Frame("dict", list(row), row.__getitem__), path, extra)
    return tuple(
        _row(dtype[name], row[name], (*path, name), extra)
        if dtype[name].names is not None and isinstance(row[name], Mapping)
        else row[name]
        for name in names
    )


def _missing_in(dtype: np.dtype[Any], rows: list[Any], first: int) -> str | None:
    """Return the first field that has no value in this row, and in how many it has none, as words for an error."""
    for name in dtype.names or ():
        absent = [i for i, row in enumerate(rows) if isinstance(row, Mapping) and name in row and row[name] is None]
        if first in absent:
            others = f" and in {len(absent) - 1} more" if len(absent) > 1 else ""
            return f"field {name!r} is None, here{others}; leave such rows out, or fill them"
    return None


# --- words ---------------------------------------------------------------------------------------------------


def _kind(values: Any) -> str:
    library = type(values).__module__.partition(".")[0]
    return type(values).__name__ if library == "builtins" else f"{library} {type(values).__name__}"


def _hint(message_type: MessageType, error: Exception) -> str:
    """Return, for a scalar type, the hint that it is one column, which needs no name."""
    is_about_names = message_type.is_scalar and isinstance(error, _NamesError)
    return f"; {message_type.name} is no record: give one column, or a list of its values" if is_about_names else ""


def _dotted(path: Path) -> str:
    return repr(".".join(path))


def _listed(names: Any) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown if len(shown) <= MOST_NAMES else [*shown[:MOST_NAMES], "…"]) or "none"
