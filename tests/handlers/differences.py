"""In what compiled handlers differ from Python and NumPy: the list that `docs/differences.md` shows and that the
differential test goes by. A difference that is not here is a defect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MESSAGE = np.dtype(
    [
        *[(name, name) for name in ("i1", "i8", "u1", "u2", "u8", "f4", "f8", "c16")],
        ("b1", "?"),
        ("xs", "f8", 16),
    ]
)
"""What the examples read: fields that are called like their types."""

UNSPECIFIED = "unspecified"


@dataclass(frozen=True)
class Example:
    """An expression, the fields that are not 1, and what it is in Python and compiled, as printed."""

    expression: str
    given: dict[str, Any]
    python: str
    compiled: str

    def row(self) -> str:
        """The line of a table."""
        given = ", ".join(f"{name} = {value}" for name, value in self.given.items())
        return f"| `{self.expression}` | {given or 'all 1'} | {self.python} | {self.compiled} |"


@dataclass(frozen=True)
class Difference:
    """One rule: what the emulation calls it, and what the page says."""

    key: str
    title: str
    text: str
    examples: tuple[Example, ...] = ()

    def section(self) -> str:
        """The page's part on it."""
        lines = [f"### {self.title}", "", self.text]
        if self.examples:
            lines += ["", "| expression | with | Python | compiled |", "|---|---|---|---|"]
            lines += [example.row() for example in self.examples]
        return "\n".join(lines) + "\n"


ALTERNATING = "[1e16, 1, -1e16, 1] * 4"

