"""A message is never written to, under whatever name a handler has it; what only reads, compiles.

Spans are compiled and called here without a runtime: what is promised is a property of the code.
"""

from __future__ import annotations

import operator  # noqa: F401 (handlers made from text use it)
import random  # noqa: F401
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
import pytest
import spans
from spans import call

from ringkernel.codegen.span_types import RefusedHandlerError, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.compiles, pytest.mark.sampled(3)]

INNER = np.dtype([("a", "f8"), ("n", "i4")], align=True)
MESSAGE = np.dtype([("x", "f8"), ("i", "i8"), ("v", "f8", (4,)), ("m", "f8", (2, 2)), ("r", INNER)], align=True)


def messages(count: int = 8) -> np.ndarray[Any, Any]:
    """Messages of distinct values."""
    made = np.zeros(count, MESSAGE)
    made["x"], made["i"] = np.arange(count)[::-1], np.arange(count)
    made["v"] = np.arange(4 * count)[::-1].reshape(count, 4) + 0.25
    made["r"]["a"] = 1.0
    made["m"] = np.arange(4 * count).reshape(count, 2, 2) + 0.25
    return made


def write(record: Any) -> None:
    record.x = 9.0


def first(a: Any, b: Any) -> Any:
    return a


@numba.njit
def write_by_its_author(record: Any) -> None:
    record.x = 9.0


@numba.njit
def sort_by_its_author(array: Any) -> None:
    array.sort()


@numba.njit("void(f8[:])")
def fill_with_its_types(array: Any) -> None:
    array[0] = 9.0


