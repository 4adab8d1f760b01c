"""What a handler may leave of its output is zero, and nothing else of it is zeroed."""

from __future__ import annotations

import linecache
import re
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spans import function_of

from ringkernel.codegen.span import compile_span
from ringkernel.codegen.span_types import SpanTypes
from ringkernel.devices.compiled.handler_views import given as as_handlers_see

pytestmark = pytest.mark.compiles

PAIR = np.dtype([("a", "f8"), ("b", "f8")], align=True)
INNER = np.dtype([("p", "i8"), ("q", "i4")], align=True)
INPUT = np.dtype([("n", "i8"), ("v", "f8", (3,)), ("r", INNER)], align=True)
FIELDS: dict[str, Any] = {"v": ("f8", (3,)), "m": ("i2", (2, 3)), "r": (INNER,)}
NOTHING, PAIR_ALL = (0, 0), (0, 16)

HELPERS = """
def fill(o, x):
    o.a = x
    o.b = x

def fill_some(o, x):
    o.a = x
    if x > 0:
        o.b = x

def fill_more(o, x):
    fill_some(o, x)
    o.b = 1.0

def add(o, x):
    o.a += x
    o.b = x
"""

ONE_BY_ONE: dict[str, tuple[int, int]] = {
    "out.a = 1.0; out.b = 2.0": NOTHING,
    "out['a'] = 1.0; out.b = 2.0": NOTHING,
    "out.a = out.b = msg.a": NOTHING,
    "out.a = 1.0": (8, 8),
    "out.b = 1.0": (0, 8),
    "pass": PAIR_ALL,
    "fill(out, msg.a)": NOTHING,
    "fill(o=out, x=msg.a)": PAIR_ALL,
    "fill_some(out, msg.a)": (8, 8),
    "fill_more(out, msg.a)": NOTHING,
    "add(out, msg.a)": (0, 8),
    "out.a = 1.0; add(out, msg.a)": NOTHING,
    "o = out; o.a = 1.0; o.b = 2.0": NOTHING,
    "out.a += 1.0; out.b = 1.0": (0, 8),
    "out.b = out.a; out.a = 1.0": (0, 8),
    "if msg.a > 0: out.a = out.b = 1.0\nelse: fill(out, 2.0)": NOTHING,
    "if msg.a > 0: out.a = out.b = 1.0": PAIR_ALL,
    "out.a = 1.0\nif msg.a > 0: return False\nout.b = 1.0\nreturn True": NOTHING,
    "out.a = 1.0\nif msg.a > 0: return True\nout.b = 1.0\nreturn True": (8, 8),
    "out.a = 1.0\nif msg.a > 0: return msg.b > 0\nout.b = 1.0\nreturn True": (8, 8),
    "out.a = 1.0\nif msg.a > 0: raise ValueError('refused')\nout.b = 1.0": NOTHING,
    "for i in range(3): out.a = out.b = 1.0": PAIR_ALL,  # it is not seen that there is a first time
    "while msg.a > out.a: out.a = 1.0\nout.b = 1.0": (0, 8),
    "t = (out, 1.0)\nt[0].a = 1.0\nout.b = 1.0": PAIR_ALL,
    "o = out if msg.a > 0 else out\no.a = o.b = 1.0": PAIR_ALL,
}
"""What a handler of a pair does, and what of it is zeroed."""