DIFFERENCES = (
    Difference(
        "wide-integers",
        "Integers are calculated with in 64 bits",
        "`+`, `-`, `*`, `//`, `%`, `**` and the bit operators make an int64 of narrower integers (a uint64 where all "
        "are unsigned), which wraps at 64 bits; NumPy stays in the wider of the two types, and wraps there. `-x` and "
        "`~x` wrap in the type of `x`; what is calculated from them has 64 bits again. To wrap earlier, convert: "
        "`np.int8(...)`.",
        (
            Example("msg.i1 + msg.i1", {"i1": 100}, "-56", "200"),
            Example("msg.u1 - 2", {"u1": 1}, "255", "-1"),
            Example("-msg.u1", {"u1": 1}, "255", "255"),
        ),
    ),
    Difference(
        "uint64-mixed",
        "uint64 with a signed integer is int64",
        "NumPy makes a float64 of the two, or raises (bit operators). Compiled, both are 64-bit words, and the "
        "result is an int64; of a shift it has the type of the left side. Comparisons are right in both. `min`, `max` "
        "and NumPy's functions make a float64, as NumPy does, and NumPy's bit functions are refused.",
        (
            Example("msg.u8 + msg.i8", {"u8": 2**63}, "9.223372036854776e+18", "-9223372036854775807"),
            Example("msg.u8 & msg.i8", {"u8": 5, "i8": -2}, "TypeError", "4"),
        ),
    ),
    Difference(
        "literals",
        "A number in the source is an int64 or a float64",
        "In NumPy it takes the type of what it is combined with, and so does what Python computes from such numbers "
        "alone, and what `int`, `float` and `complex` give. A float32 handler that should stay one writes "
        "`np.float32(0.1)`.",
        (
            Example("msg.f4 * 0.1", {"f4": 0.1}, "0.010000001", "0.010000000149011612"),
            Example("msg.u8 + 1", {"u8": 2**63}, "9223372036854775809", "-9223372036854775807"),
            Example("msg.f4 == 0.1", {"f4": 0.1}, "True", "False"),
            Example("msg.i1 + 1000", {"i1": 1}, "OverflowError", "1001"),
        ),
    ),
    Difference(
        "mixed-floats",
        "float32 with uint16 is float64",
        "Likewise complex64 with uint16 is complex128. With int8, int16, uint8 and bool it stays float32, as in NumPy.",
        (Example("msg.f4 * msg.u2", {"f4": 0.1, "u2": 3}, "0.3", "0.30000000447034836"),),
    ),
    Difference(
        "bools",
        "Booleans are added as numbers",
        "`&`, `|`, `^` and `~` of two booleans are booleans in both.",
        (
            Example("msg.b1 + msg.b1", {"b1": True}, "True", "2"),
            Example("msg.b1 - msg.b1", {"b1": True}, "TypeError", "0"),
            Example("-msg.b1", {"b1": True}, "TypeError", "-1"),
        ),
    ),
    Difference(
        "python-integers",
        "Python's integers are int64, and their division by zero does not raise",
        "`int`, `round`, `len`, `range` and `math.floor` give an unbounded integer in Python, and an int64 here, which "
        "wraps. A division by zero of these, and of the floats that `float` and `math` give, has NumPy's result.",
        (
            Example("int(msg.i8) * 4", {"i8": 2**62}, "18446744073709551616", "0"),
            Example("1 / int(msg.i8)", {"i8": 0}, "ZeroDivisionError", "inf"),
            Example("math.fabs(msg.f8) / int(msg.i8)", {"i8": 0}, "ZeroDivisionError", "inf"),
            Example("7 // int(msg.i8)", {"i8": 0}, "ZeroDivisionError", "0"),
            Example("np.int8(int(msg.i8))", {"i8": 300}, "OverflowError", "44"),
        ),
    ),
    Difference(
        "float-to-integer",
        "A float that does not fit becomes some integer",
        "NaN, infinities and what is beyond the integer's range give whatever the processor gives (on x86-64 mostly "
        "the least integer), without an exception. Check first: `if abs(x) < 1e9`.",
        (
            Example("int(msg.f8)", {"f8": "nan"}, "ValueError", UNSPECIFIED),
            Example("int(msg.f8)", {"f8": "inf"}, "OverflowError", UNSPECIFIED),
            Example("int(msg.f8)", {"f8": 1e19}, "10000000000000000000", UNSPECIFIED),
            Example("math.floor(msg.f8)", {"f8": "nan"}, "ValueError", UNSPECIFIED),
            Example("round(msg.f8)", {"f8": "nan"}, "ValueError", UNSPECIFIED),
        ),
    ),
    Difference(
        "shifts",
        "Shifts by 64 and more, or by less than 0, give some integer",
        "NumPy shifts every bit out. Write `x << (n & 63)`, or check that `n < 64`.",
        (
            Example("msg.i8 << msg.u1", {"u1": 64}, "0", UNSPECIFIED),
            Example("msg.i8 << msg.i1", {"i1": -1}, "0", UNSPECIFIED),
            Example("msg.i1 << np.int8(9)", {}, "0", "512"),
        ),
    ),
    Difference(
        "integer-powers",
        "An integer to a negative power, or to one beyond 65,536, gives some integer",
        "NumPy raises, or wraps around. Write `float(x) ** n`.",
        (
            Example("msg.i8 ** msg.i1", {"i8": 2, "i1": -1}, "ValueError", UNSPECIFIED),
            Example("msg.i8 ** np.int64(65537)", {"i8": 3}, "917085678152187907", UNSPECIFIED),
        ),
    ),
    Difference(
        "math-functions",
        "Functions of `math` do not raise",
        "They give the NaN or infinity that the C library gives, as NumPy's functions do.",
        (
            Example("math.sqrt(msg.f8)", {"f8": -1}, "ValueError", "nan"),
            Example("math.log(msg.f8)", {"f8": 0}, "ValueError", "-inf"),
            Example("math.exp(msg.f8)", {"f8": 1000}, "OverflowError", "inf"),
        ),
    ),
    Difference(
        "float32",
        "`float` and `math` of a float32 are float32",
        "In Python they are float64. `np.float64(x)` is float64 in both.",
        (
            Example("math.sqrt(msg.f4)", {"f4": 2}, "1.4142135623730951", "1.4142135381698608"),
            Example("float(msg.f4) * float(msg.f4)", {"f4": 0.1}, "0.010000000298023226", "0.010000000707805157"),
        ),
    ),
    Difference(
        "last-bits",
        "The last bits of `exp`, `log`, `tanh` and their like",
        "NumPy computes them with routines of its own, compiled code with the C library: up to 4 units in the last "
        "place apart. `sqrt`, `floor`, `ceil`, `trunc` and `rint` are the same to the bit.",
    ),
    Difference(
        "ufunc-types",
        "NumPy's functions know no float16, and take float32 with any integer as float32",
        "NumPy computes the square root of an int8 in float16, and `np.add` of a float32 and an int64 in float64.",
        (
            Example("np.sqrt(msg.i1)", {"i1": 2}, "1.414", "1.4142135381698608"),
            Example("np.add(msg.f4, msg.i8)", {"f4": 0.5, "i8": 2**24}, "16777216.5", "16777216.0"),
        ),
    ),
    Difference(
        "min-max",
        "`min` and `max` give the type that fits all",
        "Python gives the chosen one as it is. Which one is chosen does not differ, also where there is a NaN.",
        (Example("min(msg.i8, msg.f8)", {"i8": 2**53 + 1, "f8": 1e300}, "9007199254740993", "9007199254740992.0"),),
    ),
    Difference(
        "signed-zeros",
        "The sign of a zero from `np.minimum`, `np.maximum` and `np.sign`",
        "Of two zeros the first is given; NumPy's choice depends on the processor.",
        (Example("np.sign(msg.f8)", {"f8": -0.0}, "0.0", "-0.0"),),
    ),
    Difference(
        "sums",
        "Sums go from left to right",
        "NumPy adds 8 and more floats in another order. The same holds for `mean`, which uses the sum.",
        (Example("msg.xs.sum()", {"xs": ALTERNATING}, "0.0", "1.0"),),
    ),
    Difference(
        "complex-division",
        "A complex number divided by 0 raises",
        "The last bits of a quotient may differ, too, and which of its parts are infinite or NaN.",
        (Example("msg.c16 / (msg.c16 - msg.c16)", {}, "(inf+nanj)", "ZeroDivisionError"),),
    ),
    Difference(
        "changed-while-iterated",
        "A dict or a set that changes its size while it is iterated",
        "Python raises a RuntimeError; compiled, the loop over a dict ends, and one over a set goes on with what it "
        "finds. Iterate over a list of the keys.",
    ),
    Difference(
        "bytes-index",
        "A negative index into bytes is an `IndexError`",
        "Write `msg.s[len(msg.s) - 1]` for the last one.",
    ),
    Difference(
        "overlapping",
        "An array that is changed in place by another part of itself",
        "`a[1:] += a[:-1]` takes a copy in NumPy; compiled, it raises a ValueError. Take the copy yourself: "
        "`a[:-1].copy()`. Parts that do not lie in one piece, as `a[::2]`, are not looked at.",
    ),
    Difference(
        "uint64-index",
        "An index of 2**63 and more is an `IndexError`",
        "Like any other index out of range; Python raises an `OverflowError`.",
        (Example("msg.xs[msg.u8]", {"u8": 2**64 - 1}, "OverflowError", "IndexError"),),
    ),
)

