"""Machine code that outlives its process: a second process compiles nothing, and never runs what is out of date."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numba import extending
from numba import types as numba_types
from numba.core import config
from numba.core.imputils import lower_constant
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import overload

import ringkernel as rk
from ringkernel import cli
from ringkernel.cache import code_cache, environment, settings
from ringkernel.cache.fingerprint import fingerprint_of, key_of
from ringkernel.cache.hashing import UnkeyableError
from ringkernel.cache.store import SUFFIX, TEMPORARY_SUFFIX, Store
from ringkernel.codegen.span_cache import find_span
from ringkernel.codegen.span_types import Span, SpanTypes
from ringkernel.devices.compiled import failure

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.compiles

VALUE = np.dtype([("value", "f8")])
INDEX = np.dtype([("value", "i8")])
SPEC = SpanTypes(VALUE, VALUE, None)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    directory = tmp_path / "cache"
    monkeypatch.setenv(settings.DIRECTORY_VARIABLE, str(directory))
    monkeypatch.delenv(settings.SIZE_VARIABLE, raising=False)
    monkeypatch.setattr(code_cache, "_warned", False)
    return directory


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{SUFFIX}"))


# --- one process after the other -------------------------------------------------------------------------------------

KERNELS = """
import numpy as np
import ringkernel as rk

TICK = np.dtype([("price", "f8"), ("volume", "i8")])
FACTOR = 2.0

def scaled(x):
    return FACTOR * x

@rk.ring_kernel("scalar", input_type=TICK, output_type=float, state=np.zeros(2))
def scalar(msg, out, state):
    state[0] += scaled(msg.price)
    out.value = state[0]

@rk.ring_kernel("filter", input_type=TICK, output_type=TICK)
def some(msg, out):
    out.price, out.volume = np.sqrt(msg.price), msg.volume
    return msg.volume > 0

@rk.ring_kernel("batch", input_type=float, output_type=float, batch=True, max_outputs=2)
def batch(msgs, outs):
    count = 0
    for i in range(len(msgs)):
        outs[count].value = msgs[i].value
        outs[count + 1].value = -msgs[i].value
        count += 2
    return count

@rk.ring_kernel("pick", input_type=int, output_type=float, state=np.arange(3.0))
def pick(msg, out, state):
    if msg.value < 0:
        raise ValueError("below zero", 7)
    out.value = state[msg.value]

@rk.ring_kernel("allocates", input_type=int, output_type=float)
def allocates(msg, out):
    values = np.ones(msg.value)
    values[-1] = 0.5
    out.value = values.sum()
"""

DRIVER = """
import asyncio, json, sys, traceback
import numba.core.event as event

async def outputs(runtime, kernel_id, messages):
    async with rk.managed_kernel(runtime, kernel_id):
        return [repr(value) for value in await runtime.map(kernel_id, messages)]

async def fault(runtime, kernel_id, messages):
    await runtime.launch(kernel_id)
    await runtime.activate(kernel_id)
    await runtime.send_batch(kernel_id, messages)
    await runtime.wait(kernel_id)
    error = runtime.kernels[kernel_id].error
    counts = runtime.statistics(kernel_id)
    said = ["".join(traceback.format_exception(error)), counts.processed, counts.failed, counts.unprocessed]
    runtime.remove(kernel_id)
    return said

async def main():
    ticks = [(4.0, 1), (9.0, 0), (16.0, 2)]
    async with rk.RingKernelRuntime(workers=1) as runtime:
        return {
            "scalar": await outputs(runtime, "scalar", np.array(ticks, kernels.TICK)),
            "filter": await outputs(runtime, "filter", np.array(ticks, kernels.TICK)),
            "batch": await outputs(runtime, "batch", np.array([1.0, 2.0])),
            "allocates": await outputs(runtime, "allocates", np.array([3, 5])),
            "index": await fault(runtime, "pick", [2, 7, 1]),
            "raised": await fault(runtime, "pick", [0, 1, -5, 2]),
        }

with event.install_recorder("numba:compile") as compiled:
    import numpy as np
    import ringkernel as rk
    sys.path.insert(0, sys.argv[1])
    import kernels
    results = asyncio.run(main())
