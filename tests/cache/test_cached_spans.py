"""A span from the cache is the one that would be compiled now, or it is compiled."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cache_tools import SPEC, built, files, find_span, is_cached, run
from numba import njit

from ringkernel.codegen.shapes import MISMATCH
from ringkernel.devices.compiled import raised

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Plan, Span

pytestmark = pytest.mark.compiles


def test_a_span_comes_back_from_the_cache(cache: Path) -> None:
    first, second = find_span(built(), SPEC), find_span(built(), SPEC)
    assert (is_cached(first), is_cached(second)) == (False, True)
    assert run(first, [1.0, 2.0]) == run(second, [1.0, 2.0])
    assert run(second, [1.0])[0] == pytest.approx([3 * (18 + 1) + (18 + 1.5) + 18 + np.sin(18) + np.pi])


def test_two_handlers_of_one_name_are_two(cache: Path) -> None:
    source = "def handler(msg, out):\n    out.value = msg.value + 1"
    find_span(built(source), SPEC)
    other = find_span(built(source.replace("+ 1", "+ 2")), SPEC)
    assert run(other, [1.0])[0] == [3.0]
    assert [run(find_span(built(source), SPEC), [1.0])[0]] == [[2.0]]
    assert len(files(cache)) == 2


def test_a_cached_failure_is_described_like_a_compiled_one(cache: Path) -> None:
    source = """
import numpy as np
TABLE = np.arange(3.0)
def handler(msg, out):
    if msg.value < 0:
        raise ValueError("below", 7)
    out.value = TABLE[int(msg.value)]
"""
    spans = [find_span(built(source), SPEC) for _ in range(2)]
    assert [is_cached(span) for span in spans] == [False, True]
    for bad, expected in ((-1.0, (ValueError, ("below", 7))), (9.0, (IndexError, ("index is out of bounds",)))):
        described = []
        for span in spans:
            emitted, index, info = run(span, [1.0, bad, 2.0])
            assert (emitted, index) == ([1.0], 1)
            described.append(raised.described(info))
        assert described[0] == described[1]
        assert described[1][0] is expected[0]
        assert described[1][1] in (expected[1], ())


EXPRESSIONS = (
    "outs.value[:] = 2 * msgs.value + 1",
    "outs.value[:] = np.where(msgs.value > 1, np.sqrt(msgs.value), 0.0)",
    "outs.value[1:] = np.cumsum(msgs.value)[:-1]",
)


@pytest.mark.parametrize("body", EXPRESSIONS)
def test_a_handler_with_array_expressions_is_cached(body: str, cache: Path) -> None:
    source = f"import numpy as np\ndef handler(msgs, outs):\n    {body}"
    batch = dataclasses.replace(SPEC, batch=True)
    first, second = find_span(built(source), batch), find_span(built(source), batch)
    assert (is_cached(first), is_cached(second)) == (False, True)
    assert run(first, [1.0, 4.0, 9.0]) == run(second, [1.0, 4.0, 9.0])


def test_an_array_of_another_shape_is_an_error_that_says_so(cache: Path) -> None:
    source = "def handler(msgs, outs):\n    outs.value[1:] = msgs.value"
    batch = dataclasses.replace(SPEC, batch=True)
    for span in (find_span(built(source), batch), find_span(built(source), batch)):
        _, index, info = run(span, [1.0, 2.0, 3.0])
        assert index == 0
        assert raised.described(info) == (ValueError, (MISMATCH,))


def test_numbas_own_words_for_shapes_stay_for_everybody_else(cache: Path) -> None:
    find_span(built("def handler(msgs, outs): outs.value[:] = msgs.value"), dataclasses.replace(SPEC, batch=True))

    @njit  # type: ignore[untyped-decorator]
    def assign(a: Any, b: Any) -> None:
        a[1:] = b

    with pytest.raises(ValueError, match=r"cannot assign slice of shape \(2,\) from input of shape \(3,\)"):
        assign(np.zeros(3), np.zeros(3))


STAYS = {
    "a strided array": "import numpy as np\nT = np.arange(10.0)[::2]\ndef handler(msg, out): out.value = T[1]",
    "an environment": "def handler(msg, out):\n    print('text', msg.value)\n    out.value = 2.0",
}


@pytest.mark.parametrize("what", STAYS)
def test_code_that_holds_addresses_stays_in_its_process(
    what: str, cache: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "ringkernel"):
        spans = [find_span(built(STAYS[what]), SPEC) for _ in range(2)]
    assert [is_cached(span) for span in spans] == [False, False]
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "handler handler of built is not cached, so every process compiles it anew: the code" in caplog.text
    assert run(spans[1], [1.0])[0] == [2.0]
    assert files(cache) == []


def test_an_unkeyable_handler_is_compiled_each_time(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = "import numpy as np\nT = np.zeros(200_000)\ndef handler(msg, out): out.value = T[1]"
    with caplog.at_level(logging.DEBUG, "ringkernel"):
        assert not is_cached(find_span(built(source), SPEC))
        assert not is_cached(find_span(built(source), SPEC))
    assert len(caplog.records) == 1
    assert "handler of built is not cached, so every process compiles it anew: an array of 1600000 bytes" in caplog.text
    assert files(cache) == []


def test_what_changes_during_the_compilation_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringkernel.codegen import span as compiler

    handler, compile_span = built(), compiler.compile_span

    def slowly(plan: Plan) -> Span:
        compiled = compile_span(plan)
        handler.__globals__["SCALE"] = 9.0
        return compiled

    monkeypatch.setattr(compiler, "compile_span", slowly)
    find_span(handler, SPEC)
    assert files(cache) == []


CALLED_BEFORE = """
from numba import njit
G = 7.0
SIGNATURE

