"""What a handler does keeps within its arguments and leaves its messages alone, whatever it is given; or it is refused.

Spans are compiled and called here without a runtime: what is promised is a property of the code.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math  # noqa: F401 (handlers made from text use it)
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest
from handler_corpus import FLOATS, HOSTILE, INTEGERS, LINEAR, REFUSED

from ringkernel.codegen.span import compile_span
from ringkernel.codegen.span_types import HandlerError, SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable

INNER = np.dtype([("a", "f8"), ("n", "i4")], align=True)
MESSAGE = np.dtype([("x", "f8"), ("i", "i8"), ("v", "f8", (4,)), ("m", "f8", (2, 2)), ("r", INNER)], align=True)
VALUE = np.dtype([("value", "f8")], align=True)
STATE = (np.dtype("f8"), (16,))


def messages(count: int = 8) -> np.ndarray[Any, Any]:
    """Messages of distinct values."""
    made = np.zeros(count, MESSAGE)
    made["x"], made["i"] = np.arange(count)[::-1], np.arange(count)
    made["v"] = np.arange(4 * count)[::-1].reshape(count, 4)
    made["r"]["a"] = 1.0
    return made


def call(handler: Callable[..., Any], spec: SpanTypes, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The outputs of a handler; raises what `compile_span` raises, and `RuntimeError` if it fails."""
    span = compile_span(handler, spec)
    out = np.zeros(len(given), spec.output if spec.output is not None else VALUE)
    state = np.zeros(spec.state[1], spec.state[0]) if spec.state is not None and spec.state[1] else np.zeros(64)
    fault = np.array([-1, 0, 0, 0], np.int64)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 5)(span.address)
    arguments = (given.ctypes.data, len(given), out.ctypes.data, state.ctypes.data, fault.ctypes.data)
    emitted = function(*arguments)
    if fault[0] != -1:
        raise RuntimeError("the handler has failed")
    return out[:emitted]


# --- messages are read only ------------------------------------------------------------------------------------------


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
    "shuffle": "np.random.shuffle(msg.v)",
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
    "the output of np.clip": "np.clip(msg.v, 0.0, 1.0, msg.v)",
    "the output of np.round": "np.round(msg.v, 1, msg.v)",
    "nan_to_num in place": "np.nan_to_num(msg.v, copy=False)[0] = 9.0",
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
}
OTHER = np.dtype([("x", "f8"), ("rest", "u1", (MESSAGE.itemsize - 8,))], align=True)
WRITES = [("msg, out", body, False, name) for name, body in ONE.items()]
WRITES += [("msgs, outs", body, True, name) for name, body in MANY.items()]


def built(parameters: str, body: str) -> Callable[..., Any]:
    """A handler, in the scope of this module."""
    scope = dict(globals())
    exec(f"def handler({parameters}):\n    {body}\n", scope)
    return scope["handler"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("parameters", "body", "batch", "name"), WRITES, ids=[f"{case[0].split(',')[0]}: {case[3]}" for case in WRITES]
)
def test_a_message_is_never_written_to(parameters: str, body: str, batch: bool, name: str) -> None:
    given = messages()
    before = given.tobytes()
    with contextlib.suppress(HandlerError, numba.core.errors.NumbaError, NotImplementedError, AssertionError):
        call(built(parameters, body), SpanTypes(MESSAGE, MESSAGE, None, batch=batch), given)
    assert given.tobytes() == before


@pytest.mark.parametrize("name", ["a field", "a nested array in place", "a helper", "either of two arrays", "sort"])
def test_the_refusal_names_the_line_and_what_to_write(name: str) -> None:
    with pytest.raises(HandlerError, match=r"^line \d+: .*a message is read only.*write to the output, or to a copy"):
        call(built("msg, out", ONE[name]), SpanTypes(MESSAGE, MESSAGE, None), messages())


