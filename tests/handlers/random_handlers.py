"""Random handlers: Python source over random messages, from a small grammar of expressions and statements."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st
from random_messages import INTEGERS, REALS, Scope, readable, records
from rewriting import emulated

T = TypeVar("T")
Made = Callable[[], str]

NAMES = {
    **{f"i{size}": f"np.int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"np.uint{8 * size}" for size in (1, 2, 4, 8)},
    "f4": "np.float32",
    "f8": "np.float64",
    "c8": "np.complex64",
    "c16": "np.complex128",
    "b1": "bool",
}
WHOLE = "def whole(x):\n    return int(x) if x > -1e9 and x < 1e9 else 0\n"
FAIL = 'raise ValueError("refused")'


@dataclass
class Case:
    """One handler with its types. `state` is None, or what it starts from."""

    source: str
    input: np.dtype[Any]
    output: np.dtype[Any]
    state: Any
    batch: bool
    max_outputs: int
    check: bool
    zeroed: bool

    def function(self) -> Any:
        """The handler, as a user would have written it in a module."""
        name = f"<random handler {hash(self.source):x}>"
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(keepends=True), name)
        scope: dict[str, Any] = {"__name__": "random_handler"}
        exec(compile("import math\nimport numpy as np\n", "<imports>", "exec"), scope)
        exec(compile(self.source, name, "exec"), scope)
        return scope["handler"]

    def emulated(self) -> Any:
        """The handler as the listed differences make it."""
        return emulated(self.source, "handler")


# --- expressions --------------------------------------------------------------------------------------------------

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
LITERALS = (
    "0",
    "1",
    "2",
    "3",
    "7",
    "10",
    "100",
    "255",
    "1000",
    "65536",
    "2147483648",
    "9223372036854775807",
    "-1",
    "-3",
)
FLOAT_LITERALS = ("0.0", "1.0", "0.1", "0.5", "-2.5", "3.0", "1e-3", "1e10", "1e300", "-0.0")
MATH = ("sqrt", "exp", "log", "sin", "cos", "tan", "atan", "asin", "acosh", "log1p", "expm1", "tanh", "log10", "fabs")
UFUNCS = (
    "sqrt",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "arctan",
    "floor",
    "ceil",
    "trunc",
    "rint",
    "square",
    "sign",
    "absolute",
)
PAIRS = ("add", "subtract", "multiply", "true_divide", "minimum", "maximum", "fmin", "fmax", "hypot", "arctan2")
ELEMENTWISE = ("add", "subtract", "multiply", "minimum", "maximum", "bitwise_and", "bitwise_xor")


class Grammar:
    """Draws expressions over a scope. With `safe`, none that may fail."""

    def __init__(self, draw: Any, *, safe: bool) -> None:
        self.draw, self.safe, self.helper = draw, safe, False

    def one_of(self, *options: T) -> T:
        chosen: T = self.draw(st.sampled_from(options))
        return chosen

    def chance(self, one_in: int) -> bool:
        return bool(self.draw(st.integers(1, one_in)) == one_in)

    def atom(self, scope: Scope, kinds: str, literals: tuple[str, ...]) -> str:
        names = scope.of(kinds)
        arrays = [text for text, (kind, _) in scope.arrays.items() if kind[0] in kinds]
        if arrays and self.chance(3):
            return self.element(scope, self.one_of(*arrays), 1)
        return self.one_of(*names) if names and not self.chance(4) else self.one_of(*literals)

    def index(self, scope: Scope, length: int, depth: int) -> str:
        if self.chance(3):
            return str(self.draw(st.integers(-length, length - 1)))
        text = self.integer(scope, depth - 1)
        return f"({text}) % {length}" if self.safe or not self.chance(4) else text

    def element(self, scope: Scope, array: str, depth: int) -> str:
        _, shape = scope.arrays[array]
        return f"{array}[{', '.join(self.index(scope, length, depth) for length in shape)}]"

    def integer(self, scope: Scope, depth: int) -> str:
        if depth <= 0:
            return self.atom(scope, "iu", LITERALS)

        def a() -> str:
            return self.integer(scope, depth - 1)

        def risky() -> str:
            return self.real(scope, depth - 1)

        def alike(left: str, right: str) -> str:
            """Two of one type: a float64 is what comes of uint64 and int64."""
            kind = self.one_of("np.int64", "np.int64", "np.uint64", "np.int32")
            return f"{kind}({left}), {kind}({right})"

        if not self.safe and self.chance(16):  # what may have no defined result
            function = self.one_of("int", "round", "math.floor", "np.int8", "np.int32", "np.uint16", "np.uint64")
            return self.one_of(f"({a()} {self.one_of('<<', '>>', '**')} {a()})", f"{function}({risky()})")
        if self.chance(2):
            return f"({a()} {self.one_of('+', '-', '*', '//', '%', '&', '|', '^')} {a()})"
        options: list[Made] = [
            lambda: f"({a()} {self.one_of('<<', '>>')} ({a()} & 63))",
            lambda: f"{self.one_of('-', '~', 'abs')}({a()})",
            lambda: f"{'max' if self.helper else 'mix'}({a()}, {a()})",
            lambda: f"{self.one_of(*(NAMES[kind] for kind in INTEGERS))}({a()})",
            lambda: f"np.int64({a()}) ** {self.one_of('2', '3')}",
            lambda: f"np.{self.one_of(*ELEMENTWISE)}({alike(a(), a())})",
            lambda: f"{self.one_of('min', 'max')}({alike(a(), a())})",
            lambda: f"int({self.truth(scope, depth - 1)})",
            lambda: f"whole({risky()})",
            lambda: f"(np.int64({a()}) if {self.truth(scope, depth - 1)} else np.int64({a()}))",
        ]
        return self.one_of(*options, *self.reductions(scope, "iu", depth))()

    def reductions(self, scope: Scope, kinds: str, depth: int) -> list[Made]:
        """What can be made of an array: a sum, the least, the largest, an element."""
        arrays = [array for array, (kind, _) in scope.arrays.items() if kind[0] in kinds]
        if not arrays:
            return []
        return [
            lambda: f"{self.one_of(*arrays)}.{self.one_of('sum', 'min', 'max')}()",
            lambda: self.element(scope, self.one_of(*arrays), depth),
        ] * 2

    def real(self, scope: Scope, depth: int) -> str:
        if depth <= 0:
            return self.atom(scope, "f", FLOAT_LITERALS)

        def a() -> str:
            return self.real(scope, depth - 1)

        def any_number() -> str:
            return self.integer(scope, depth - 1) if self.chance(3) else a()

        if self.chance(2):
            return f"({a()} {self.one_of('+', '-', '*', '/', '//', '%')} {any_number()})"
        options: list[Made] = [
            lambda: f"math.{self.one_of(*MATH)}({any_number()})",
            lambda: f"np.{self.one_of(*UFUNCS)}({a()})",
            lambda: f"np.{self.one_of(*PAIRS)}({a()}, {any_number()})",
            lambda: f"{self.one_of('-', 'abs')}({a()})",
            lambda: f"{self.one_of('min', 'max')}({a()}, {a()})",
            lambda: f"{self.one_of('np.float32', 'float')}({any_number()})",
            lambda: f"(np.float64({a()}) if {self.truth(scope, depth - 1)} else np.float64({a()}))",
            lambda: f"({self.integer(scope, depth - 1)} / {self.integer(scope, depth - 1)})",
        ]
        names, complexes = scope.of("f"), scope.of("c")
        if names:
            options += [
                lambda: f"({self.one_of(*names)} ** {self.one_of(*names)})",
                lambda: f"np.copysign({a()}, {self.one_of(*names)})",
            ]
        if complexes:
            options.append(lambda: self.one_of("{}.real", "{}.imag", "abs({})").format(self.one_of(*complexes)))
        return self.one_of(*options, *self.reductions(scope, "f", depth))()

    def truth(self, scope: Scope, depth: int) -> str:
        truths = scope.of("b")
        if depth <= 0 and truths:
            return self.one_of(*truths)
        operand = self.one_of(self.integer, self.real)
        options: list[Made] = [
            lambda: f"({operand(scope, depth - 1)} {self.one_of(*COMPARISONS)} {operand(scope, depth - 1)})",
            lambda: f"{self.one_of('math.isnan', 'np.isfinite', 'math.isinf')}({self.real(scope, depth - 1)})",
        ]
        if depth > 0:
            options += [
                lambda: f"({self.truth(scope, depth - 1)} {self.one_of('and', 'or')} {self.truth(scope, depth - 1)})",
                lambda: f"(not {self.truth(scope, depth - 1)})",
            ]
        if truths:
            options += [
                lambda: f"(~{self.one_of(*truths)})",
                lambda: f"({self.one_of(*truths)} {self.one_of('&', '|', '^')} {self.one_of(*truths)})",
                lambda: f"(({self.one_of(*truths)} + {self.one_of(*truths)}) > {self.one_of('0', '1')})",
            ]
        return self.one_of(*options)()

    def complex(self, scope: Scope, depth: int) -> str:
        names = scope.of("c")

        def made() -> str:
            return f"complex({self.real(scope, 1)}, {self.real(scope, 1)})"

        if depth <= 0:
            return self.one_of(*names) if names else made()

        def a() -> str:
            return self.complex(scope, depth - 1)

        options: list[Made] = [
            lambda: f"({a()} {self.one_of('+', '-', '*')} {a()})",
            lambda: f"({a()} {self.one_of('+', '-', '*')} {self.real(scope, 0)})",
            lambda: f"(-{a()})",
            lambda: f"({a()}).conjugate()",
            made,
        ]
        if not self.safe:
            options.append(lambda: f"({a()} / {a()})")
        return self.one_of(*options)()

    def of(self, scope: Scope, kind: str, depth: int) -> str:
        """An expression of exactly this type."""
        if kind[0] == "b":
            return self.truth(scope, depth)
        if kind[0] == "c":
            return f"{NAMES[kind]}({self.complex(scope, depth)})"
        text = self.integer(scope, depth) if kind[0] in "iu" else self.real(scope, depth)
        return f"{NAMES[kind]}({text})"


# --- statements ---------------------------------------------------------------------------------------------------


class Body(Grammar):
    """Draws what a handler does with one message: lines of source."""

    def locals(self, scope: Scope) -> tuple[list[str], Scope]:
        lines: list[str] = []
        for i in range(self.draw(st.integers(0, 3))):
            kind = self.one_of("i8", "f8", "f4", "i8")
            lines.append(f"v{i} = {self.of(scope, kind, 2)}")
            scope = scope.extended(**{f"v{i}": kind})
        return lines, scope

    def loop(self, scope: Scope) -> list[str]:
        targets = [name for name in scope.of("if") if name.startswith("v")]
        if not targets:
            return []
        inside, target = scope.extended(k="i8"), self.one_of(*targets)
        kind = scope.numbers[target]
        lines = [f"for k in range({self.one_of('2', '3', '4')}):"]
        if self.chance(3):
            lines += [f"    if {self.truth(inside, 1)}:", f"        {self.one_of('continue', 'break')}"]
        return [*lines, f"    {target} = {self.of(inside, kind, 2)}"]

    def branch(self, scope: Scope, state: Scope) -> list[str]:
        then, other = self.update(scope, state), self.update(scope, state)
        lines = [f"if {self.truth(scope, 1)}:", *(f"    {line}" for line in then or ["pass"])]
        return lines + (["else:", *(f"    {line}" for line in other)] if other else [])

    def update(self, scope: Scope, state: Scope) -> list[str]:
        """Assign to a variable, or to the state."""
        places = {name: kind for name, kind in scope.numbers.items() if name.startswith("v")} | state.numbers
        for array, (kind, _) in state.arrays.items():
            places[self.element(Scope(scope.numbers, state.arrays), array, 1)] = kind
        if not places:
            return []
        place = self.one_of(*places)
        kind = places[place]
        if kind[0] == "f" and self.chance(2):
            return [f"{place} {self.one_of('+=', '-=', '*=')} {self.of(scope, kind, 1)}"]
        return [f"{place} = {self.of(scope, kind, 2)}"]

    def writes(
        self, scope: Scope, target: str, dtype: np.dtype[Any], messages: np.dtype[Any], *, every: bool
    ) -> list[str]:
        """Assign to the fields of an output, to `every` one if it is not zeroed."""
        lines: list[str] = []
        for name in dtype.names or ():
            kind = dtype[name]
            if kind.subdtype is not None:
                base, whole = kind.base.str[1:], np.ndindex(*kind.shape)
                places = [f"[{', '.join(map(str, at))}]" for at in whole]
                some = (
                    places
                    if every
                    else [self.one_of(*places), f"[{', '.join(self.index(scope, n, 1) for n in kind.shape)}]"]
                )
                lines += [f"{target}.{name}{at} = {self.of(scope, base, 1)}" for at in some]
            elif kind.names:
                lines += self.writes(scope, f"{target}.{name}", kind, messages, every=every)
            elif kind.kind == "M":
                times = [other for other in messages.names or () if messages[other] == kind]
                if times:
                    lines.append(f"{target}.{name} = msg.{times[0]}")
            elif every or not self.chance(8):
                lines.append(f"{target}.{name} = {self.of(scope, kind.str[1:], 3)}")
        return lines


@st.composite
def states(draw: Any) -> Any:
    """No state, an array or a record of small values."""
    which = draw(st.integers(0, 3))
    if which < 2:
        return None
    if which == 2:
        return np.ones(draw(st.sampled_from([1, 4, (2, 3)])), draw(st.sampled_from(INTEGERS + REALS)))
    dtype = draw(records("z"))
    return np.zeros((), dtype)


@st.composite
def cases(draw: Any) -> Case:
    """A random handler."""
    inputs, outputs, state = draw(records("x")), draw(records("y")), draw(states())
    batch = draw(st.integers(0, 3)) == 0
    most = draw(st.integers(1, 3)) if batch else 1
    check = draw(st.integers(0, 3)) > 0
    body = Body(draw, safe=batch or not check)
    scope, written = readable("msg", inputs), Scope()
    if state is not None:
        written = (
            readable("state", state.dtype)
            if state.shape == ()
            else Scope({}, {"state": (state.dtype.str[1:], state.shape)})
        )
        scope = Scope(scope.numbers | written.numbers, scope.arrays | written.arrays)
    zeroed = draw(st.booleans()) or any(outputs[name].kind == "M" for name in outputs.names or ())
    lines, inner = body.locals(scope)
    for _ in range(draw(st.integers(0, 3))):
        statements: list[Callable[[Scope], list[str]]] = [
            body.loop,
            lambda scope: body.branch(scope, written),
            lambda scope: body.update(scope, written),
        ]
        lines += body.one_of(*statements)(inner)
    drops = draw(st.booleans())
    leave = [f"if {body.truth(inner, 1)}:", "    continue" if batch else "    return False"] if drops else []
    if not body.safe and body.chance(4):
        leave += [f"if {body.truth(inner, 1)} and {body.truth(inner, 1)}:", f"    {FAIL}"]
    small = Scope({"a": "i8", "b": "i8"})
    body.helper = True
    mix = f"def mix(a, b):\n    return {body.integer(small, 1)}\n"
    body.helper = False
    text = WHOLE + mix
    parameters = ("msgs, outs" if batch else "msg, out") + (", state" if state is not None else "")
    text += f"def handler({parameters}):\n"
    if batch:
        text += "    count = 0\n    for i in range(len(msgs)):\n        msg = msgs[i]\n"
        lines += leave
        for _ in range(draw(st.integers(1, most))):
            lines += [*body.writes(inner, "outs[count]", outputs, inputs, every=True), "count += 1"]
        text += "".join(f"        {line}\n" for line in lines) + "    return count\n"
    else:
        lines += leave + body.writes(inner, "out", outputs, inputs, every=not zeroed)
        text += "".join(f"    {line}\n" for line in lines or ["pass"])
        text += "    return True\n" if drops else ""
    return Case(text, inputs, outputs, state, batch, most, check, zeroed)