SAME = (
    Example("msg.i8 * msg.i8", {"i8": 2**62 + 1}, "-9223372036854775807", "-9223372036854775807"),
    Example("msg.i8 + 1 > msg.i8", {"i8": 2**63 - 1}, "False", "False"),
    Example("msg.f8 / msg.i8", {"i8": 0}, "inf", "inf"),
    Example("msg.i8 // msg.i1", {"i1": 0}, "0", "0"),
    Example("msg.i8 % msg.i1", {"i1": 0}, "0", "0"),
    Example("msg.i8 // msg.i1", {"i8": -7, "i1": 2}, "-4", "-4"),
    Example("msg.i8 % msg.i1", {"i8": -7, "i1": 3}, "2", "2"),
    Example("msg.f8 % msg.i8", {"f8": -1.5, "i8": 2}, "0.5", "0.5"),
    Example("round(msg.f8)", {"f8": 2.5}, "2", "2"),
    Example("msg.u8 > msg.i8", {"i8": -1}, "True", "True"),
    Example("np.int8(msg.i8)", {"i8": 300}, "44", "44"),
    Example("msg.xs[msg.i8]", {"i8": -16}, "1.0", "1.0"),
    Example("msg.xs[msg.i8]", {"i8": -17}, "IndexError", "IndexError"),
)
"""What one might think differs."""
