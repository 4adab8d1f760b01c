"""The C++ floor: right results, a wrong one noticed, and the reason when there is none."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ringkernel.bench import native as floor
from ringkernel.bench.native import Native, NativeUnavailable

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, floor.COMPILERS)), reason="no C++ compiler on this machine"
)


@pytest.fixture(scope="module")
def native() -> Native:
    return floor.native()


@pytest.fixture(scope="module")
def faulty() -> Native:
    """Damages the record with id 7."""
    return floor.build(["SEEDED_FAULT=7"])


@needs_compiler
@pytest.mark.parametrize(
    ("messages", "capacity", "batch"),
    [(1, 1, 1), (1000, 1, 1), (50_000, 2, 2), (100_000, 1024, 1), (100_001, 1024, 8), (99_999, 64, 64), (1000, 16, 5)],
)
def test_every_record_arrives(native: Native, messages: int, capacity: int, batch: int) -> None:
    assert native.one_way_ns(messages, capacity=capacity, batch=batch) > 0


@needs_compiler
def test_a_round_trip_answers_with_a_time(native: Native) -> None:
    assert native.round_trip_ns(1000) > 1


@needs_compiler
def test_it_is_compiled_once(native: Native) -> None:
    assert floor.native() is native


@needs_compiler
@pytest.mark.parametrize("batch", [1, 4])
def test_a_damaged_record_is_noticed_one_way(faulty: Native, batch: int) -> None:
    assert faulty.one_way_ns(7, capacity=16, batch=batch) > 0  # ids 0 to 6
    with pytest.raises(RuntimeError, match="1 wrong"):
        faulty.one_way_ns(8, capacity=16, batch=batch)


@needs_compiler
def test_a_damaged_record_is_noticed_on_the_round_trip(faulty: Native) -> None:
    assert faulty.round_trip_ns(7) > 0
    with pytest.raises(RuntimeError, match="1 wrong"):
        faulty.round_trip_ns(8)


@needs_compiler
@pytest.mark.parametrize(
    ("messages", "capacity", "batch", "message"),
    [
        (0, 4, 1, "messages=0"),
        (1, 0, 1, "capacity=0"),
        (1, 3, 1, "capacity 3 is not a power of two"),
        (1, 4, 0, "batch=0"),
        (1, 4, 5, "a batch of 5 does not fit a ring of 4"),
    ],
)
def test_sizes_that_make_no_sense(native: Native, messages: int, capacity: int, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.one_way_ns(messages, capacity=capacity, batch=batch)


@needs_compiler
def test_memory_that_is_not_there(native: Native) -> None:
    with pytest.raises(MemoryError, match="no memory"):
        native.one_way_ns(1, capacity=1 << 56)


@needs_compiler
def test_nothing_is_left_on_the_disk_and_numba_stays_out(tmp_path: Path) -> None:
    script = (
        "import os, sys, tempfile\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "from ringkernel.bench.native import native\n"
        "native().one_way_ns(10, capacity=16)\n"
        "assert len(os.listdir(tempfile.tempdir)) == 1\n"
        "assert not {'numba', 'numpy', 'llvmlite'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailable, match=r"no C\+\+ compiler: none of c\+\+, g\+\+, clang\+\+ is on the PATH"):
        floor.build()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the compiler")
def test_the_compilers_last_line_is_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho first line >&2\necho 'fatal error: no luck today' >&2\nexit 3\n")
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailable, match="did not compile the C\\+\\+ floor: fatal error: no luck today"):
        floor.build()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the compiler")
def test_what_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\nfor last; do :; done\n: > "$last"\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NativeUnavailable, match="cannot be loaded"):
        floor.build()


def test_a_missing_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floor, "SOURCE", "elsewhere.cpp")
    with pytest.raises(NativeUnavailable, match=r"elsewhere\.cpp nor .*elsewhere\.cpp exists"):
        floor.find_source()