ONE = {
    "a field": "msg.x = 9.0",
    "a field by its name": "msg['x'] = 9.0",
    "an augmented field": "msg.x += 1.0",
    "an item of a nested array": "msg.v[0] = 9.0",
    "a slice of a nested array": "msg.v[1:3] = 9.0",
    "a view of a slice": "w = msg.v[1:]; w[0] = 9.0",
    "a nested array in place": "w = msg.v; w *= 2.0",
    "a nested array of two dimensions": "msg.m[0, 1] = 9.0",
    "a row": "row = msg.m[0]; row[0] = 9.0",
    "a transposed array": "msg.m.T[0, 1] = 9.0",
    "a reshaped array": "msg.m.reshape(4)[0] = 9.0",
    "a flattened view": "msg.m.ravel()[0] = 9.0",
    "np.ravel": "np.ravel(msg.m)[0] = 9.0",
    "a diagonal": "np.fill_diagonal(msg.m, 9.0)",
    "a nested record": "msg.r.a = 9.0",
    "another name of a nested record": "r = msg.r; r.n = 9",
    "a whole nested array": "msg.v = out.v",
    "a whole nested record": "msg.r = out.r",
    "sort": "msg.v.sort()",
    "fill": "msg.v.fill(9.0)",
    "shuffle": "np.random.seed(1); np.random.shuffle(msg.v)",
    "an output argument": "np.add(msg.v, 1.0, msg.v)",
    "an output argument by keyword": "np.multiply(msg.v, 2.0, out=msg.v)",
    "flat": "msg.m.flat[0] = 9.0",
    "a view as other bytes": "msg.v.view(np.int64)[0] = 9",
    "the real part": "msg.v.real[0] = 9.0",
    "a helper": "write(msg)",
    "a helper that its author has compiled": "write_by_its_author(msg)",
    "a helper's helper": "first(msg, 1).x = 9.0",
    "an array in a helper of its author's": "sort_by_its_author(msg.v)",
    "a helper with types of its own": "fill_with_its_types(msg.v)",
    "a tuple": "pair = (msg, out); pair[0].x = 9.0",
    "an unpacked tuple": "a, b = (msg, out); a.x = 9.0",
    "a list": "l = [msg.v]; l[0][0] = 9.0",
    "a list with an output in it": "l = [out.v, msg.v]; l[1][0] = 9.0",
    "either of two": "(msg if msg.i >= 0 else out).x = 9.0",
    "either of two by a statement": "m = out\n    if msg.i >= 0:\n        m = msg\n    m.x = 9.0",
    "either of two arrays": "(msg.v if msg.i >= 0 else out.v)[0] = 9.0",
    "a closure": "def inner():\n        msg.x = 9.0\n    inner()",
    "a closure's array": "w = msg.v\n    def inner():\n        w[0] = 9.0\n    inner()",
    "a dictionary": "d = {1: msg.v}; d[1][0] = 9.0",
    "reversed": "for w in (msg.v, msg.v):\n        w[0] = 9.0",
    "asarray": "np.asarray(msg.v)[0] = 9.0",
    "ascontiguousarray": "np.ascontiguousarray(msg.v)[0] = 9.0; out.x = 1.0",
    "atleast_2d": "np.atleast_2d(msg.v)[0, 0] = 9.0",
    "expand_dims": "np.expand_dims(msg.v, 0)[0, 0] = 9.0",
    "broadcast": "np.broadcast_to(msg.v, (2, 4))[0, 0] = 9.0",
    "swapaxes": "np.swapaxes(msg.m, 0, 1)[0, 0] = 9.0",
    "flip": "np.flip(msg.v)[0] = 9.0",
    "as_strided": "np.lib.stride_tricks.as_strided(msg.v, (2,), (8,))[0] = 9.0",
    "partition of a split": "np.split(msg.v, 2)[0][0] = 9.0",
    "an item with newaxis": "msg.v[np.newaxis, :][0, 0] = 9.0",
    "an ellipsis": "msg.v[...][0] = 9.0",
    "a boolean mask": "msg.v[msg.v > 0.0] = 9.0",
    "a list of indices": "msg.v[np.array([0, 1])] = 9.0",
    "the output of np.clip": "np.clip(msg.v[:], 0.0, 1.0, msg.v[:])",
    "the output of np.round": "np.round(msg.v, 1, msg.v)",
    "nan_to_num in place": "np.nan_to_num(msg.v[:], copy=False)[0] = 9.0",
    "the output of np.dot": "np.dot(np.ones((2, 2)), np.ones((2, 2)), msg.m)",
    "setattr": "setattr(msg, 'x', 9.0)",
    "a carray": "numba.carray(msg.v.ctypes, 4, np.float64)[0] = 9.0",
}
MANY = {
    "an item": "msgs[0] = msgs[1]",
    "a slice": "msgs[:2] = msgs[2:4]",
    "a column": "msgs.x[:] = 9.0",
    "a column by its name": "msgs['x'][0] = 9.0",
    "a column in place": "c = msgs.x; c += 1.0",
    "a nested column": "msgs.v[0, 0] = 9.0",
    "a column of nested records": "msgs.r.a[0] = 9.0",
    "iteration": "for m in msgs:\n        m.x = 9.0",
    "enumerate": "for i, m in enumerate(msgs):\n        m.x = 9.0",
    "zip": "for m, o in zip(msgs, outs):\n        m.x = 9.0",
    "ravel": "np.ravel(msgs)[0].x = 9.0",
    "reshape": "msgs.reshape(2, -1)[0, 0].x = 9.0",
    "flat": "for m in msgs.flat:\n        m.x = 9.0",
    "a view as another record": "msgs.view(OTHER)[0].x = 9.0",
    "an appended record": "l = [outs[0]]; l.append(msgs[0]); l[1].x = 9.0",
    "a list of records": "l = [m for m in msgs]; l[0].x = 9.0",
    "ndenumerate": "for i, m in np.ndenumerate(msgs):\n        m.x = 9.0",
    "nditer": "for w in np.nditer(msgs.x):\n        w[()] = 9.0",
    "swapped": "msgs.x[0], msgs.x[1] = msgs.x[1], msgs.x[0]",
    "min of two": "max([msgs.v[0], msgs.v[1]], key=len)[0] = 9.0",
    "a slice's item": "msgs[2:][0].v[0] = 9.0",
    "a stepped slice": "msgs[::2][0].x = 9.0",
    "sort": "msgs.x.sort()",
    "in a loop by index": "for i in range(len(msgs)):\n        msgs[i].r.n += 1",
    "nan_to_num": "np.nan_to_num(msgs.x, copy=False, nan=5.0)",
    "nan_to_num by position": "np.nan_to_num(msgs.x, False, 5.0)",
    "nan_to_num in an assignment": "outs.x[:] = np.nan_to_num(msgs.x, copy=False, nan=5.0)",
    "nan_to_num by an argument that is found out": "np.nan_to_num(msgs.x, copy=len(msgs) < 0, nan=5.0)",
    "an operator as a function": "operator.setitem(msgs.x, 0, 9.0)",
    "an operator as a function, and flat": "operator.setitem(msgs.x.flat, 0, 9.0)",
    "an operator in place as a function": "operator.iadd(msgs.x, 1.0)",
    "getattr": "getattr(msgs, 'x')[0] = 9.0",
    "a method by getattr": "getattr(msgs.x, 'fill')(9.0)",
    "fill": "msgs.x.fill(9.0)",
    "the method clip": "msgs.x.clip(0.0, 1.0, msgs.x)",
    "around by name": "np.around(msgs.x, 0, out=msgs.x)",
    "a ufunc's output": "np.sqrt(msgs.x, msgs.x)",
    "outer": "np.outer(msgs.x[:2], msgs.x[:2], msgs.m[0])",
    "a ufunc of two outputs": "np.divmod(msgs.x, 2.0, msgs.x, msgs.x)",
    "at of a ufunc": "np.add.at(msgs.x, 0, 1.0)",
    "reduce of a ufunc": "np.add.reduce(msgs.m, 0, None, msgs.m[0])",
    "copyto": "np.copyto(msgs.x, 9.0)",
    "put": "np.put(msgs.x, 0, 9.0)",
    "place": "np.place(msgs.x, msgs.x >= 0.0, 9.0)",
    "putmask": "np.putmask(msgs.x, msgs.x >= 0.0, 9.0)",
    "the method partition": "msgs.x.partition(2)",
    "the method put": "msgs.x.put(0, 9.0)",
    "byteswap": "msgs.x.byteswap(True)",
    "Python's shuffle": "random.seed(1); random.shuffle(msgs.x); random.shuffle(msgs.i)",
    "a filled record": "msgs.fill(msgs[0])",
    "real": "np.real(msgs.x)[0] = 9.0",
    "atleast_1d": "np.atleast_1d(msgs.x)[0] = 9.0",
    "atleast_3d": "np.atleast_3d(msgs.x)[0, 0, 0] = 9.0",
    "asarray with a type": "np.asarray(msgs.x, np.float64)[0] = 9.0",
    "transpose": "np.transpose(msgs.m)[0] = 9.0",
    "flipud": "np.flipud(msgs.x)[0] = 9.0",
    "fliplr": "np.fliplr(msgs.m[0])[0] = 9.0",
    "squeeze": "np.squeeze(msgs.x)[0] = 9.0",
    "moveaxis": "np.moveaxis(msgs.m, 0, 1)[0] = 9.0",
    "a window": "np.lib.stride_tricks.sliding_window_view(msgs.x, 2, writeable=True)[0, 0] = 9.0",
    "map": "for w in map(np.asarray, (msgs.x, msgs.x)): w.fill(9.0)",
    "next": "next(iter(msgs.v)).fill(9.0)",
    "a dictionary's default": "{1: msgs.x}.setdefault(1, msgs.x).fill(9.0)",
}
OTHER = np.dtype([("x", "f8"), ("rest", "u1", (MESSAGE.itemsize - 8,))], align=True)
WRITES = [("msg, out", body, False, name) for name, body in ONE.items()]
WRITES += [("msgs, outs", body, True, name) for name, body in MANY.items()]


