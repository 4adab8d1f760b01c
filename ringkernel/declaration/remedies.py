"""Suggest a state that a kernel could have, as the end of an error."""

from __future__ import annotations

import numbers
from datetime import date
from typing import Any

import numpy as np

MOST_FIELDS = 8
_KINDS = {bool: "?", int: "i8", float: "f8", complex: "c16"}


def other_dtype(state: np.ndarray[Any, Any]) -> str:
    """Suggest a dtype for an array of objects."""
    names = state.dtype.names
    if names is not None:
        held = next(name for name in names if state.dtype[name].hasobject)
        kept = {name: "f8" if name == held else state.dtype[name].str for name in names}
        return f"its field {held!r} needs another dtype, as in `{_written(kept)}`"
    values = [value for value in state.ravel().tolist() if value is not None]
    if not values:
        return "give it the dtype of its values, as in `np.zeros(n)`"
    if all(isinstance(value, numbers.Number) for value in values):
        is_full = len(values) == state.size
        kinds = {bool: "bool_", numbers.Integral: "int64"} if is_full else {}
        kind = next((name for kind, name in kinds.items() if all(isinstance(one, kind) for one in values)), "float64")
        return f"convert it, as in `array.astype(np.{kind})`{'' if is_full else ', which makes NaN of None'}"
    if all(isinstance(value, date) for value in values):
        return 'convert it, as in `array.astype("M8[us]")`'
    return _of_objects(values[0], state.shape)


def instead_of(state: Any) -> str:
    """Suggest a state in place of something that is neither an array nor a record, or return ""."""
    if isinstance(state, numbers.Number | np.bool_) or (isinstance(state, np.ndarray) and state.dtype.kind in "biufc"):
        return f": `np.array([{state}])`, which the handler knows as `state[0]`"
    if isinstance(state, type):
        return f": `{state.__name__}()`" if isinstance(getattr(state, "dtype", None), np.dtype) else ""
    if isinstance(state, list | tuple) and state:
        if all(isinstance(value, numbers.Number) for value in state):
            return f": `np.array({list(state)!r:.60})`"
        return f"; {_of_objects(state[0], (len(state),))}"
    return f"; {_of_objects(state, (1,))}" if isinstance(state, dict) or hasattr(state, "__dict__") else ""


def _of_objects(value: Any, shape: tuple[int, ...]) -> str:
    """Return an array of records with what an object or a dict has of numbers."""
    size = str(shape[0] if len(shape) == 1 else shape)
    if isinstance(getattr(type(value), "dtype", None), np.dtype) and not isinstance(value, np.generic):
        return f"an array of them is `np.zeros({size}, {type(value).__name__}.dtype)`"
    held = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    fields = {name: _KINDS[type(number)] for name, number in held.items() if type(number) in _KINDS}
    is_known = 0 < len(fields) == len(held) <= MOST_FIELDS
    fields = fields if is_known else {"total": "f8", "count": "i8"}
    return f"give it a dtype with a field for each number, as in `np.zeros({size}, {_written(fields)})`"


def _written(fields: dict[Any, str]) -> str:
    return f"[{', '.join(f'({str(name)!r}, {kind!r})' for name, kind in fields.items())}]".replace("'", '"')
