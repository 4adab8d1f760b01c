"""The source lines with which a codec writes and reads each field of a record.

Numbers and booleans, those of nested records, too, are packed and unpacked by one `struct` for the record. What
`struct` does not know (times, long doubles) and nested arrays are assigned to, and read from, views of the slots.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .fitting import as_bool, as_complex, fitted, values_of
from .record_class import record_class
from .records import struct_character

SMALL_NBYTES = 1024
"""Up to this size an array is packed with the rest, which takes 40 ns less than assigning it, but copies it twice."""


PYTHON_TYPES = {"b": bool, "i": int, "u": int, "f": float}
"""The types that `struct` packs into fields of each kind, and whose values fit but for their size."""


class Plan:
    """The lines for a record of this dtype, over a value `v` with one name for each field: `v0`, `v1`, `v1_0`.

    `checks` bring the values into the form that is written, or raise; `packed` are then packed as `pack_format` says,
    and `stores` write the rest to the slot `i`. `unpacked` are unpacked as `unpack_format` says, and `fields` are what
    they make, as expressions.
    `names` are what the lines refer to, but for `views`, which are those of the slots' fields with these paths.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.names: dict[str, Any] = {
            "ndarray": np.ndarray,
            "asarray": np.asarray,
            "as_bool": as_bool,
            "as_complex": as_complex,
        }
        self.views: dict[str, tuple[str, ...]] = {}
        self.checks: list[str] = []
        self.packed: list[str] = []
        self.stores: list[str] = []
        self.unpacked: list[str] = []
        self.pack_format = self.unpack_format = "="
        self._end = 0
        self.arguments, self.fields = self._record(dtype, "v", 0, ())
        self._pass(dtype.itemsize)

    def _record(
        self, dtype: np.dtype[Any], name: str, offset: int, path: tuple[str, ...]
    ) -> tuple[list[str], list[str]]:
        """Plan the fields of a record: what they are called, and what they are made from."""
        arguments, made = [], []
        for i, field in enumerate(dtype.names or ()):
            assert dtype.fields is not None
            part, start = dtype.fields[field][:2]
            arguments.append(f"{name}{'_' if path else ''}{i}")
            made.append(self._field(part, arguments[-1], offset + start, (*path, field)))
        return arguments, made

    def _field(self, dtype: np.dtype[Any], name: str, offset: int, path: tuple[str, ...]) -> str:
        """Plan a field: the expression that makes its value."""
        if dtype.names is not None:
            return self._nested(dtype, name, offset, path)
        if dtype.subdtype is not None:
            return self._array(dtype, name, offset, path)
        if dtype.kind == "S" and offset >= self._end:
            return self._bytes(dtype, name, offset)
        part = np.dtype(f"{dtype.byteorder}f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype
        character = struct_character(part)
        if character is None or offset < self._end:
            return self._viewed(dtype, name, path)
        return self._packed(dtype, name, offset, character)

    def _packed(self, dtype: np.dtype[Any], name: str, offset: int, character: str) -> str:
        count = 2 if dtype.kind == "c" else 1
        self._pass(offset)
        self._take(dtype.itemsize, character * count, character * count)
        if dtype.kind == "c":
            self.checks.append(f"if type({name}) is not complex: {name} = as_complex({name})")
            self.packed += [f"{name}.real", f"{name}.imag"]
            self.unpacked += [f"{name}r", f"{name}i"]
            return f"complex({name}r, {name}i)"
        if dtype.kind == "b":
            self.checks.append(f"if {name} is not True and {name} is not False: {name} = as_bool({name})")
        self.packed.append(name)
        self.unpacked.append(name)
        return name

    def _bytes(self, dtype: np.dtype[Any], name: str, offset: int) -> str:
        """Bytes of a fixed size, with zeros behind them, which NumPy does not count."""
        size = dtype.itemsize
        self._pass(offset)
        self._take(size, f"{size}s", f"{size}s")
        self.names[f"{name}_fitted"] = fitted(dtype)
        self.checks.append(
            f"if type({name}) is not bytes or len({name}) > {size}: {name} = {name}_fitted({name}).tobytes()"
        )
        self.packed.append(name)
        self.unpacked.append(name)
        return f"{name}.rstrip(b'\\0')"

    def _viewed(self, dtype: np.dtype[Any], name: str, path: tuple[str, ...]) -> str:
        self.views[f"{name}_view"] = path
        self.names |= {f"{name}_type": dtype.type, f"{name}_dtype": dtype, f"{name}_fitted": fitted(dtype)}
        is_other = f"type({name}) is not {name}_type or {name}.dtype != {name}_dtype"
        self.checks.append(f"if {is_other}: {name} = {name}_fitted({name})")
        self.stores.append(f"{name}_view[i] = {name}")
        return f"{name}_view[i]"

    def _array(self, dtype: np.dtype[Any], name: str, offset: int, path: tuple[str, ...]) -> str:
        self.views[f"{name}_view"] = path
        self.names |= {f"{name}_dtype": dtype.base, f"{name}_shape": dtype.shape, f"{name}_fitted": fitted(dtype)}
        made = f"{name}_fitted" if dtype.base.kind in "mM" else "asarray"  # which would mix up units of times
        checks = [
            f"if type({name}) is not ndarray: {name} = {made}({name})",
            f"if {name}.dtype != {name}_dtype or {name}.shape != {name}_shape: {name} = {name}_fitted({name})",
        ]
        if offset < self._end or dtype.itemsize > SMALL_NBYTES:
            self.checks += checks
            self.stores.append(f"{name}_view[i] = {name}")
        else:
            self._pass(offset)
            self._take(dtype.itemsize, f"{dtype.itemsize}s", f"{dtype.itemsize}x")
            self.checks += self._as_bytes(dtype, name, checks)
            self.packed.append(name)
        return f"{name}_view[i].copy()"

    def _as_bytes(self, dtype: np.dtype[Any], name: str, checks: list[str]) -> list[str]:
        """Return the lines that make bytes of an array. A list of numbers as Python has them needs no array: 210
        instead of 310 ns."""
        base, shape = dtype.base, dtype.shape
        character = struct_character(base)
        if character is None or len(shape) != 1:
            return [*checks, f"{name} = {name}.tobytes()"]
        self.names |= {
            f"{name}_pack": struct.Struct(f"={shape[0]}{character}").pack,
            f"{name}_only": frozenset({PYTHON_TYPES[base.kind]}).issuperset,
        }
        return [
            f"if type({name}) is list and len({name}) == {shape[0]} and {name}_only(map(type, {name})):",
            f"    {name} = {name}_pack(*{name})",
            "else:",
            *(f"    {line}" for line in checks),
            f"    {name} = {name}.tobytes()",
        ]

    def _nested(self, dtype: np.dtype[Any], name: str, offset: int, path: tuple[str, ...]) -> str:
        cls = f"{name}_class"
        self.names |= {cls: record_class(dtype), f"{name}_values": values_of(dtype)}
        at = len(self.checks)
        arguments, made = self._record(dtype, name, offset, path)
        self.checks[at:at] = [
            f"if type({name}) is not tuple and type({name}) is not {cls}: {name} = {name}_values({name})",
            f"{', '.join(arguments)}, = {name}",
        ]
        return f"{cls}(({', '.join(made)},))"

    def _pass(self, offset: int) -> None:
        """Leave out what is before this offset."""
        self._take(offset - self._end, f"{offset - self._end}x", f"{offset - self._end}x")

    def _take(self, nbytes: int, packed: str, unpacked: str) -> None:
        self.pack_format += packed
        self.unpack_format += unpacked
        self._end += nbytes