def built(parameters: str, body: str) -> Callable[..., Any]:
    """A handler, in the scope of this module."""
    return spans.built(parameters, body, globals())


NUMBA_HAS_NOT = {
    "an output argument by keyword": "unsupported keyword arguments",
    "broadcast": "Cannot modify readonly array",
    "an ellipsis": "Cannot modify readonly array",
    "setattr": "Untyped global name 'setattr'",
    "a carray": "function carray",
    "an appended record": "load_from_data_pointer",
    "a list of records": "load_from_data_pointer",
    "min of two": r"max\(list",
    "at of a ufunc": "Unknown attribute 'at'",
    "reduce of a ufunc": "Unknown attribute 'reduce'",
    "copyto": "unsupported NumPy function 'numpy.copyto'",
    "put": "unsupported NumPy function 'numpy.put'",
    "place": "unsupported NumPy function 'numpy.place'",
    "putmask": "unsupported NumPy function 'numpy.putmask'",
    "squeeze": "unsupported NumPy function 'numpy.squeeze'",
    "the method partition": "Unknown attribute 'partition'",
    "the method put": "Unknown attribute 'put'",
    "byteswap": "Unknown attribute 'byteswap'",
    "a window": "function sliding_window_view",
}
"""What numba says of ways that it does not know, or refuses itself; ringkernel says it of all others."""
OURS = "a message is read only|is not among the functions that a handler may use"