def helper(x):
    return x * G

CALL
def handler(msg, out):
    out.value = helper(msg.value)
G = 2.0
"""


@pytest.mark.parametrize(
    ("signature", "call"),
    [("@njit", "helper(1.0)"), ("@njit('f8(f8)')", ""), ("@njit", "")],
    ids=["called before", "with signatures", "not compiled yet"],
)
def test_a_helper_that_holds_what_it_read_earlier_is_compiled_anew(signature: str, call: str, cache: Path) -> None:
    """What is kept under a key holds the values in it."""
    source = CALLED_BEFORE.replace("SIGNATURE\n", signature).replace("CALL", call)
    assert run(find_span(built(source), SPEC), [1.0])[0] == [2.0]
    assert len(files(cache)) == 1


def test_a_helper_that_reads_nothing_may_be_called_before(cache: Path) -> None:
    source = "import math\nfrom numba import njit\n"
    source += "@njit('f8(f8)')\ndef helper(x): return abs(math.sin(x)) + len((1,))\n"
    source += "helper(1.0)\ndef handler(msg, out): out.value = helper(msg.value)"
    find_span(built(source), SPEC)
    assert len(files(cache)) == 1


def test_kernels_may_share_a_helper_that_reads_something(cache: Path) -> None:
    source = "from numba import njit\nG = 7.0\n@njit\ndef helper(x): return x * G\n"
    source += "def handler(msg, out): out.value = helper(msg.value)\n"
    source += "def other(msg, out): out.value = 1.0 + helper(msg.value)"
    handler = built(source)
    find_span(handler, SPEC)
    find_span(handler.__globals__["other"], SPEC)
    assert len(files(cache)) == 2
    handler.__globals__["G"] = 8.0
    assert run(find_span(handler, SPEC), [1.0])[0] == [8.0]
    assert len(files(cache)) == 3


def test_a_helper_from_numbas_own_cache_is_compiled_anew(cache: Path, tmp_path: Path) -> None:
    """numba's cache looks at the file of a function, not at what it reads from others."""
    (tmp_path / "cached_by_numba.py").write_text(
        "from numba import njit\n"
        "@njit(cache=True)\ndef scaled(x):\n    return x * G\n"
        "@njit(cache=True)\ndef twice(x):\n    return x + x\n"
    )
    for called, factor in (("scaled", 2.0), ("scaled", 3.0), ("twice", 2.0)):
        module = types.ModuleType("cached_by_numba")
        path = tmp_path / "cached_by_numba.py"
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
        module.__dict__["G"] = factor
        handler = built(f"def handler(msg, out): out.value = library.{called}(msg.value)")
        handler.__globals__["library"] = module
        assert run(find_span(handler, SPEC), [3.0])[0] == [3.0 * factor]
    assert len(files(cache)) == 3


def test_a_missing_symbol_is_a_miss(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringkernel.cache import machine_code

    find_span(built(), SPEC)
    monkeypatch.setattr(machine_code.MachineCode, "decode", classmethod(_needing_more(machine_code.MachineCode.decode)))
    assert not is_cached(find_span(built(), SPEC))


FOLDERS = os.pathsep.join(str(Path(__file__).parents[1] / name) for name in ("cache", "support"))
HASHES = """
import sys
import numba.core.event as event
from cache_tools import SPEC, built, find_span, is_cached, run
with event.install_recorder("numba:compile") as compiled:
    span = find_span(built("def handler(msg, out): out.value = hash('a') ^ hash('some longer text')"), SPEC)
print(is_cached(span), len(compiled.buffer) == 0, run(span, [1.0])[0] == [float(hash("a") ^ hash("some longer text"))])
"""


def test_hashes_are_those_of_the_process_that_asks(cache: Path) -> None:
    """Python salts them anew in each process, and numba registers the salt only when it compiles."""
    printed = []
    for salt in ("1", "2"):
        variables = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": FOLDERS}
        done = subprocess.run(
            [sys.executable, "-c", HASHES], env=variables, capture_output=True, text=True, timeout=60, check=True
        )
        printed.append(done.stdout)
    assert printed == ["False False True\n", "True True True\n"]


def _needing_more(decode: Callable[[bytes], Any]) -> Callable[..., Any]:
    def needing_more(cls: Any, payload: bytes) -> Any:
        program = decode(payload)
        return cls(program.code, program.names, (*program.needs, "no_such_symbol_anywhere"))

    return needing_more


def test_a_numba_that_is_built_differently_is_no_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringkernel.cache import machine_code

    monkeypatch.setattr(machine_code, "_refuse_environments", lambda _: object().no_such_attribute)  # type: ignore[attr-defined]
    assert run(find_span(built(), SPEC), [1.0])[1] == -1
    assert files(cache) == []


def test_functions_of_the_package_are_kept_in_one_file(cache: Path) -> None:
    from ringkernel.codegen.entry_points import entries
    from ringkernel.ring.host_api import hand_over, read_word, write_word
    from ringkernel.words.builtin import ByAddress, EntryPoint

    table: dict[str, EntryPoint | ByAddress] = {
        "read": EntryPoint(read_word),
        "write": EntryPoint(write_word),
        "rest": EntryPoint(hand_over, nogil=True),
        "by address": ByAddress(read_word),
    }
    for _ in range(2):  # compiled, then from the cache
        functions = entries(table)
        words = np.zeros(2, np.int64)
        functions["write"](words.ctypes.data + 8, 7)
        assert functions["read"](words.ctypes.data + 8) == 7
        by_address = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(functions["by address"])
        assert by_address(words.ctypes.data + 8) == 7
    assert len(files(cache)) == 1
