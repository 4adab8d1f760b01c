"""Python with the differences of `differences.py`: what a compiled handler computes, one operation after the other.

Each operation on numbers gives what NumPy gives, or, where a listed difference applies, what the list says, and writes
the difference's key down. `rewriting.py` puts them in the place of a handler's own.
"""

from __future__ import annotations

import ctypes
import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

seen: set[str] = set()
"""Keys of the differences that have made a difference since this was last cleared."""


class UnspecifiedError(Exception):
    """The handler did what has no defined result."""


def unspecified(key: str) -> Any:
    seen.add(key)
    raise UnspecifiedError(key)


def number(value: Any) -> Any:
    """A Python number as the 64-bit one that it is in compiled code."""
    if isinstance(value, np.generic | np.ndarray):
        return value
    kinds: tuple[tuple[type, Any], ...] = (
        (bool, np.bool_),
        (int, np.int64),
        (float, np.float64),
        (complex, np.complex128),
    )
    for kind, made in kinds:
        if isinstance(value, kind):
            return made(value)
    return value


def noted(key: str, given: Any, plain: Callable[[], Any]) -> Any:
    """`given`, which differs by `key` from what NumPy makes of the same operands if its type or value does."""
    try:
        expected = plain()
    except (TypeError, ValueError, ArithmeticError):
        seen.add(key)
        return given
    if not isinstance(expected, np.generic):  # Python's own number, which NumPy takes for one of any type
        seen.add("literals")
    if np.asarray(expected).dtype != np.asarray(given).dtype or not same(expected, given):
        seen.add(key)
    return given


def same(left: Any, right: Any) -> bool:
    """Whether two numbers are the same, -0.0 not being 0.0, and any NaN being any other."""
    left, right = np.asarray(left), np.asarray(right)
    if left.dtype.kind == "c" or right.dtype.kind == "c":
        return same(left.real, right.real) and same(left.imag, right.imag)
    if not np.array_equal(left, right, equal_nan=left.dtype.kind == "f" and right.dtype.kind == "f"):
        return False
    if left.dtype.kind == "f" and right.dtype.kind == "f":
        return bool(np.all((np.signbit(left) == np.signbit(right)) | np.isnan(left)))
    return True


# --- operators ----------------------------------------------------------------------------------------------------

OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "BitXor": operator.xor,
    "LShift": operator.lshift,
    "RShift": operator.rshift,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "USub": operator.neg,
    "UAdd": operator.pos,
    "Invert": operator.invert,
    "Not": operator.not_,
}


def operand_type(name: str, left: np.dtype[Any], right: np.dtype[Any]) -> np.dtype[Any]:
    """In which type an operator computes."""
    kinds, types = {left.kind, right.kind}, {left.str[1:], right.str[1:]}
    if kinds <= set("biu"):
        if name == "Div":
            return np.dtype("f8")
        if name in ("LShift", "RShift"):
            return np.dtype("u8" if left.kind == "u" else "i8")
        if kinds == {"b"} and name in ("BitAnd", "BitOr", "BitXor"):
            return np.dtype("?")
        return np.dtype("u8" if kinds == {"u"} else "i8")
    powers = name == "Pow" and left == "f4" and right.kind in "biu"  # of an integer: its own loop
    narrow = powers or types <= {"b1", "i1", "i2", "u1", "f4", "c8"}
    if "c" in kinds:
        return np.dtype("c8" if narrow else "c16")
    return np.dtype("f4" if narrow else "f8")


def key_of(name: str, left: Any, right: Any) -> str:
    """Which difference an operator's type is a case of."""
    if not (isinstance(left, np.generic) and isinstance(right, np.generic)):
        return "literals"
    kinds = left.dtype.kind + right.dtype.kind
    if "b" in kinds:
        return "bools"
    if "f" in kinds or "c" in kinds:
        return "mixed-floats"
    return "uint64-mixed" if kinds in ("ui", "iu") and 8 in (left.itemsize, right.itemsize) else "wide-integers"


def binary(name: str, left: Any, right: Any) -> Any:
    apply = OPERATORS[name]
    a, b = number(left), number(right)
    kind = operand_type(name, a.dtype, b.dtype)
    if kind.kind in "iu" and name in ("LShift", "RShift") and not 0 <= int(b) <= 63:
        unspecified("shifts")
    if kind.kind in "iu" and name == "Pow" and not 0 <= b <= 2**16:
        unspecified("integer-powers")
    a, b = a.astype(kind), b.astype(kind)
    if kind.kind == "c" and name == "Div":
        if b == 0:
            seen.add("complex-division")
        return noted("complex-division", quotient(a, b), lambda: apply(left, right))
    if name in ("Div", "FloorDiv", "Mod") and b == 0:  # which Python's own numbers are not divided by
        seen.add("python-integers")
    result = apply(a, b)
    return noted(key_of(name, left, right), result, lambda: apply(left, right))