def with_gaps() -> np.ndarray[Any, Any]:
    """Messages that all ways to write would change."""
    made = messages()
    made["x"] += 0.25
    made["x"][1] = np.nan
    return made


def writes_in_python(handler: Callable[..., Any], batch: bool) -> bool:
    """Whether a handler changes its messages, or is kept from it by NumPy, which says that they are read only."""
    given, outs = with_gaps().view(np.recarray), np.ones(8, MESSAGE).view(np.recarray)
    before = given.tobytes()
    try:
        handler(*((given, outs) if batch else (given[0], outs[0])))
    except ValueError as error:
        return "read-only" in str(error)
    return given.tobytes() != before


@pytest.mark.parametrize(
    ("parameters", "body", "batch", "name"), WRITES, ids=[f"{case[0].split(',')[0]}: {case[3]}" for case in WRITES]
)
def test_a_message_is_never_written_to(parameters: str, body: str, batch: bool, name: str) -> None:
    """Each way changes the caller's array in Python. Compiled, it is refused for that, and if not, changes nothing."""
    handler, given = built(parameters, body), with_gaps()
    before = given.tobytes()
    assert writes_in_python(handler, batch)
    said = "nothing"
    try:
        call(handler, SpanTypes(MESSAGE, MESSAGE, None, batch=batch), given)
    except (RefusedHandlerError, numba.core.errors.NumbaError, NotImplementedError) as error:
        said = str(error)
    assert given.tobytes() == before
    assert re.search(NUMBA_HAS_NOT.get(name, OURS), said), said


@pytest.mark.parametrize("name", ["a field", "a nested array in place", "a helper", "either of two arrays", "sort"])
def test_the_refusal_names_the_line_and_what_to_write(name: str) -> None:
    with pytest.raises(
        RefusedHandlerError, match=r"^line \d+: .*a message is read only.*write to the output, or to a copy"
    ):
        call(built("msg, out", ONE[name]), SpanTypes(MESSAGE, MESSAGE, None), messages())


READS = {
    "fields": ("msg, out", "out.x = msg.x + msg['x'] + msg.r.a", False),
    "nested arrays": ("msg, out", "out.x = msg.v.sum() + msg.v[1:].max() + msg.m[0, 1] + msg.m.T[1, 0]", False),
    "a sorted copy": ("msg, out", "w = np.sort(msg.v)\n    w[0] = 9.0\n    out.x = w[0]", False),
    "a copied array": ("msg, out", "w = msg.v.copy()\n    w.sort()\n    out.v = msg.v\n    out.x = w[0]", False),
    "columns": ("msgs, outs", "outs.x[:] = np.sqrt(msgs.x * 2.0) + msgs.v[:, 0]", True),
    "either of two": ("msg, out", "a = msg if msg.i > 3 else out\n    out.x = a.x", False),
    "views": ("msg, out", "out.x = np.ravel(msg.m)[1] + msg.m.reshape(4)[2] + np.asarray(msg.v)[0]", False),
    "a column without its gaps": ("msgs, outs", "outs.x[:] = np.nan_to_num(msgs.x, nan=5.0)", True),
    "a helper of its author's": ("msg, out", "out.x = first(msg, 1).v[0]", False),
    "iteration": ("msgs, outs", "for m, o in zip(msgs, outs):\n        o.x = m.x", True),
}


@pytest.mark.parametrize("name", READS)
def test_what_only_reads_compiles(name: str) -> None:
    parameters, body, batch = READS[name]
    assert len(call(built(parameters, body), SpanTypes(MESSAGE, MESSAGE, None, batch=batch), messages())) == 8