READS = {
    "fields": ("msg, out", "out.x = msg.x + msg['x'] + msg.r.a", False),
    "nested arrays": ("msg, out", "out.x = msg.v.sum() + msg.v[1:].max() + msg.m[0, 1] + msg.m.T[1, 0]", False),
    "a sorted copy": ("msg, out", "w = np.sort(msg.v)\n    w[0] = 9.0\n    out.x = w[0]", False),
    "a copied array": ("msg, out", "w = msg.v.copy()\n    w.sort()\n    out.v = msg.v\n    out.x = w[0]", False),
    "columns": ("msgs, outs", "outs.x[:] = np.sqrt(msgs.x * 2.0) + msgs.v[:, 0]", True),
    "either of two": ("msg, out", "a = msg if msg.i > 3 else out\n    out.x = a.x", False),
    "views": ("msg, out", "out.x = np.ravel(msg.m)[1] + msg.m.reshape(4)[2] + np.asarray(msg.v)[0]", False),
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

    with pytest.raises(HandlerError, match=r"read only.*state"):
        call(handler, SpanTypes(MESSAGE, MESSAGE, None), messages())


@pytest.mark.parametrize("value", ["msg.v[:2]", "msg.m[0]", "FOUR", "THREE", "np.ones(4)"])
def test_a_nested_array_is_assigned_from_one_of_its_own_kind(value: str) -> None:
    """Numba copies as many bytes as the field has, out of whatever there is."""
    scope = {"np": np, "FOUR": np.arange(4), "THREE": np.arange(3.0)}
    exec(f"def handler(msg, out):\n    out.v = {value}\n", scope)
    with pytest.raises((HandlerError, AssertionError, numba.core.errors.NumbaError)):
        call(scope["handler"], SpanTypes(MESSAGE, MESSAGE, None), messages())


# --- whole numbers ---------------------------------------------------------------------------------------------------

DIVISIONS = ["a % b", "a // b", "divmod(a, b)[0]", "divmod(a, b)[1]", "np.mod(a, b)", "np.remainder(a, b)"]
DIVISIONS += ["np.floor_divide(a, b)", "np.divmod(a, b)[0]", "np.divmod(a, b)[1]", "np.fmod(a, b)"]
WIDTHS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]

CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))  # what asks for more is refused it, and not killed
sys.path.insert(0, {folder!r})
import test_handler_safety
for case in json.load(sys.stdin):
    print(json.dumps([case]), flush=True)
    print(json.dumps([case, test_handler_safety.{function}(*case)]), flush=True)
"""


def in_a_child(function: str, cases: list[Any]) -> list[Any]:
    """What a function of this module returns for each case: in a process of its own, which it may end."""
    source = CHILD.format(folder=str(Path(__file__).parent), function=function)
    variables = {**os.environ, "MALLOC_PERTURB_": "165", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        input=json.dumps(cases), capture_output=True, text=True, timeout=110, env=variables, check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.returncode, lines[-1:], done.stderr[-2000:])
    return [line[1] for line in lines if len(line) == 2]


def divided(expression: str, width: str) -> list[Any]:
    """Where a division gives other values than NumPy's, message by message and for a whole batch."""
    info = np.iinfo(width)
    values = sorted({int(info.min), int(info.min) + 1, max(-7, int(info.min)), 0, 1, 3, int(info.max)})
    values = values if info.min == 0 else [*values, -1]
    given = np.array([(a, b) for a in values for b in values], [("a", width), ("b", width)])
    with np.errstate(all="ignore"):
        want = eval(expression, {"np": np}, {"a": given["a"], "b": given["b"]})  # noqa: S307 (from the list above)
    whole = np.dtype([("value", width)])
    one = f"a = msg.a; b = msg.b\n    out.value = np.{np.dtype(width).name}({expression})"
    many = f"a = msgs.a; b = msgs.b\n    outs.value[:] = ({expression}).astype(np.{np.dtype(width).name})"
    wrong = []
    for parameters, body, batch in (("msg, out", one, False), ("msgs, outs", many, True)):
        if batch and expression.startswith("divmod"):
            continue  # numba knows it of scalars only
        got = call(built(parameters, body), SpanTypes(given.dtype, whole, None, batch=batch), given.copy())["value"]
        wrong += [[batch, *map(int, (*given[i], got[i], want[i]))] for i in np.flatnonzero(got != want)]
    return wrong


