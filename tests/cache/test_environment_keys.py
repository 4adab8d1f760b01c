"""A cached handler is found only with the types, numba, processor and sources that it was compiled with."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cache_tools import INDEX, SPEC, VALUE, built
from numba.core import config

import ringkernel as rk
from ringkernel.cache import environment
from ringkernel.cache.fingerprint import fingerprint_of, key_of
from ringkernel.codegen.span_types import Merge, Plan, SpanTypes

pytestmark = pytest.mark.compiles

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
    "parameters": SpanTypes(VALUE, VALUE, None, params=VALUE),
    "random numbers": SpanTypes(VALUE, VALUE, None, rng=True),
    "parameters' dtype": SpanTypes(VALUE, VALUE, None, params=INDEX),
}


def test_every_type_and_option_is_in_the_key() -> None:
    from ringkernel.codegen import span_cache

    handler, keys = built(), set()
    for spec in (SPEC, *SPECS.values()):
        fingerprint = span_cache.fingerprint_of(Plan.of(handler, spec))
        assert fingerprint is not None
        keys.add(fingerprint.hexdigest())
    assert len(keys) == 1 + len(SPECS)


OTHERS: dict[Any, dict[str, Any]] = {
    SpanTypes: {
        "input": INDEX, "output": None, "state": (VALUE, None), "batch": True, "max_outputs": 2, "check": False,
        "zeroed": False, "params": VALUE, "time": np.dtype("i8"), "key": "value", "rng": True, "is_end": True,
        "state_at": 8,
    },
    Merge: {"field": "other", "late": "drop", "timer": (len, SPEC), "every": 2.0},
    Plan: {"lanes": ((len, SPEC),) * 2, "merge": Merge("value", "take"), "stages": ((len, SPEC),)},
}  # fmt: skip
"""Of each field of a plan another value."""


@pytest.mark.parametrize("kind", OTHERS)
def test_every_field_of_a_plan_is_in_its_key(kind: Any) -> None:
    """Also one that is added: it has to be listed here."""
    one: Any = {SpanTypes: SPEC, Merge: Merge("value", "fail"), Plan: Plan.of(len, SPEC)}[kind]
    assert {field.name for field in dataclasses.fields(kind)} == OTHERS[kind].keys()

    def key_with(part: Any) -> str:
        lanes = ((len, part if kind is SpanTypes else SPEC),)
        plan = part if kind is Plan else Plan(lanes, part if kind is Merge else None)
        return fingerprint_of(plan.parts).hexdigest()

    keys = {key_with(dataclasses.replace(one, **{name: other})) for name, other in OTHERS[kind].items()}
    assert len(keys | {key_with(one)}) == 1 + len(OTHERS[kind])


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
from ringkernel.words.compiler import WordCompiler
visited = set()
def recorded(visit):
    def record(self, function):
        visited.add(function.__code__.co_filename)
        return visit(self, function)
    return record
Specializer._shell = recorded(Specializer._shell)
WordCompiler.function = recorded(WordCompiler.function)
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


@pytest.mark.long
def test_every_module_that_is_compiled_or_loaded_for_it_is_in_the_key(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is really compiled: each of these files, changed by one statement in a copy, makes another
    key."""
    package = Path(str(rk.__file__)).parent
    result = subprocess.run([sys.executable, "-c", VISITED], capture_output=True, text=True, check=True, timeout=100)
    visited, loaded = json.loads(result.stdout)
    inside = {Path(path).relative_to(package) for path in visited if Path(path).is_relative_to(package)}
    assert {"turn.py", "cursors.py", "doorbell.py", "span_body.py", "worker_loop.py", "watcher.py"} <= {
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
