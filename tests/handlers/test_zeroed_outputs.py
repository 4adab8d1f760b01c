"""What a handler leaves of its output is zero, to the byte."""

from __future__ import annotations

import linecache
import re
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spans import compile_span, function_of

from ringkernel.codegen.span_types import SpanTypes
from ringkernel.devices.compiled.handler_views import given as as_handlers_see

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.compiles


def built(parameters: str, body: str, helpers: str) -> Any:
    """A handler, as a user would have written it in a module."""
    source = helpers + f"\ndef handler({parameters}):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    name = f"<unwritten {hash(source):x}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "unwritten_handler"}
    exec(compile(source, name, "exec"), scope)
    return scope["handler"]


# --- random handlers -------------------------------------------------------------------------------------------------

HANDLERS = 20
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
def test_what_random_handlers_leave_is_zero(batch: bool, random_cases: Callable[[int], int]) -> None:
    """To the byte, padding included, where there was something else before."""

    @hypothesis.seed(1)
    @settings(
        max_examples=random_cases(HANDLERS), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(drawn=batches() if batch else one_by_one(), seed=st.integers(0, 2**32 - 1))
    def each(drawn: tuple[str, np.dtype[Any]], seed: int) -> None:
        body, output = drawn
        handler = built("msgs, outs" if batch else "msg, out", body, RANDOM_HELPERS)
        span = compile_span(handler, SpanTypes(RANDOM_INPUT, output, None, batch=batch))
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
            assert outs[:emitted].tobytes() == expected.tobytes(), f"{body}\n{output}"

    each()