NESTED: dict[str, dict[str, bool | None]] = {
    "v": {
        "for i in range(3): out.v[i] = 1.0": True,
        "for i in range(0, 3, 1): out.v[i] = 1.0": True,
        "for i in range(len(out.v)): out.v[i] = 1.0": True,
        "for i in range(out.v.size): out.v[i] = 1.0": True,
        "for i in range(out.v.shape[0]): out.v[i] = 1.0": True,
        "for i, x in enumerate(out.v): out.v[i] = x": False,
        "for i, _ in enumerate(range(3)): out.v[i] = 1.0": False,
        "v = out.v\nfor i in range(3): v[i] = 1.0": True,
        "v = out.v\nv[0] = v[1] = v[2] = 1.0": True,
        "v = out.v\nv[0] = v[-1] = v[-2] = 1.0": True,
        "out.v[0:3] = 1.0": True,
        "out.v = msg.v": True,
        "for i in range(3): out.v[i] = 1.0 if i > 1 else out.v[i - 1]": False,
        "for i in range(2): out.v[i] = 1.0": False,
        "for i in range(1, 3): out.v[i] = 1.0": False,
        "for i in range(0, 3, 2): out.v[i] = 1.0": False,
        "for i in range(3): out.v[2 - i] = 1.0": False,
        "for i in range(3):\n  if msg.v[i] > 0: out.v[i] = 1.0": False,
        "for i in range(3):\n  if msg.v[i] > 0: continue\n  out.v[i] = 1.0": False,
        "for i in range(3):\n  if msg.v[i] > 0: break\n  out.v[i] = 1.0": False,
        "for i in range(3):\n  out.v[i] = 1.0\n  if msg.v[i] > 0: break": False,
        "for i in range(3):\n  out.v[i] = 1.0\n  if msg.v[i] > 0: return False": True,
        "for i in range(3):\n  out.v[i] = 1.0\n  if msg.v[i] > 0: continue": True,
        "for i in range(3):\n  if msg.v[i] > 0: out.v[i] = 1.0\n  else: out.v[i] = 2.0": True,
        "i = 0\nwhile i < 3:\n  out.v[i] = 1.0\n  i += 1": False,
        "last = 0\nfor j in range(2):\n  for i in range(3):\n    out.v[last] = 1.0\n    last = i": False,
        "r = range(3)\nfor j in range(2):\n  for i in r: out.v[i] = 1.0": False,  # the outer one may not run
        "for i in range(3): pass\nout.v[i] = 1.0": False,
        "out.v[:2] = 1.0": False,
        "n = msg.n\nout.v[:n] = 1.0": False,
    },
    "m": {
        "for i in range(2):\n  for j in range(3): out.m[i, j] = 1": True,
        "for j in range(3):\n  for i in range(2): out.m[i, j] = 1": True,
        "for i in range(2):\n  for j in range(3): out.m[i][j] = 1": True,
        "for i in range(2): out.m[i, :] = 1": True,
        "for i in range(2): out.m[i] = 1": True,
        "for j in range(3): out.m[:, j] = 1": True,
        "for j in range(3):\n  out.m[0, j] = 1\n  out.m[1, j] = 2": True,
        "for i in range(2):\n  row = out.m[i]\n  for j in range(3): row[j] = 1": True,
        "for i in range(2):\n  for j in range(i): out.m[i, j] = 1": False,
        "for i in range(2): out.m[i, i] = 1": False,
        "for i in range(2):\n  for j in range(3):\n    if msg.n > j: break\n    out.m[i, j] = 1": False,
        "for i in range(2):\n  if msg.n > i:\n    for j in range(3): out.m[i, j] = 1": False,
        "for i in range(2):\n  for j in range(2): out.m[i, j] = 1": False,
    },
    "r": {
        "out.r = msg.r": True,
        "r = out.r; r.p = 1; r.q = 2": None,  # but for the padding in there
        "out.r.p = 1": False,
    },
}
"""What a handler does to a field behind another: whether it has written it."""

