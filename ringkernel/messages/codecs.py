"""Write and read messages one at a time, by functions that are generated for each type.

As dataclasses and named tuples are: reading the fields by name there is twice as fast as by a getter. The lines for
the fields are those of the record's `Plan`.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .fitting import REFUSALS, taking_apart, values_by_name, values_of
from .plan import Plan
from .record_class import record_class
from .records import struct_format
from .refusal import refuse
from .repacking import Repacking, repacking

if TYPE_CHECKING:
    from .types import MessageType

Array = npt.NDArray[Any]
Encode = Callable[[int, Any], None]
Decode = Callable[[int], Any]

_ENCODE = """
def encode(sequence, value):
    {nonlocals}
    i = sequence & mask
    try:
        {values}
        {checks}
        pack(buffer, i * size, {packed})
        {stores}
    except Refused as error:
        refuse(value, error)
"""
_DECODE = """
def decode(sequence):
    i = sequence & mask
    {unpacked}
    {answer}
"""
_VALUES_OF_AN_INSTANCE = """
if type(value) is cls or isinstance(value, cls):
    {assignments}
elif isinstance(value, Mapping):
    {arguments}, = by_name(value, field_names)
else:
    refuse(value)
"""
_LEARNED = ("seen", "seen_names", "target", "move", "take")
_dtype_of = np.generic.dtype.__get__
_VALUES_OF_A_RECORD = """
kind = type(value)
if kind is tuple or kind is record:
    {arguments}, = value
else:
    if kind is void or kind is np_record or (kind is ndarray and value.ndim == 0):
        given = dtype_of(value) if kind is np_record else value.dtype  # `np.record` looks it up in Python
        if given is not seen or given.names is not seen_names:  # a dtype may be given other names
            seen, seen_names, (target, move, take) = given, given.names, ways(given)
        if target is not None:
            target[i] = value
            return
        if move is not None:
            move.pack(buffer, i * size, *move.unpack(value))
            return
        {arguments}, = take(value)
    else:
        {arguments}, = values(value)
