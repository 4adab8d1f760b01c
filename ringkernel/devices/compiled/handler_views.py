"""Records as compiled handlers see them, for running a handler as Python."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ringkernel.declaration.rng import Rng

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration


def given(records: Any, *, one: bool) -> Any:
    """Records as a handler sees them; the first of them if it sees `one`."""
    return _seen(records[0] if one else records)


class Held(NamedTuple):
    """The state, parameters and random numbers of a kernel: arrays, and random numbers; each may be None."""

    state: Any
    params: Any
    rng: Rng | None

    @classmethod
    def declared(cls, declaration: Declaration) -> Held:
        """As at each launch."""
        state, params, seed = declaration.state, declaration.params, declaration.rng
        return cls(
            None if state is None else state.copy(),
            None if params is None else params.copy(),
            None if seed is None else Rng(seed),
        )


def arguments_of(declaration: Declaration, messages: Any, held: Held) -> tuple[list[Any], Any]:
    """Return the arguments of the Python function of a compiled kernel, for these messages; and its outputs, zero
    before the call, or None."""
    one = not declaration.batch
    leading = [] if declaration.is_source else [given(messages, one=one)]
    return _with_the_rest(declaration, leading, len(messages) * declaration.max_outputs, held)


def arguments_between(declaration: Declaration, leading: list[Any], held: Held) -> tuple[list[Any], Any]:
    """Likewise, for a handler that is called without a message, and emits one output at a time."""
    return _with_the_rest(replace(declaration, batch=False), leading, 1, held)


def _with_the_rest(declaration: Declaration, arguments: list[Any], n_outputs: int, held: Held) -> tuple[list[Any], Any]:
    outs = None
    if declaration.output_type is not None:
        outs = np.zeros(n_outputs, declaration.output_type.dtype)
        arguments.append(given(outs, one=not declaration.batch))
    if held.state is not None:
        arguments.append(given(held.state, one=declaration.state_type is not None))
    if held.params is not None:
        arguments.append(given(held.params, one=True))
    if held.rng is not None:
        arguments.append(held.rng)
    return arguments, outs


def _seen(value: Any) -> Any:
    """A value as compiled code has it: a record with attributes, also one within a record or an array."""
    if isinstance(value, np.void):
        return _RecordView(value)
    return _ArrayView(value) if isinstance(value, np.ndarray) and value.dtype.fields is not None else value


def _plain(value: Any) -> Any:
    """Return what NumPy can assign: the record or array behind a view."""
    if isinstance(value, _RecordView):
        return object.__getattribute__(value, "_record")
    return value._array if isinstance(value, _ArrayView) else value


class _RecordView:
    """A record whose attributes are its fields, as in compiled code; `np.record` would hide a field called `mean`."""

    __slots__ = ("_record",)

    def __init__(self, record: Any) -> None:
        object.__setattr__(self, "_record", record)

    def __getattr__(self, name: str) -> Any:
        try:
            return _seen(self._record[name])
        except (KeyError, ValueError):
            raise AttributeError(f"no field {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._record[name] = _plain(value)

    def __getitem__(self, name: str) -> Any:
        return _seen(self._record[name])

    def __setitem__(self, name: str, value: Any) -> None:
        self._record[name] = _plain(value)


class _ArrayView:
    """An array of records: items are records as above, attributes are fields."""

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: Any) -> Any:
        return _seen(self._array[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[key] = _plain(value)

    def __getattr__(self, name: str) -> Any:
        if name in (self._array.dtype.names or ()):
            return _seen(self._array[name])
        return getattr(self._array, name)