BATCHES: dict[str, tuple[tuple[int, int], tuple[int, int] | None]] = {
    "for i in range(len(msgs)): outs[i].a = 1.0; outs[i].b = 2.0": (NOTHING, NOTHING),
    "for i in range(msgs.size): outs[i] = msgs[i]": (NOTHING, NOTHING),
    "for i, msg in enumerate(msgs): outs[i] = msg": (NOTHING, NOTHING),
    "for i, msg in enumerate(msgs):\n  o = outs[i]\n  fill(o, msg.a)": (NOTHING, NOTHING),
    "for i, msg in enumerate(msgs): outs.a[i] = outs.b[i] = msg.a": (NOTHING, NOTHING),
    "outs.a[:] = msgs.a; outs.b[:] = 1.0": (NOTHING, None),
    "outs[:] = msgs": (NOTHING, None),
    "for i in range(len(outs)): outs[i].a = outs[i].b = 2.0\nreturn 1": (NOTHING, NOTHING),
    "for i in range(len(msgs)): outs[i].a = outs[i].b = 2.0\nreturn 1": (NOTHING, PAIR_ALL),
    "outs.a[:-1] = 1.0; outs.b[:-1] = 2.0": (PAIR_ALL, PAIR_ALL),
    "outs.a[1:] = 1.0; outs.b[:len(msgs)] = 2.0": (PAIR_ALL, PAIR_ALL),
    "for i in range(len(msgs)): outs[0].a = outs[i].b = 2.0": ((0, 8), (0, 8)),
    "for i in range(1, len(msgs)): outs[i].a = outs[i].b = 2.0": (PAIR_ALL, PAIR_ALL),
    "for i in range(1, len(msgs)): outs[i].a = outs[i - 1].a\nouts.b[:] = 1.0": ((0, 8), (0, 8)),
    "n = 0\nfor i in range(len(msgs)):\n  if msgs[i].a > 0:\n    outs[n] = msgs[i]\n    n += 1\nreturn n": (
        PAIR_ALL,
        PAIR_ALL,
    ),
}
"""What a batch handler of pairs does, and what is zeroed with one output per message, and with two (None: it fails)."""


def built(parameters: str, body: str, helpers: str = HELPERS) -> Any:
    """A handler, as a user would have written it in a module."""
    source = helpers + f"\ndef handler({parameters}):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    name = f"<unwritten {hash(source):x}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "unwritten_handler"}
    exec(compile(source, name, "exec"), scope)
    return scope["handler"]


@pytest.mark.parametrize("body", ONE_BY_ONE)
def test_what_a_handler_may_leave_is_seen(body: str) -> None:
    span = compile_span(built("msg, out", body), SpanTypes(PAIR, PAIR, None))
    expected = ONE_BY_ONE[body]
    assert span.unwritten == expected
    assert compile_span(built("msg, out", body), SpanTypes(PAIR, PAIR, None, zeroed=False)).unwritten == NOTHING


@pytest.mark.parametrize(("field", "body"), [(field, body) for field, bodies in NESTED.items() for body in bodies])
def test_nested_fields_are_written_if_all_of_them_is(field: str, body: str) -> None:
    """The stretch ends, or begins, with the padding elsewhere."""
    dtype = np.dtype([("k", "i8"), (field, *FIELDS[field])], align=True)
    span = compile_span(built("msg, out", f"out.k = 1\n{body}"), SpanTypes(INPUT, dtype, None))
    start, length = span.unwritten
    end = 8 + dtype[field].itemsize
    padding = dtype.itemsize - end
    if NESTED[field][body]:
        assert span.unwritten == ((end, padding) if padding else NOTHING)
    elif NESTED[field][body] is None:
        assert span.unwritten == (8 + 12, 4)
    else:
        assert 8 <= start < end
        assert start + length <= dtype.itemsize


@pytest.mark.parametrize("body", BATCHES)
def test_what_a_batch_handler_may_leave_is_seen(body: str) -> None:
    for max_outputs, expected in zip((1, 2), BATCHES[body], strict=True):
        if expected is not None:
            spec = SpanTypes(PAIR, PAIR, None, batch=True, max_outputs=max_outputs)
            assert compile_span(built("msgs, outs", body), spec).unwritten == expected


# --- random handlers -------------------------------------------------------------------------------------------------