def compare(name: str, left: Any, right: Any) -> Any:
    apply = OPERATORS[name]
    return noted("literals", np.bool_(apply(number(left), number(right))), lambda: np.bool_(apply(left, right)))


def unary(name: str, value: Any) -> Any:
    apply = OPERATORS[name]
    operand = number(value)
    if name == "Not":
        return np.bool_(not value)
    if operand.dtype.kind == "b" and name != "Invert":
        operand = np.int64(operand)
    result = apply(operand)
    if result.dtype.kind in "iu":  # computed as narrow as it is, and wide from there on
        result = result.astype(result.dtype.kind + "8")
    return noted("wide-integers" if number(value).dtype.kind in "iu" else "bools", result, lambda: apply(value))


def index(value: Any) -> Any:
    if isinstance(value, np.uint64) and value > np.iinfo(np.int64).max:
        seen.add("uint64-index")
        raise IndexError("index is out of bounds")
    return value


def quotient(a: Any, b: Any) -> Any:
    """A quotient of complex numbers of one type, by Smith's method."""
    if b == 0:
        raise ZeroDivisionError("complex division by zero")
    if np.isnan(b.real) or np.isnan(b.imag):
        parts = np.nan, np.nan
    elif abs(b.real) >= abs(b.imag):
        ratio = b.imag / b.real
        below = b.real + b.imag * ratio
        parts = (a.real + a.imag * ratio) / below, (a.imag - a.real * ratio) / below
    else:
        ratio = b.real / b.imag
        below = b.real * ratio + b.imag
        parts = (a.real * ratio + a.imag) / below, (a.imag * ratio - a.real) / below
    result = np.zeros((), a.dtype)
    result.real, result.imag = parts
    return result[()]


# --- conversions --------------------------------------------------------------------------------------------------


def to_integer(kind: Any, value: Any) -> Any:
    """A number as an integer of this type: truncated, or its lowest bits."""
    value, limits = number(value), np.iinfo(kind)
    if value.dtype.kind == "f" and not (np.isfinite(value) and limits.min <= math.trunc(float(value)) <= limits.max):
        unspecified("float-to-integer")
    return value.astype(kind)


def as_int(value: Any) -> Any:
    seen.add("python-integers")
    value = number(value)
    return value if value.dtype.kind in "iu" else to_integer(np.int64, value)


def as_float(value: Any) -> Any:
    value = number(value)
    return noted("float32", value if value.dtype == "f4" else np.float64(value), lambda: np.float64(value))


def as_complex(re: Any, im: Any) -> Any:
    narrow = number(re).dtype == number(im).dtype == "f4"
    return noted("float32", (np.complex64 if narrow else np.complex128)(complex(re, im)), lambda: complex(re, im))


def rounded(how: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        seen.add("python-integers")
        value = number(value)
        if value.dtype.kind == "u" and how is not np.rint:
            return np.uint64(value)
        return to_integer(np.int64, how(value) if value.dtype.kind == "f" else value)

    return convert


# --- functions ----------------------------------------------------------------------------------------------------

_libm = ctypes.CDLL(None)
_C_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "fabs": "fabs"}


def _c_function(name: str, kind: np.dtype[Any], count: int) -> Any:
    function = getattr(_libm, _C_NAMES.get(name, name) + ("f" if kind == "f4" else ""))
    c_type = ctypes.c_float if kind == "f4" else ctypes.c_double
    function.argtypes, function.restype = [c_type] * count, c_type
    return lambda *values: kind.type(function(*map(float, values)))


def math_function(name: str) -> Callable[..., Any]:
    """`math.name`: in the type of its arguments, without exceptions."""
    plain = getattr(math, name)

    def call(*given: Any) -> Any:
        values = [number(value) for value in given]
        kind = np.dtype("f4" if all(value.dtype == "f4" for value in values) else "f8")
        result = _c_function(name, kind, len(values))(*(value.astype(kind) for value in values))
        return noted("math-functions" if kind == "f8" else "float32", result, lambda: np.float64(plain(*given)))

    return call