names = sorted({str(one.data["dispatcher"].py_func.__name__) for _, one in compiled.buffer})
print(json.dumps({"compiled": names, "results": results}))
"""


def start(folder: Path, source: str, cache: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "kernels.py").write_text(source)
    return subprocess.Popen(
        [sys.executable, "-B", "-c", DRIVER, str(folder)],
        env={**os.environ, settings.DIRECTORY_VARIABLE: str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "cache" not in err  # kernels that fail are in the log, a cache that cannot be used would be, too
    return dict(json.loads(out))


class Warm:
    """A cache that one process has filled, and what that process said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder / "kernels", folder / "cache"
        self.first = finish(start(self.folder, KERNELS, self.cache))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    return Warm(tmp_path_factory.mktemp("warm"))


def test_a_second_process_compiles_nothing_and_says_the_same(warm: Warm) -> None:
    assert {"run_worker", "publish", "read_ticks", "scalar", "batch"} <= set(warm.first["compiled"])
    second = finish(start(warm.folder, KERNELS, warm.cache))
    assert second["compiled"] == []
    assert second["results"] == warm.first["results"]
    assert second["results"]["scalar"] == ["np.float64(8.0)", "np.float64(26.0)", "np.float64(58.0)"]
    text, processed, failed, unprocessed = second["results"]["index"]
    assert "IndexError" in text
    assert "out.value = state[msg.value]" in text  # the traceback of the Python function
    assert (processed, failed, unprocessed) == (1, 1, 1)
    assert "ValueError: ('below zero', 7)" in second["results"]["raised"][0]


def test_only_what_reads_a_changed_global_is_compiled_again(warm: Warm, tmp_path: Path) -> None:
    moved = "# a line more: neither lines nor files are in the key\n" + KERNELS
    shutil.copytree(warm.cache, tmp_path / "cache")
    changed = finish(start(tmp_path / "kernels", moved.replace("FACTOR = 2.0", "FACTOR = 3.0"), tmp_path / "cache"))
    assert {"scalar", "scaled"} <= set(changed["compiled"])
    assert not {"publish", "run_worker", "some", "pick"} & set(changed["compiled"])
    assert changed["results"]["scalar"] == ["np.float64(12.0)", "np.float64(39.0)", "np.float64(87.0)"]
    assert changed["results"]["filter"] == warm.first["results"]["filter"]


def test_two_processes_may_fill_the_same_cache(warm: Warm, tmp_path: Path) -> None:
    source = KERNELS.replace("FACTOR = 2.0", "FACTOR = 4.0").replace("np.sqrt(msg.price)", "1.0 + msg.price")
    shutil.copytree(warm.cache, tmp_path / "cache")
    racing = [start(tmp_path / "kernels", source, tmp_path / "cache") for _ in range(2)]
    one, other = [finish(process) for process in racing]
    assert one["results"] == other["results"] != warm.first["results"]
    after = finish(start(tmp_path / "kernels", source, tmp_path / "cache"))
    assert (after["compiled"], after["results"]) == ([], one["results"])
    assert not list((tmp_path / "cache").glob(f"*{TEMPORARY_SUFFIX}"))


# --- what is in the key ----------------------------------------------------------------------------------------------

SOURCE = """
import math
import numpy as np
from enum import IntEnum
from numba import njit

SCALE = 2.0
TABLE = np.array([1.0, 2.0])
PAIR = (1, "a")
RECORD = np.array([(1.0, 2)], [("x", "f8"), ("n", "i4")])

class Side(IntEnum):
    BUY = 1
    SELL = 2

def inner(x):
    return x + OFFSET

OFFSET = 1.0

def helper(x, factor=3.0):
    return factor * inner(x)

@njit(fastmath=False)
def jitted(x):
    return x + 1.5

def make(closed, default):
    def handler(msg, out, extra=default):
        total = closed + msg.value * SCALE + extra + TABLE[0] + RECORD[0].x + PAIR[0] + (2 if Side.BUY == 1 else 3)
        out.value = helper(total) + jitted(total) + library.f(total) + math.sin(total) + np.pi
        if out.value > 1e6:
            raise ValueError("large")
    return handler

handler = make(5, 6)
"""
LIBRARY = """
from numba import njit
DEPTH = 1.0

@njit
def f(x):
    return x * DEPTH

def unread():
    return 1
"""


