"""A cached handler is found only as long as all that its code reads is the same: it is in the key."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
from cache_tools import LIBRARY, SOURCE, built, key

pytestmark = pytest.mark.compiles

CHANGES = {
    "body": ("out.value > 1e6", "out.value > 1e7"),
    "operator": ("closed + msg.value", "closed - msg.value"),
    "global scalar": ("SCALE = 2.0", "SCALE = 2.5"),
    "type of a global": ("SCALE = 2.0", "SCALE = 2"),
    "sign of a zero": ("OFFSET = 1.0", "OFFSET = -0.0"),
    "array content": ("np.array([1.0, 2.0])", "np.array([1.0, 2.5])"),
    "array dtype": ("np.array([1.0, 2.0])", "np.array([1.0, 2.0], 'f4')"),
    "array shape": ("np.array([1.0, 2.0])", "np.array([[1.0, 2.0]])"),
    "layout": ("np.array([1.0, 2.0])", "np.array([1.0, 9.0, 2.0, 9.0])[::2]"),
    "record field": ('("n", "i4")', '("n", "u4")'),
    "tuple": ('(1, "a")', '(1, "b")'),
    "enum": ("BUY = 1", "BUY = 3"),
    "closure": ("make(5, 6)", "make(7, 6)"),
    "default": ("make(5, 6)", "make(5, 7)"),
    "helper's body": ("factor * inner(x)", "factor / inner(x)"),
    "helper's default": ("factor=3.0", "factor=4.0"),
    "global of a helper's helper": ("OFFSET = 1.0", "OFFSET = 2.0"),
    "dispatcher's body": ("x + 1.5", "x + 2.5"),
    "dispatcher's options": ("fastmath=False", "fastmath=True"),
    "dispatcher's signatures": ("@njit(fastmath=False)", '@njit("f4(f4)", fastmath=False)'),
    "another function": ("math.sin(total)", "math.cos(total)"),
    "exception": ('ValueError("large")', 'KeyError("large")'),
    "text of an exception": ('"large"', '"too large"'),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_changes_the_key(what: str) -> None:
    before, after = CHANGES[what]
    assert SOURCE.count(before) == 1
    assert key(built(SOURCE.replace(before, after))) != key(built())


@pytest.mark.parametrize(("before", "after"), [("x * DEPTH", "x / DEPTH"), ("DEPTH = 1.0", "DEPTH = 2.0")])
def test_a_change_in_a_module_that_is_read_changes_the_key(before: str, after: str) -> None:
    assert key(built(library=LIBRARY.replace(before, after))) != key(built())


def test_what_does_not_change_the_code_does_not_change_the_key() -> None:
    assert key(built()) == key(built())
    assert key(built("# moved\n\n" + SOURCE, file="elsewhere")) == key(built())
    assert key(built("UNREAD = object()\n" + SOURCE)) == key(built())
    assert key(built(library=LIBRARY.replace("return 1", "return 2"))) == key(built())
    assert key(built(SOURCE.replace("handler", "renamed") + "\nhandler = renamed")) == key(built())


def test_a_patched_constant_of_a_library_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(built())
    monkeypatch.setattr(np, "pi", 3.0)
    assert key(built()) != before


def test_what_somebody_put_into_a_library_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import numpy as np\ndef handler(msg): return np.linalg.ours.depth + np.linalg.theirs(1)"
    keys = set()
    for depth, step in ((1, 1), (2, 1), (1, 2)):
        ours = types.ModuleType("ours")
        ours.__dict__["depth"] = depth
        theirs = built(f"def handler(x): return x + {step}")
        monkeypatch.setattr(np.linalg, "ours", ours, raising=False)
        monkeypatch.setattr(np.linalg, "theirs", theirs, raising=False)
        keys.add(key(built(source)))
    assert len(keys) == 3


def test_every_value_in_a_library_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import numpy as np\ndef handler(msg): return np.linalg.theirs"
    keys = set()
    for theirs in (np.float32(1), np.float32(2), b"1", b"2", np.dtype("i4"), np.dtype("i8"), np.record):
        monkeypatch.setattr(np.linalg, "theirs", theirs, raising=False)
        keys.add(key(built(source)))
    assert len(keys) == 7


def test_a_function_under_the_name_of_a_librarys_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for step in (1, 2):
        theirs = built(f"def handler(x): return x + {step}")
        theirs.__module__, theirs.__qualname__ = "numpy.linalg", "theirs"  # as `functools.wraps` does
        monkeypatch.setattr(np.linalg, "theirs", theirs, raising=False)
        keys.add(key(built("from numpy.linalg import theirs\ndef handler(msg): return theirs(1)")))
    assert len(keys) == 2


FROM_AFAR = {
    "handed to a helper": "def helper(m): return m.DEPTH\ndef handler(msg): return helper(library)",
    "from a helper": "def helper(): return library\ndef handler(msg): return helper().DEPTH",
    "by getattr": "def handler(msg): return getattr(library, 'DEPTH')",
    "by getattr with a default": "def handler(msg): return getattr(library, 'DEPTH', 5.0)",
    "by getattr of a global": "NAME = 'DEPTH'\ndef handler(msg): return getattr(library, NAME)",
}


@pytest.mark.parametrize("how", FROM_AFAR)
def test_a_module_is_in_the_key_however_it_is_read(how: str) -> None:
    source = FROM_AFAR[how]
    assert key(built(source, "DEPTH = 1.0")) != key(built(source, "DEPTH = 2.0"))
    assert key(built(source, "DEPTH = 1.0")) == key(built(source, "DEPTH = 1.0\nUNREAD = object()"))


def test_functions_that_name_each_other_have_a_key() -> None:
    mutual = """
def even(n):
    return True if n == 0 else odd(n - 1)
def odd(n):
    return False if n == 0 else even(n - 1)
def handler(msg, out):
    return even(msg.value)
"""
    assert key(built(mutual)) == key(built(mutual))
    assert key(built(mutual)) != key(built(mutual.replace("False", "True")))


def test_what_lies_between_the_fields_of_records_is_not_in_the_key() -> None:
    dtype = np.dtype(
        [("n", "i4"), ("x", "f8"), ("inner", np.dtype([("a", "u1", 3), ("b", "i8")], align=True))], align=True
    )
    clean, dirty, other = (np.frombuffer(bytearray([fill]) * dtype.itemsize, dtype) for fill in (0, 255, 255))
    for records, n in ((clean, 1), (dirty, 1), (other, 2)):
        records["n"], records["x"] = n, 2.0  # one by one: a whole record, or a copy, has padding of its own
        records["inner"]["a"], records["inner"]["b"] = (1, 2, 3), 4
    handler = built("def handler(msg): return R[0].x")

    def of(value: Any) -> str:
        handler.__globals__["R"] = value
        return key(handler)

    assert clean.tobytes() != dirty.tobytes()
    assert of(clean) == of(dirty) != of(other)
    assert of(clean[0]) == of(dirty[0]) != of(other[0])


def test_defaults_of_keywords_are_in_the_key() -> None:
    source = "def handler(msg, *, extra=1): return extra"
    assert key(built(source)) != key(built(source.replace("extra=1", "extra=2")))