"""


def codec(message_type: MessageType, slots: Array, mask: int) -> tuple[Encode, Decode]:
    """Functions that write a message to, and read one from, the slot of a sequence number."""
    return encoder(message_type, slots, mask), decoder(message_type, slots, mask)


def encoder(message_type: MessageType, slots: Array, mask: int) -> Encode:
    """Return a function that writes a message to the slot of a sequence number. It raises `MessageTypeError`."""
    plan, make = _encode_of(message_type.dtype, message_type.cls, message_type.is_scalar)
    encode: Encode = make(
        refuse=functools.partial(refuse, message_type),
        ways=functools.partial(_ways, slots),
        **_ring(plan, slots, mask),
    )
    return encode


def decoder(message_type: MessageType, slots: Array, mask: int) -> Decode:
    """Return a function that makes a message of the slot of a sequence number."""
    plan, make = _decode_of(message_type.dtype, message_type.cls, message_type.is_scalar)
    decode: Decode = make(**_ring(plan, slots, mask))
    return decode


def prepare(message_type: MessageType) -> None:
    """Make now what the first codec of a type needs: some tenths of a millisecond, which a first message would take."""
    for generate in (_encode_of, _decode_of):
        generate(message_type.dtype, message_type.cls, message_type.is_scalar)


def _ring(plan: Plan, slots: Array, mask: int) -> dict[str, Any]:
    """Return the names in the functions whose values differ from ring to ring."""
    names = {name: _view(slots, path) for name, path in plan.views.items()}
    return {"buffer": slots.view(np.uint8).data, "mask": mask, **names}


def _view(slots: Array, path: tuple[str, ...]) -> Array:
    """Return the field with this path of all slots; records in it have attributes."""
    for name in path:
        slots = slots[name]
    return slots if slots.dtype.names is None else slots.view(np.dtype((np.record, slots.dtype)))


def _ways(slots: Array, given: np.dtype[Any]) -> tuple[Array | None, Repacking | None, Any]:
    """Choose how NumPy's records of this dtype are written to the slots: assigned to an array, moved as bytes, or taken
    apart."""
    dtype = slots.dtype
    if given == dtype:
        return slots.view(given), None, None
    if struct_format(given) is None:
        return None, repacking(given, dtype), values_of(dtype)
    return None, None, taking_apart(given, dtype.names or ()) or values_of(dtype)


@functools.lru_cache(maxsize=256)
def _encode_of(dtype: np.dtype[Any], cls: type | None, is_scalar: bool) -> tuple[Plan, Callable[..., Encode]]:
    """Return the plan of a message type, and what makes `encode` of what `encoder` and `_ring` give it."""
    plan = Plan(dtype)
    arguments, nonlocals = ", ".join(plan.arguments), ""
    names = {
        **plan.names,
        "pack": struct.Struct(plan.pack_format).pack_into,
        "size": dtype.itemsize,
        "Refused": REFUSALS,
    }
    if is_scalar:
        values = f"{arguments} = value"
    elif cls is not None:
        names |= {"cls": cls, "Mapping": Mapping, "by_name": values_by_name, "field_names": dtype.names}
        assigned = [f"{v} = value.{name}" for v, name in zip(plan.arguments, dtype.names or (), strict=True)]
        values = _filled(_VALUES_OF_AN_INSTANCE, assignments=assigned, arguments=[arguments])
    else:
        names |= {"record": record_class(dtype), "void": np.void, "np_record": np.record, "dtype_of": _dtype_of}
        names |= {"values": values_of(dtype), **dict.fromkeys(_LEARNED)}
        values, nonlocals = _VALUES_OF_A_RECORD.format(arguments=arguments), f"nonlocal {', '.join(_LEARNED)}"
    parts = {"checks": plan.checks, "packed": [", ".join(plan.packed)], "stores": plan.stores}
    source = _filled(_ENCODE, nonlocals=[nonlocals], values=values.splitlines(), **parts)
    return plan, _maker("encode", source, names, ("refuse", "ways", "buffer", "mask", *plan.views))


@functools.lru_cache(maxsize=256)
def _decode_of(dtype: np.dtype[Any], cls: type | None, is_scalar: bool) -> tuple[Plan, Callable[..., Decode]]:
    """Return the plan of a message type, and what makes `decode` of what `_ring` gives it."""
    plan = Plan(dtype)
    fields = ", ".join(plan.fields)
    unpacked = f"{''.join(f'{name}, ' for name in plan.unpacked)}= unpack(buffer, i * size)" if plan.unpacked else ""
    names = {**plan.names, "unpack": struct.Struct(plan.unpack_format).unpack_from, "size": dtype.itemsize}
    if is_scalar:
        answer = f"return {fields}"
    elif cls is None:
        names["record"] = record_class(dtype)
        answer = f"return record(({fields},))"
        if plan.fields == plan.unpacked:
            unpacked, answer = "", "return record(unpack(buffer, i * size))"
    else:
        names |= {"cls": cls, "make": object.__new__}
        answer = f"return cls({fields})"
        if _is_filled_by_assignment(cls):  # what its `__init__` does, without the call: 205 instead of 260 ns
            assigned = [f"made.{name} = {field}" for name, field in zip(dtype.names or (), plan.fields, strict=True)]
            answer = f"made = make(cls); {'; '.join(assigned)}; return made"
    source = _filled(_DECODE, unpacked=[unpacked], answer=[answer])
    return plan, _maker("decode", source, names, ("buffer", "mask", *plan.views))


def _is_filled_by_assignment(cls: Any) -> bool:
    """Return whether making an instance does nothing but assign its fields."""
    parameters = getattr(cls, "__dataclass_params__", None)
    return (
        parameters is not None
        and "__dataclass_fields__" in cls.__dict__  # its own `__init__`, not one that it inherits
        and parameters.init
        and not hasattr(cls, "__post_init__")
        and cls.__new__ is object.__new__
        and cls.__setattr__ is object.__setattr__
        and type(cls).__call__ is type.__call__
        and all(field.init for field in dataclasses.fields(cls))
    )


def _filled(template: str, **lines: list[str]) -> str:
    """Return a template with lines in the place of each name, indented as the name is."""
    result = []
    for line in template.strip().splitlines():
        name = line.strip().strip("{}")
        if line.strip() == f"{{{name}}}":
            indent = line[: len(line) - len(line.lstrip())]
            result += [indent + part for part in lines[name] if part]
        else:
            result.append(line.format(**{name: "".join(parts) for name, parts in lines.items()}))
    return "\n".join(result)


def _maker(name: str, source: str, known: dict[str, Any], later: tuple[str, ...]) -> Any:
    """Return a function that makes the function of this source. It takes `later` as arguments; `known` are bound
    already."""
    scope: dict[str, Any] = {"__name__": __name__}
    body = textwrap.indent(source, "    ")
    exec(f"def make_{name}({', '.join((*known, *later))}):\n{body}\n    return {name}\n", scope)  # noqa: S102 (fixed templates over field names)
    return functools.partial(scope[f"make_{name}"], **known)