def built(source: str = SOURCE, library: str = LIBRARY, file: str = "built") -> Callable[..., Any]:
    """The handler of a module made from source text, which reads another one."""
    helpers = types.ModuleType("helpers_of_a_test")
    exec(compile(library, f"{file}_library.py", "exec"), helpers.__dict__)
    scope: dict[str, Any] = {"__name__": "built", "library": helpers}
    exec(compile(source, f"{file}.py", "exec"), scope)
    return scope["handler"]  # type: ignore[no-any-return]


def key(handler: Callable[..., Any]) -> str:
    return fingerprint_of(handler).hexdigest()


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


SPECS = {
    "field type": SpanTypes(np.dtype([("value", "f4")]), VALUE, None),
    "field name": SpanTypes(np.dtype([("price", "f8")]), VALUE, None),
    "byte order": SpanTypes(np.dtype([("value", ">f8")]), VALUE, None),
    "offset": SpanTypes(np.dtype({"names": ["value"], "formats": ["f8"], "offsets": [8]}), VALUE, None),
    "itemsize": SpanTypes(np.dtype({"names": ["value"], "formats": ["f8"], "itemsize": 16}), VALUE, None),
    "alignment": SpanTypes(np.dtype([("value", "f8")], align=True), VALUE, None),
    "subarray": SpanTypes(np.dtype([("value", "f8", 2)]), VALUE, None),
    "output": SpanTypes(VALUE, INDEX, None),
    "no output": SpanTypes(VALUE, None, None),
    "state": SpanTypes(VALUE, VALUE, (np.dtype("f8"), (2,))),
    "state's shape": SpanTypes(VALUE, VALUE, (np.dtype("f8"), (3,))),
    "state's dtype": SpanTypes(VALUE, VALUE, (np.dtype("f4"), (2,))),
    "state of one record": SpanTypes(VALUE, VALUE, (VALUE, None)),
    "batch": SpanTypes(VALUE, VALUE, None, batch=True),
    "zeroed": SpanTypes(VALUE, VALUE, None, zeroed=False),
    "max_outputs": SpanTypes(VALUE, VALUE, None, batch=True, max_outputs=2),
    "check": SpanTypes(VALUE, VALUE, None, check=False),
}


def test_every_type_and_option_is_in_the_key() -> None:
    from ringkernel.codegen.span_cache import _fingerprint

    handler, keys = built(), set()
    for spec in (SPEC, *SPECS.values()):
        fingerprint = _fingerprint(handler, spec)
        assert fingerprint is not None
        keys.add(fingerprint.hexdigest())
    assert len(keys) == 1 + len(SPECS)


@pytest.mark.parametrize("name", ["OPT", "BOUNDSCHECK", "CPU_NAME", "CPU_FEATURES", "ENABLE_AVX", "LOOP_VECTORIZE",
                                  "SLP_VECTORIZE", "DISABLE_JIT", "DEBUGINFO_DEFAULT", "USING_SVML"])  # fmt: skip
def test_numba_settings_are_in_the_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("x")
    monkeypatch.setattr(config, name, 17)
    assert key_of("x") != before


def test_numba_settings_without_effect_are_not_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("x")
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 17)
    monkeypatch.setattr(config, "DUMP_ASSEMBLY", 1)
    assert key_of("x") == before


@pytest.mark.parametrize("name", ["versions", "sources", "cpu"])
def test_versions_sources_and_cpu_are_in_the_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("x")
    monkeypatch.setattr(environment, name, lambda: "another")
    assert key_of("x") != before


VISITED = """
import asyncio, json, sys
import ringkernel as rk
from ringkernel.codegen.specialise import Specializer
visited = set()
visit = Specializer._shell
def record(self, function):
    visited.add(function.__code__.co_filename)
    return visit(self, function)
Specializer._shell = record
@rk.ring_kernel("k", input_type=float, output_type=float, batch=True)
def k(msgs, outs):
    for i in range(len(msgs)):
        outs[i].value = msgs[i].value
async def main():
    async with rk.RingKernelRuntime() as runtime, rk.managed_kernel(runtime, "k"):
        await runtime.map("k", [1.0])
asyncio.run(main())
from ringkernel.devices.grid.pool import compiled_watcher
compiled_watcher()
loaded = {module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "ringkernel"}
print(json.dumps([sorted(visited), sorted(filter(None, loaded))]))
"""