HANDLERS = 80
MESSAGES = 24
OUTPUTS: dict[str, Any] = {
    "x": ("f8",), "n": ("i4",), "k": ("i8",),
    "v": ("f8", (3,)), "m": ("i2", (2, 3)), "r": (np.dtype([("p", "i8"), ("q", "i4")]),),
}  # fmt: skip
RANDOM_INPUT = np.dtype([("a", "i8"), ("b", "i8"), ("v", "f8", (3,)), ("r", *OUTPUTS["r"])])
RANDOM_HELPERS = """
def set_inner(r, p):
    if p > 2:
        r.q = 5
        return 1
    r.p = p
    r.q = 6
    return 2

def set_array(v, x):
    for i in range(3):
        v[i] = x

def count_up(o):
    o.k += 1
    o.n = 3
"""


class Body:
    """Draws statements that write to, and read from, an output called `out`."""

    def __init__(self, draw: Any, leave: str) -> None:
        self._draw, self._leave, self._loops = draw, leave, 0
        names = draw(st.lists(st.sampled_from(sorted(OUTPUTS)), min_size=1, max_size=3, unique=True))
        self.output = np.dtype([(name, *OUTPUTS[name]) for name in names])

    def _has(self, statement: str) -> bool:
        named = set(re.findall(r"out(?:\.|\[')(\w)", statement)) | set("kn" if "count_up" in statement else "")
        return named <= set(self.output.names or ())

    def first(self) -> list[str]:
        """Whole fields, before all else."""
        whole = ["out.x = 1.0", "out.n = 1", "out.k = 1", "out.v[:] = 1.0", "out.m[:] = 1", "out.r = msg.r"]
        return [one for one in whole if self._has(one) and self._one_of(True, False)]

    def _one_of(self, *options: Any) -> Any:
        return self._draw(st.sampled_from(options))

    def _test(self) -> str:
        names = ["msg.a", "msg.b", *(f"i{loop}" for loop in range(self._loops))]
        return f"{self._one_of(*names)} {self._one_of('>', '<', '==')} {self._draw(st.integers(0, 4))}"

    def _index(self, length: int) -> str:
        names = [f"i{loop} % {length}" for loop in range(self._loops)] + [f"i{loop}" for loop in range(self._loops)]
        return str(self._one_of(*names, "msg.a % 2", *range(-length, length)))

    def _simple(self) -> str:
        options = [
                "out.x = float(msg.a)", "out.n = 1", "out.k = msg.b", "out['k'] = 7", "out.x = float(out.k)",
                "out.k += 1", "out.k = out.r.p", "out.r.p = 2", "out.r.q = 3", "out.r = msg.r", "out.v = msg.v",
                "out.v[:] = 4.0", "out.k = 2 * out.k", "out.v[:] = msg.v", "out.m[:] = 2", "out.m[1] = 1",
                "out.m[:, 1] = 3",
                "out.v[1:] = 2.0", "out.x = out.v.sum()", "out.x = out.v[1]", "inner = out.r; inner.p = 1; inner.q = 1",
                "v = out.v; v[0] = 1.0; v[1] = 2.0; v[2] = 3.0", "set_inner(out.r, msg.a)", "set_array(out.v, 1.5)",
                "count_up(out)", f"out.v[{self._index(3)}] = 1.25", f"out.m[{self._index(2)}, {self._index(3)}] = 5",
                f"out.m[{self._index(2)}][{self._index(3)}] = 6", f"row = out.m[{self._index(2)}]; row[:] = 4",
        ]  # fmt: skip
        return str(self._one_of(*filter(self._has, options)))

    def lines(self, depth: int) -> list[str]:
        """A block of statements."""
        found: list[str] = []
        for _ in range(self._draw(st.integers(1, 5 if depth else 3))):
            kind = self._one_of("simple", "simple", "simple", "if", "loop", "leave") if depth else "simple"
            if kind == "simple":
                found.append(self._simple())
            elif kind == "leave":
                options = [self._leave, *(["break", "continue"] if self._loops else [])]
                found.append(f"if {self._test()}: {self._one_of(*options)}")
            elif kind == "if":
                found += [f"if {self._test()}:", *indented(self.lines(depth - 1))]
                found += ["else:", *indented(self.lines(depth - 1))] if self._one_of(True, True, False) else []
            else:
                name, length = f"i{self._loops}", self._one_of(2, 3, 3, "msg.b")
                self._loops += 1
                found += [f"for {name} in range({length}):", *indented(self.lines(depth - 1))]
                self._loops -= 1
        return found


def indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


@st.composite
def one_by_one(draw: Any) -> tuple[str, np.dtype[Any]]:
    body = Body(draw, draw(st.sampled_from(["return False", "return True", "return msg.b > 1"])))
    return "\n".join([*body.first(), *body.lines(3), "return True"]), body.output


@st.composite
def batches(draw: Any) -> tuple[str, np.dtype[Any]]:
    body = Body(draw, "continue")
    lines = indented(["out = outs[i]", "msg = msgs[i]", *body.first(), *body.lines(2)])
    each = draw(st.sampled_from(["range(len(msgs))", "range(len(outs))", "range(1, len(msgs))"]))
    options = ["outs.x[:] = 2.0", "outs.v[:] = 3.0", "outs.k[:] = msgs.a", "outs.k[1:] = msgs.a[1:]", "outs.n[:-1] = 1"]
    before = [one for one in options if body.output.names and one[5] in body.output.names and draw(st.booleans())]
    end = draw(st.sampled_from(["pass", "return len(msgs) // 2", "return len(msgs)"]))
    return "\n".join([*before, f"for i in {each}:", *lines, end]), body.output


def in_python(
    handler: Any, output: np.dtype[Any], messages: np.ndarray[Any, Any], *, batch: bool
) -> np.ndarray[Any, Any]:
    outs, emitted = np.zeros(len(messages), output), 0
    if batch:
        verdict = handler(as_handlers_see(messages, one=False), as_handlers_see(outs, one=False))
        return outs if verdict is None else outs[:verdict]
    for i in range(len(messages)):
        outs[emitted] = np.zeros((), output)
        one = as_handlers_see(messages[i : i + 1], one=True)
        emitted += bool(handler(one, as_handlers_see(outs[emitted : emitted + 1], one=True)))
    return outs[:emitted]


@pytest.mark.timeout(0)
@pytest.mark.usefixtures("uncovered")
@pytest.mark.parametrize("batch", [False, True], ids=["one by one", "batches"])
def test_what_random_handlers_leave_is_zero(batch: bool) -> None:
    """To the byte, padding included, where there was something else before."""
    spared = 0

    @hypothesis.seed(1)
    @settings(max_examples=HANDLERS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(drawn=batches() if batch else one_by_one(), seed=st.integers(0, 2**32 - 1))
    def each(drawn: tuple[str, np.dtype[Any]], seed: int) -> None:
        nonlocal spared
        body, output = drawn
        handler = built("msgs, outs" if batch else "msg, out", body, RANDOM_HELPERS)
        span = compile_span(handler, SpanTypes(RANDOM_INPUT, output, None, batch=batch))
        spared += span.unwritten[1] < output.itemsize
        random = np.random.default_rng(seed)
        messages = np.zeros(MESSAGES, RANDOM_INPUT)
        messages["a"], messages["b"] = random.integers(0, 5, (2, MESSAGES))
        messages["v"], messages["r"]["p"] = random.random((MESSAGES, 3)), 9
        outs = np.frombuffer(bytearray(b"\xa5" * MESSAGES * output.itemsize), output)
        fault = np.array([-1, 0, 0, 0], np.int64)
        emitted = function_of(span)(messages.ctypes.data, MESSAGES, outs.ctypes.data, 0, fault.ctypes.data)
        if fault[0] == -1:
            expected = in_python(handler, output, messages, batch=batch)
            assert emitted == len(expected), body
            assert outs[:emitted].tobytes() == expected.tobytes(), f"{body}\n{output} {span.unwritten}"

    each()
    assert spared > HANDLERS // 4, f"only {spared} of {HANDLERS} handlers are spared any zeroing"