EXACT = {"add", "subtract", "multiply", "true_divide", "floor_divide", "mod", "sqrt", "floor", "ceil", "trunc", "rint"}
EXACT |= {"absolute", "square", "negative", "copysign", "isnan", "isfinite", "isinf", "fmin", "fmax"}
EXACT |= {"bitwise_and", "bitwise_or", "bitwise_xor", "hypot"}
FLOATING = {"true_divide", "sqrt", "copysign", "hypot", "isnan", "isfinite", "isinf"}


def ufunc(name: str) -> Callable[..., Any]:
    """`np.name` of numbers: in the type of Numba's first loop that takes them, and by the C library's functions."""
    plain = getattr(np, name)
    transcendental = name not in EXACT and name not in ("minimum", "maximum", "sign")

    def loop(kinds: list[np.dtype[Any]]) -> np.dtype[Any]:
        floats = [kind for kind in kinds if kind.kind == "f"]
        if floats:
            return max(floats, key=lambda kind: kind.itemsize)
        if name in FLOATING or transcendental:
            return np.dtype("f4" if all(kind.itemsize <= 2 for kind in kinds) else "f8")
        return np.result_type(*kinds)

    def call(*given: Any) -> Any:
        values = [number(value) for value in given]
        kind = loop([value.dtype for value in values])
        values = [value.astype(kind) for value in values]
        if transcendental:
            result, key = _c_function(name, kind, len(values))(*values), "last-bits"
        elif name in ("minimum", "maximum"):
            result, key = _extreme(name, *values), "signed-zeros"
        elif name == "sign":
            result, key = (values[0] if values[0] == 0 else plain(*values)), "signed-zeros"
        else:
            result, key = plain(*values), "ufunc-types"
        if any(value.dtype != kind for value in map(number, given)):
            key = "ufunc-types"
        return noted(key, result, lambda: plain(*given))

    return call


def _extreme(name: str, a: Any, b: Any) -> Any:
    if a.dtype.kind == "f" and (np.isnan(a) or np.isnan(b)):
        return a if np.isnan(a) else b
    first = a <= b if name == "minimum" else a >= b
    return a if first else b


def chosen(better: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`min` or `max`: the same element, in the type that fits all."""

    def call(*given: Any) -> Any:
        values = [number(value) for value in given]
        kind = np.result_type(*values)
        values = [value.astype(kind) for value in values]
        best = values[0]
        for value in values[1:]:
            best = value if better(value, best) else best
        return noted("min-max", best, lambda: (min if better is operator.lt else max)(*given))

    return call


def summed(values: Any) -> Any:
    """The sum of an array, from left to right."""
    kind = values.dtype if values.dtype.kind in "fc" else np.dtype("u8" if values.dtype.kind == "u" else "i8")
    total = kind.type(0)
    for value in values.ravel():
        total += value.astype(kind)
    return noted("sums", total, values.sum)


def integers(*bounds: Any) -> Any:
    return (np.int64(i) for i in range(*map(int, bounds)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "int": as_int,
    "float": as_float,
    "bool": np.bool_,
    "complex": as_complex,
    "abs": lambda value: abs(number(value)),
    "round": rounded(np.rint),
    "min": chosen(operator.lt),
    "max": chosen(operator.gt),
    "len": lambda value: np.int64(len(value)),
    "range": integers,
    "math.floor": rounded(np.floor),
    "math.ceil": rounded(np.ceil),
    "math.trunc": rounded(np.trunc),
    "math.isnan": lambda value: np.isnan(number(value)),
    "math.isinf": lambda value: np.isinf(number(value)),
    "math.isfinite": lambda value: np.isfinite(number(value)),
    "np.float32": lambda value: np.float32(number(value)),
    "np.float64": lambda value: np.float64(number(value)),
    "np.complex64": lambda value: np.complex64(number(value)),
    "np.complex128": lambda value: np.complex128(number(value)),
    ".sum": summed,
    ".min": lambda values: values.min(),
    ".max": lambda values: values.max(),
    ".conjugate": lambda value: value.conjugate(),
}


def call(name: str, *arguments: Any) -> Any:
    """What a call by this name gives."""
    if name in FUNCTIONS:
        return FUNCTIONS[name](*arguments)
    module, _, function = name.rpartition(".")
    if module == "math":
        return math_function(function)(*arguments)
    if function[:3] in ("int", "uin") and hasattr(np, function):
        kind = getattr(np, function)
        return noted("python-integers", to_integer(kind, *arguments), lambda: kind(*arguments))
    return ufunc(function)(*arguments)