def test_every_module_that_is_compiled_or_loaded_for_it_is_in_the_key(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the specialiser really visits: each of these files, changed by one statement in a copy, makes another
    key."""
    package = Path(str(rk.__file__)).parent
    result = subprocess.run([sys.executable, "-c", VISITED], capture_output=True, text=True, check=True, timeout=100)
    visited, loaded = json.loads(result.stdout)
    inside = {Path(path).relative_to(package) for path in visited if Path(path).is_relative_to(package)}
    assert {"turn.py", "protocol.py", "doorbell.py", "span_body.py", "worker_loop.py", "watcher.py"} <= {
        path.name for path in inside
    }
    monkeypatch.setattr(environment, "IMPORTED_AT_S", float("inf"))
    copy = tmp_path / "ringkernel"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = environment.hash_of_sources(copy)
    assert before == environment.hash_of_sources(package)
    for path in inside | {Path(path).relative_to(package) for path in loaded}:
        content = (copy / path).read_text()
        (copy / path).write_text(content + "\nchanged = 1\n")
        assert environment.hash_of_sources(copy) != before, path
        (copy / path).write_text(content)
    (copy / "ring" / "deeper" / "still").mkdir(parents=True)
    (copy / "ring" / "deeper" / "still" / "new.py").write_text("new = 1\n")
    assert environment.hash_of_sources(copy) != before


def test_moving_a_module_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "IMPORTED_AT_S", float("inf"))
    (tmp_path / "ring").mkdir()
    (tmp_path / "one.py").write_text("x = 1\n")
    before = environment.hash_of_sources(tmp_path)
    (tmp_path / "one.py").rename(tmp_path / "ring" / "one.py")
    assert environment.hash_of_sources(tmp_path) != before


UNKEYABLE = {
    "an object": "THING = object()\ndef handler(msg): return THING",
    "a list": "THING = [1, 2]\ndef handler(msg): return THING[0]",
    "a dict": "THING = {1: 2}\ndef handler(msg): return THING[1]",
    "a class": "class Thing: x = 1\ndef handler(msg): return Thing.x",
    "an array subclass": "import numpy as np\nT = np.ma.array([1.0])\ndef handler(msg): return T[0]",
    "an array of objects": "import numpy as np\nT = np.array([None])\ndef handler(msg): return T[0]",
    "a large array": "import numpy as np\nT = np.zeros(200_000)\ndef handler(msg): return T[0]",
    "an int subclass": "class I(int): pass\nT = I(3)\ndef handler(msg): return T",
    "a ufunc of somebody": "import numpy as np\nT = np.frompyfunc(abs, 1, 1)\ndef handler(msg): return T(1)",
    "a method": "T = 'abc'.find\ndef handler(msg): return T('a')",
    "a ctypes function": "import ctypes\nT = ctypes.pythonapi.Py_IsInitialized\ndef handler(msg): return T()",
    "an import": "def handler(msg):\n    import math\n    return math.pi",
    "an exception of __main__": "class E(Exception):\n    __module__ = '__main__'\ndef handler(msg): raise E",
    "an intrinsic": "from numba.extending import intrinsic\n@intrinsic\ndef T(ctx):\n    return None\n"
    "def handler(msg): return T()",
    "a vectorized function": "from numba import vectorize\n@vectorize\ndef T(x):\n    return x\n"
    "def handler(msg): return T(1)",
    "an object in a helper": "T = object()\ndef helper(): return T\ndef handler(msg): return helper()",
    "an empty cell": "def make():\n    def handler(msg): return later\n    return handler\n    later = 1\n"
    "handler = make()",
}


@pytest.mark.parametrize("what", UNKEYABLE)
def test_what_is_not_known_has_no_key(what: str) -> None:
    with pytest.raises(UnkeyableError):
        key(built(UNKEYABLE[what]))


def test_a_module_that_makes_attributes_has_no_key() -> None:
    source = "def handler(msg): return library.depth"
    assert key(built(source, "depth = 1")) != key(built(source, "depth = 2"))
    with pytest.raises(UnkeyableError):
        key(built(source, "def __getattr__(name): return 1"))


def extended() -> None: ...


def _without_a_module() -> None:
    exec("@overload(extended)\ndef text(): return lambda: 1", {"overload": overload, "extended": extended})


def _template() -> None:
    infer_global(extended)(type("Theirs", (ConcreteTemplate,), {"cases": [], "__module__": __name__}))


EXTENSIONS: dict[str, Callable[[], Any]] = {
    "overload": lambda: overload(extended)(lambda: lambda: 1),
    "overload without a module": _without_a_module,
    "overload_method": lambda: extending.overload_method(numba_types.Float, "mine")(lambda x: lambda x: 1),
    "overload_attribute": lambda: extending.overload_attribute(numba_types.Float, "mine")(lambda x: lambda x: 1),
    "register_jitable": lambda: extending.register_jitable(fastmath=True)(extended),
    "type_callable": lambda: extending.type_callable(extended)(lambda context: lambda: None),
    "lower_builtin": lambda: extending.lower_builtin(extended)(lambda *_: None),
    "lower_cast": lambda: extending.lower_cast(object, object)(lambda *_: None),
    "lower_getattr": lambda: extending.lower_getattr(numba_types.Float, "mine")(lambda *_: None),
    "lower_setattr": lambda: extending.lower_setattr(numba_types.Float, "mine")(lambda *_: None),
    "lower_constant": lambda: lower_constant(object)(lambda *_: None),
    "infer_global": _template,
}


@pytest.mark.parametrize("how", EXTENSIONS)
def test_numba_extensions_turn_the_cache_off(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.imputils import builtin_registry as lowerings
    from numba.core.typing.templates import builtin_registry as templates

    assert key_of("x")
    with monkeypatch.context() as scoped:
        for registry in (lowerings, templates):
            for name, table in vars(registry).items():
                if isinstance(table, list):
                    scoped.setattr(registry, name, list(table))
        EXTENSIONS[how]()
        with pytest.raises(UnkeyableError, match="extended"):
            key_of("x")
    assert key_of("x")


def test_without_the_sources_of_the_package_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.sources.cache_clear()
    monkeypatch.setattr(environment, "__file__", "/nowhere/cache/environment.py")
    with pytest.raises(UnkeyableError, match="the sources of ringkernel are not in"):
        key_of("x")
    monkeypatch.undo()
    assert key_of("x")


def test_sources_that_were_upgraded_under_a_process_make_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not what was imported, and what that compiles must not be kept as theirs."""
    environment.sources.cache_clear()
    monkeypatch.setattr(environment, "IMPORTED_AT_S", 0.0)
    with pytest.raises(UnkeyableError, match=r"__init__\.py has changed since ringkernel was imported"):
        key_of("x")
    monkeypatch.undo()
    assert key_of("x")


def test_the_version_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of("x")
    monkeypatch.setattr(environment, "__version__", "another")
    assert key_of("x") != before


@pytest.mark.parametrize("error", [RuntimeError, RecursionError, AttributeError])
def test_what_fails_when_it_is_looked_at_has_no_key(error: type[Exception]) -> None:
    class Evil:
        def __repr__(self) -> str:
            raise error("no")

    handler = built("def handler(msg): return library.value")
    handler.__globals__["library"].value = Evil()
    with pytest.raises(UnkeyableError, match=error.__name__):
        key_of(handler)


# --- spans, in this process ------------------------------------------------------------------------------------------


def run(span: Span, values: list[float], dtype: np.dtype[Any] = VALUE) -> tuple[list[float], int, int]:
    """What a span emits for values, the index of a failure (-1: none), and the address of its description."""
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 5)(span.address)
    source, target = np.array([(value,) for value in values], dtype), np.zeros(2 * len(values), VALUE)
    fault = np.full(16, -1, np.int64)
    emitted = call(source.ctypes.data, len(source), target.ctypes.data, 0, fault.ctypes.data)
    return target["value"][:emitted].tolist(), int(fault[0]), int(fault[1])