COPIES = {
    "records one by one": ("msgs, outs", "for i in range(len(msgs)):\n        outs[i] = msgs[i]", True),
    "a slice of records": ("msgs, outs", "outs[:] = msgs[:]", True),
    "fields": (
        "msg, out",
        "out.x = msg.x; out.i = msg.i; out.v = msg.v; out.m = msg.m; out.r = msg.r",
        False,
    ),
    "a changed copy": (
        "msgs, outs",
        "c = msgs.copy()\n    c[0].x = 99.0\n    c[0].v[0] = 99.0\n    outs[:] = c\n    outs[0] = msgs[0]",
        True,
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_messages_are_copied_by_value(name: str) -> None:
    parameters, body, batch = COPIES[name]
    given = messages()
    assert call(built(parameters, body), SpanTypes(MESSAGE, MESSAGE, None, batch=batch), given).tobytes() == (
        given.tobytes()
    )


def test_a_message_is_kept_in_the_state() -> None:
    def handler(msg: Any, out: Any, state: Any) -> None:
        out.x = state[0].x
        state[0] = msg

    given = messages()
    spec = SpanTypes(MESSAGE, MESSAGE, (MESSAGE, (2,)))
    assert call(handler, spec, given)["x"].tolist() == [0.0, *given["x"][:-1].tolist()]


TABLE = np.zeros(3, INNER)


def test_a_record_of_an_array_from_outside_is_not_written_to() -> None:
    def handler(msg: Any, out: Any) -> None:
        TABLE[0].a = msg.x
        out.x = TABLE[1].a

    with pytest.raises(RefusedHandlerError, match=r"cannot be written to.*state"):
        call(handler, SpanTypes(MESSAGE, MESSAGE, None), messages())


class Held(NamedTuple):
    gains: Any


HELD, MODULE, RECORD = Held(np.zeros(1)), ModuleType("held"), np.zeros(1, INNER)[0]
MODULE.gains = np.zeros(1)  # type: ignore[attr-defined]

CONSTANTS = {
    "a default": ("kept=np.zeros(1)", "kept[0] += msg.x", "`kept` is an array .* call the parameter `state`"),
    "in place": ("kept=np.zeros(1)", "kept += msg.x", "`kept` is an array .* call the parameter `state`"),
    "a method": ("kept=np.ones(2)", "kept.sort()", "`kept` is an array .* call the parameter `state`"),
    "a record": ("kept=RECORD", "kept.a = msg.x", "`kept` is an array .* call the parameter `state`"),
    "a part": ("kept=(np.zeros(1), 1)", "kept[0][0] = msg.x", "`kept` is an array .* call the parameter `state`"),
    "a module": ("", "MODULE.gains[0] += msg.x", "is an array from outside.* keep what changes in the `state`"),
    "a named tuple": ("", "HELD.gains[0] += msg.x", "`HELD` is an array from outside"),
    "a global": ("", "RECORD.a = msg.x", "`RECORD` is an array from outside"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_what_is_held_as_a_constant_is_not_written_to(name: str, tmp_path: Path) -> None:
    default, body, reason = CONSTANTS[name]
    handler = written_to(tmp_path, f"msg, out, {default}", body)
    with pytest.raises(RefusedHandlerError, match=reason):
        call(handler, SpanTypes(MESSAGE, MESSAGE, None), messages())


def test_what_is_held_as_a_constant_may_be_read() -> None:
    def handler(msg: Any, out: Any, gain: Any = np.full(2, 2.0), one: Any = RECORD) -> None:
        out.x = msg.x * gain[0] + one.a + HELD.gains[0] + MODULE.gains.sum() + TABLE[1].a

    given = messages()
    assert call(handler, SpanTypes(MESSAGE, MESSAGE, None), given)["x"].tolist() == (2 * given["x"]).tolist()


def test_a_variable_of_an_outer_function_is_not_assigned_to() -> None:
    count = 0

    def handler(msg: Any, out: Any) -> None:
        nonlocal count
        count += 1

    with pytest.raises(RefusedHandlerError, match=r"cannot assign to `count`.*`state`"):
        call(handler, SpanTypes(MESSAGE, MESSAGE, None), messages())


def written_to(folder: Path, parameters: str, body: str) -> Any:
    """A handler whose lines can be read."""
    file = folder / "handler.py"
    file.write_text(f"def handler({parameters}):\n    {body}\n")
    scope: dict[str, Any] = {"np": np, "HELD": HELD, "MODULE": MODULE, "RECORD": RECORD}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    return scope["handler"]


@pytest.mark.parametrize("value", ["msg.v[:2]", "msg.m[0]", "FOUR", "THREE", "np.ones(4)"])
def test_a_nested_array_is_assigned_from_one_of_its_own_kind(value: str) -> None:
    """Numba copies as many bytes as the field has, out of whatever there is."""
    scope: dict[str, Any] = {"np": np, "FOUR": np.arange(4), "THREE": np.arange(3.0)}
    exec(f"def handler(msg, out):\n    out.v = {value}\n", scope)
    with pytest.raises((RefusedHandlerError, AssertionError, numba.core.errors.NumbaError)):
        call(scope["handler"], SpanTypes(MESSAGE, MESSAGE, None), messages())