@pytest.mark.parametrize("width", WIDTHS)
def test_whole_numbers_divide_as_numpy_divides_them(width: str) -> None:
    """The lowest by -1, and everything by 0, too: nothing traps."""
    assert in_a_child("divided", [[expression, width] for expression in DIVISIONS]) == [[]] * len(DIVISIONS)


NUMBERS = np.dtype(
    [
        ("i", "i4"),
        ("a", "i8"),
        ("b", "i1"),
        ("u", "u1"),
        ("w", "u8"),
        ("f", "f8"),
        ("is", "i4", (3,)),
        ("as", "i8", (3,)),
    ]
)
CUT_OFF = [
    "out.i = msg.a", "out.u = msg.b", "out.u = msg.i", "out.a = msg.w", "out.w = msg.a", "out.i = msg.a + 1",
    "out.i += msg.a", "out.b = 200", "out.u = -1", "out['i'] = msg.a", "out.i = len(out.is_)", "out.is_[0] = msg.a",
    "out.is_[:] = msg.as_", "out.is_[:] = msg.as_ + 1", "out.is_.fill(msg.a)", "x = msg.a\n    y = x\n    out.i = y",
    "n = 0\n    for k in range(3):\n        n += k\n    out.i = n", "out.b = msg.b + 300", "store(out, msg.a)",
    "out.i = max(msg.a, 0)", "out.i = msg.f", "out.is_.fill(msg.f)", "out.b = msg.b + msg.i", "out.i = 1 << msg.a",
]  # fmt: skip
KEPT = [
    "out.i = msg.i", "out.a = msg.i", "out.i = msg.b", "out.a = msg.u", "out.i = msg.u", "out.i = msg.i + 1",
    "out.i += 1", "out.b = 100", "out.u = 255", "out.b = -128", "out.i = np.int32(msg.a)", "out.u = np.uint8(msg.a)",
    "out.w = np.uint64(msg.a)", "out.a = np.int64(msg.w)", "out.is_[0] = msg.i", "out.is_[:] = msg.is_",
    "out.is_[:] = msg.is_ + 1", "out.is_[:] = msg.as_.astype(np.int32)", "out.is_.fill(msg.i)",
    "out.b = 1 if msg.f > 0 else -1",
    "x = 1\n    if msg.f > 0:\n        x = 2\n    out.b = x", "out.i = -msg.i",
    "out.i = abs(msg.i)", "out.i = max(msg.i, 0)",
    "out.i = msg.i * msg.b", "out.i = msg.i % 7", "out.u = msg.u & 15", "out.i = msg.f > 0", "out.a = int(msg.f)",
    "out.i = np.int32(msg.f)", "out.f = msg.a",
    "n = np.int32(0)\n    for k in range(3):\n        n += np.int32(1)\n    out.i = n",
]  # fmt: skip
RENAMED = np.dtype({"names": [n + "_" * (n in ("is", "as")) for n in NUMBERS.names or ()],
                    "formats": [NUMBERS[n] for n in NUMBERS.names or ()]})  # fmt: skip


def store(record: Any, value: Any) -> None:
    record.i = value


@pytest.mark.parametrize("body", CUT_OFF)
def test_a_number_that_may_not_fit_is_refused(body: str) -> None:
    with pytest.raises(HandlerError, match=r"line \d+: .* is assigned to a place of type .*; convert it explicitly"):
        call(built("msg, out", body), SpanTypes(RENAMED, RENAMED, None), np.zeros(2, RENAMED))


@pytest.mark.parametrize("body", KEPT)
def test_a_number_that_fits_is_assigned(body: str) -> None:
    assert len(call(built("msg, out", body), SpanTypes(RENAMED, RENAMED, None), np.zeros(2, RENAMED))) == 2


# --- indices and functions -------------------------------------------------------------------------------------------

PROBE = np.dtype([("i", "i8"), ("f", "f8")])