def is_cached(span: Span) -> bool:
    return span.library is None


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
            described.append(failure.described(info))
        assert described[0] == described[1]
        assert described[1][0] is expected[0]
        assert described[1][1] in (expected[1], ())


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
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]
    assert "not cached" in caplog.text
    assert run(spans[1], [1.0])[0] == [2.0]
    assert files(cache) == []


def test_an_unkeyable_handler_is_compiled_each_time(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = "import numpy as np\nT = np.zeros(200_000)\ndef handler(msg, out): out.value = T[1]"
    with caplog.at_level(logging.DEBUG, "ringkernel"):
        assert not is_cached(find_span(built(source), SPEC))
        assert not is_cached(find_span(built(source), SPEC))
    assert "handler is not cached: an array of 1600000 bytes" in caplog.text
    assert files(cache) == []


def test_what_changes_during_the_compilation_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringkernel.codegen import span as compiler

    handler, compile_span = built(), compiler.compile_span

    def slowly(function: Callable[..., Any], spec: SpanTypes) -> Span:
        compiled = compile_span(function, spec)
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


HASHES = """
import sys
import numba.core.event as event
from test_cache import SPEC, built, is_cached, run
from ringkernel.codegen.span_cache import find_span
with event.install_recorder("numba:compile") as compiled:
    span = find_span(built("def handler(msg, out): out.value = hash('a') ^ hash('some longer text')"), SPEC)
print(is_cached(span), len(compiled.buffer) == 0, run(span, [1.0])[0] == [float(hash("a") ^ hash("some longer text"))])
"""


def test_hashes_are_those_of_the_process_that_asks(cache: Path) -> None:
    """Python salts them anew in each process, and numba registers the salt only when it compiles."""
    printed = []
    for salt in ("1", "2"):
        variables = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": str(Path(__file__).parent)}
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

    monkeypatch.setattr(machine_code, "_emit", lambda *_: object().no_such_attribute)  # type: ignore[attr-defined]
    assert run(find_span(built(), SPEC), [1.0])[1] == -1
    assert files(cache) == []


# --- files that cannot be trusted ------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def _open_to_others(path: Path) -> None:
    path.chmod(0o666)


def _of_another_key(path: Path) -> None:
    store = Store(path.parent, 1 << 20)
    store.write("ab" * 32, b"{}\ncode")
    (path.parent / f"{'ab' * 32}{SUFFIX}").replace(path)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _without_description(path: Path) -> None:
    Store(path.parent, 1 << 20).write(path.name.removesuffix(SUFFIX), b"no description")


DAMAGES: list[Callable[[Path], None]] = [
    _cut, _flip, _open_to_others, _of_another_key, _without_description, _empty,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_a_miss_and_is_replaced(damage: Callable[[Path], None], cache: Path) -> None:
    if damage is _open_to_others and os.name == "nt":
        pytest.skip("has other permissions")
    find_span(built(), SPEC)
    (path,) = files(cache)
    damage(path)
    assert not is_cached(find_span(built(), SPEC))
    assert is_cached(find_span(built(), SPEC))


def _link(path: Path) -> None:
    path.rename(path.with_name("a file of ours somewhere"))
    path.symlink_to(path.with_name("a file of ours somewhere"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


@pytest.mark.skipif(os.name == "nt", reason="has neither of them")
@pytest.mark.parametrize("put", [_link, _pipe, _socket], ids=lambda put: put.__name__)
def test_what_is_no_file_is_a_miss_and_is_replaced(put: Callable[[Path], None], cache: Path) -> None:
    store = Store(cache, 1000)
    store.write("aa", b"payload")
    put(files(cache)[0])
    assert store.usage().entries == 0
    assert store.read("aa") is None
    store.write("aa", b"payload")
    assert store.read("aa") == b"payload"
    assert files(cache)[0].is_file()
    assert not files(cache)[0].is_symlink()


def test_a_directory_in_the_place_of_a_file_is_left_alone(cache: Path) -> None:
    store = Store(cache, 1000)
    (cache / f"aa{SUFFIX}").mkdir(parents=True)
    assert store.read("aa") is None
    with pytest.raises(OSError, match="directory"):
        store.write("aa", b"payload")
    assert store.clear().entries == 0
    assert [path.name for path in cache.iterdir()] == [f"aa{SUFFIX}"]


def test_a_file_that_may_not_be_read_is_a_miss(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that `sudo` left in the user's cache."""
    store = Store(cache, 1000)
    store.write("aa", b"payload")
    with monkeypatch.context() as scoped:
        scoped.setattr(os, "open", _refuse)
        assert store.read("aa") is None
    assert store.read("aa") == b"payload"


def test_what_others_keep_from_being_evicted_is_no_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, unlink = Store(cache, 150), Path.unlink
    store.write("theirs", b"payload")
    monkeypatch.setattr(Path, "unlink", lambda path: _refuse() if path.name.startswith("theirs") else unlink(path))
    for key in ("aa", "bb", "cc"):
        store.write(key, b"payload")
    assert [path.name for path in files(cache)] == [f"cc{SUFFIX}", f"theirs{SUFFIX}"]


def _refuse(*_: Any) -> Any:
    raise PermissionError(13, "Permission denied")


def test_clearing_while_another_writes_is_no_failure(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, replace = Store(cache, 1000), os.replace

    def cleared_before(*names: Any) -> None:
        store.clear()
        replace(*names)

    monkeypatch.setattr(os, "replace", cleared_before)
    store.write("aa", b"payload")
    assert list(cache.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner there")
def test_files_of_others_are_not_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(cache, 1000)
    store.write("aa", b"payload")
    assert store.read("aa") == b"payload"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert store.read("aa") is None


@pytest.mark.skipif(os.name == "nt", reason="has other permissions")
def test_files_and_directory_are_private(cache: Path) -> None:
    Store(cache, 1000).write("aa", b"payload")
    assert cache.stat().st_mode & 0o777 == 0o700
    assert files(cache)[0].stat().st_mode & 0o777 == 0o600


# --- a cache that cannot be used -------------------------------------------------------------------------------------


def test_an_unwritable_cache_is_one_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file, where there should be a directory")
    for name in (cache, cache / "below"):
        monkeypatch.setenv(settings.DIRECTORY_VARIABLE, str(name))
        assert run(find_span(built(), SPEC), [1.0])[1] == -1
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["ringkernel"]
    assert "cannot be used" in warnings[0].getMessage()
    assert str(cache) in warnings[0].getMessage()


def test_a_home_that_is_not_known_is_a_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(settings.DIRECTORY_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.setattr(sys, "platform", "linux")
    assert code_cache.fetch("ab") is None
    assert "no home directory" in caplog.text
    monkeypatch.setattr(Path, "home", lambda: Path("relative"))
    with pytest.raises(OSError, match="no home directory: 'relative' is a relative path"):
        settings.directory()


LIMITED = """
import logging, resource, signal, sys
from pathlib import Path
from ringkernel.cache import code_cache
from ringkernel.cache.machine_code import MachineCode
logging.basicConfig()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for key in ("aa", "bb"):
    code_cache.keep(key, lambda: MachineCode(bytes(100_000), {}, ()))
print(list(Path(sys.argv[1]).iterdir()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_a_file_system_that_takes_no_more_is_a_warning_and_leaves_nothing(cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(cache)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
    assert done.stderr.count("cannot be used") == 1
    assert "File too large" in done.stderr


WRITER = """
import os, sys, tempfile
from pathlib import Path
from ringkernel.cache import store
create = tempfile.mkstemp
def told(*arguments):
    made = create(*arguments)
    print("writing", flush=True)
    return made
tempfile.mkstemp = told
while True:
    store.Store(Path(sys.argv[1]), 1 << 30).write("aa", os.urandom(50_000_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="ends processes otherwise")
def test_a_writer_that_is_killed_leaves_what_was_there(cache: Path) -> None:
    store = Store(cache, 1 << 30)
    store.write("aa", b"payload")
    with subprocess.Popen([sys.executable, "-c", WRITER, str(cache)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.kill()
    payload = store.read("aa")
    assert payload is not None
    assert len(payload) in (7, 50_000_000)  # the one or the other, whole
    store.clear()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [(settings.SIZE_VARIABLE, "much"), (settings.DIRECTORY_VARIABLE, "a/b")])
async def test_a_wrong_setting_is_refused_at_launch(
    name: str, value: str, cache: Path, monkeypatch: pytest.MonkeyPatch, runtime: rk.RingKernelRuntime
) -> None:
    @rk.ring_kernel("refused", input_type=float, output_type=float)
    def refused(msg: Any, out: Any) -> None:
        out.value = msg.value + 0.125

    monkeypatch.setenv(name, value)
    with pytest.raises(rk.ConfigurationError, match=f"{name} is '{value}'; it must be"):
        await runtime.launch("refused")


# --- size and place --------------------------------------------------------------------------------------------------


def test_the_least_recently_used_is_evicted(cache: Path) -> None:
    store = Store(cache, 1000)
    for number, name in enumerate(("aa", "bb", "cc")):
        store.write(name, bytes(250))
        os.utime(cache / f"{name}{SUFFIX}", (number, number))
    assert store.read("aa") is not None  # used just now
    store.write("dd", bytes(250))
    assert [path.name[:2] for path in files(cache)] == ["aa", "cc", "dd"]
    assert store.usage().entries == 3
    assert store.usage().nbytes <= 1000
    store.write("ee", bytes(1001))  # would push out everything, and still not fit
    assert [path.name[:2] for path in files(cache)] == ["aa", "cc", "dd"]


def test_what_a_crashed_writer_left_goes_after_a_while(cache: Path) -> None:
    store = Store(cache, 1000)
    cache.mkdir()
    old, new = cache / f"old{TEMPORARY_SUFFIX}", cache / f"new{TEMPORARY_SUFFIX}"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    store.write("aa", b"")
    assert (old.exists(), new.exists()) == (False, True)
    store.clear()
    assert not new.exists()


def test_size_zero_turns_the_cache_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_span(built(), SPEC)
    monkeypatch.setenv(settings.SIZE_VARIABLE, "0")
    assert not is_cached(find_span(built(), SPEC))
    shutil.rmtree(cache)
    find_span(built(), SPEC)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("text", "nbytes"), [("", 256 << 20), ("17", 17), ("2k", 2048), ("3M", 3 << 20), ("1 G", 1 << 30), ("0", 0)]
)
def test_sizes(text: str, nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.SIZE_VARIABLE, text)
    assert settings.limit() == nbytes


@pytest.mark.parametrize("text", ["-1", "1.5M", "M", "1T", "1MB", "9" * 5000, "\N{ARABIC-INDIC DIGIT ONE}"])
def test_what_is_no_size_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.SIZE_VARIABLE, text)
    with pytest.raises(rk.ConfigurationError, match="must be a number of bytes"):
        settings.limit()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/ringkernel"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/ringkernel"),
        ("linux", {}, "/home/me/.cache/ringkernel"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/ringkernel"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/ringkernel/Cache"),
        ("win32", {}, "/home/me/AppData/Local/ringkernel/Cache"),
        ("linux", {settings.DIRECTORY_VARIABLE: "/mine"}, "/mine"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the paths above are POSIX ones")
def test_places(platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (settings.DIRECTORY_VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert settings.directory() == Path(expected)


# --- the console -----------------------------------------------------------------------------------------------------


def test_the_console_shows_and_clears(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(cache, 1000).write("aa", bytes(100))
    (cache / "not ours").touch()
    nbytes = files(cache)[0].stat().st_size
    for command in (["info", "--json"], ["cache", "--json"], ["cache", "info", "--json"]):
        assert cli.main(command) == 0
        shown = json.loads(capsys.readouterr().out)["cache"]
        assert shown == {
            "cache_directory": str(cache), "cache_entries": 1, "cache_bytes": nbytes, "cache_limit": 256 << 20,
        }  # fmt: skip
    assert cli.main(["cache"]) == 0
    assert f"cache directory  {cache}\n" in capsys.readouterr().out
    assert cli.main(["cache", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "cache_directory": str(cache), "removed_entries": 1, "removed_bytes": nbytes,
    }  # fmt: skip
    assert [path.name for path in cache.iterdir()] == ["not ours"]
    assert cli.main(["cache", "clear"]) == 0
    assert "removed entries  0\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["info"], ["cache"], ["cache", "clear"]])
def test_the_console_refuses_wrong_settings(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(settings.SIZE_VARIABLE, "much")
    assert cli.main(command) == 2
    assert "RINGKERNEL_CACHE_SIZE is 'much'" in capsys.readouterr().err


def test_the_console_says_what_is_wrong_with_the_directory(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.write_text("a file")
    assert cli.main(["cache", "--json"]) == 0
    assert "Not a directory" in json.loads(capsys.readouterr().out)["cache"]["cache_error"]
    assert cli.main(["cache", "clear"]) == 2
    assert "cannot be cleared" in capsys.readouterr().err