def tried(expression: str) -> Any:
    """A handler that computes this of hostile values, next to memory that is not its own: what goes wrong."""
    span = compile_span(_handler(expression), SpanTypes(PROBE, VALUE, (np.dtype("f8"), (16,))))
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 5)(span.address)
    python, wrong = _handler(expression), []
    integers = INTEGERS if "msg.i" in expression else [3]
    floats = FLOATS if "msg.f" in expression else [0.5]
    for given in [(i, f) for i in integers for f in floats]:
        memory = np.full(48, 1e6) + np.arange(48)
        memory[16:32] = np.arange(16) * 0.25 - 1.0
        surroundings = np.delete(memory, slice(16, 32))
        message, out = np.array([given], PROBE), np.zeros(1, VALUE)
        fault = np.array([-1, 0, 0, 0], np.int64)
        arguments = (message.ctypes.data, 1, out.ctypes.data, memory[16:].ctypes.data, fault.ctypes.data)
        function(*arguments)
        if not np.array_equal(np.delete(memory, slice(16, 32)), surroundings):
            wrong.append([*map(str, given), "wrote outside"])
        if fault[0] != -1:
            continue
        want = np.zeros(1, VALUE).view(np.recarray)[0]
        try:
            with np.errstate(all="ignore"):
                python(message.view(np.recarray)[0], want, np.arange(16) * 0.25 - 1.0)
        except Exception as error:  # noqa: BLE001 (whatever NumPy raises)
            wrong.append([*map(str, given), f"NumPy raises {error!r}, and this gives {out['value'][0]}"])
            continue
        if not np.allclose(out["value"][0], want.value, equal_nan=True, rtol=1e-6):
            wrong.append([*map(str, given), f"NumPy gives {want.value}, and this {out['value'][0]}"])
    return wrong


def _handler(expression: str) -> Callable[..., Any]:
    return built("msg, out, state", f"out.value = total({expression})")


def total(value: Any) -> float:
    return np.sum(np.abs(np.asarray(value) * 1.0))  # type: ignore[no-any-return]


@numba.vectorize
def vectorized(x: Any) -> Any:
    return x + 1.0


N_PARTS = 6


@pytest.mark.parametrize("part", range(N_PARTS))
def test_what_is_allowed_gives_what_numpy_gives_or_raises(part: int) -> None:
    cases = [[expression] for expression in HOSTILE[part::N_PARTS]]
    wrong = dict(zip([case[0] for case in cases], in_a_child("tried", cases), strict=True))
    assert {expression: found for expression, found in wrong.items() if found} == {}


def test_what_is_allowed_of_linear_algebra_does_so_too() -> None:
    """But for the values where squares overflow: there they depend on the library, numba's is SciPy's."""
    cases = [[expression] for expression in LINEAR]
    wrong = dict(zip(LINEAR, in_a_child("tried", cases), strict=True))
    for found in wrong.values():
        found[:] = [one for one in found if not (abs(float(one[1])) > 1e150 and one[2].startswith("NumPy gives"))]
    assert {expression: found for expression, found in wrong.items() if found} == {}


@numba.njit
def unchecked(array: Any, i: int) -> Any:
    return array[i]


def test_an_index_in_a_helper_that_its_author_has_compiled_is_checked() -> None:
    unchecked(np.zeros(3), 1)  # numba has its code without checks now
    assert in_a_child("tried", [["unchecked(state, msg.i)"], ["math.floor(unchecked(state, msg.i))"]]) == [[], []]


@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_not_shown_to_be_safe_is_refused_by_name(expression: str) -> None:
    with pytest.raises(
        HandlerError,
        match=r"line \d+: .*(not among the functions that a handler may use|compiled without|is no constant)",
    ):
        compile_span(_handler(expression), SpanTypes(PROBE, VALUE, STATE))


def test_without_index_checks_the_rest_stays_refused() -> None:
    for body in ("msg.i = 3", "out.value = state.flat[msg.i]", "out.value = again(msg.i)"):
        with pytest.raises(HandlerError):
            compile_span(built("msg, out, state", body), SpanTypes(PROBE, VALUE, STATE, check=False))


def again(n: int) -> int:
    return n if n <= 0 else again(n - 1)
