"""The console shows and clears the cache, and says what is wrong with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cache_tools import files

from ringkernel import cli
from ringkernel.cache import settings
from ringkernel.cache.store import Store

pytestmark = pytest.mark.compiles


def test_the_console_shows_and_clears(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert str(cache) in capsys.readouterr().out.split()
    monkeypatch.setenv("COLUMNS", "40")
    assert cli.main(["cache"]) == 0
    assert f" {cache}\n" in capsys.readouterr().out, "however narrow it is, a path stays whole"
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


MODULE = """
import ringkernel as rk

for factor in range(4):
    @rk.ring_kernel(f"fill {factor}", input_type=float, output_type=float)
    def scale(msg, out, factor=factor):
        out.value = msg.value * factor

@rk.ring_kernel("fill coroutine")
async def nothing(ctx):
    pass
"""


def test_the_cache_is_filled_by_processes(cache: Path, tmp_path: Path) -> None:
    module = tmp_path / "kernels_to_fill.py"
    module.write_text(MODULE)
    command = [sys.executable, "-m", "ringkernel.cli", "cache", "fill", str(module), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert (json.loads(done.stdout)["compiled"], json.loads(done.stdout)["failed"]) == (4, 0)
    assert len(files(cache)) >= 4 + 2  # and ringkernel's own
    before = {path: path.stat().st_ino for path in files(cache)}
    subprocess.run(command, capture_output=True, timeout=100, check=True)
    assert {path: path.stat().st_ino for path in files(cache)} == before  # found, not written again


def test_a_kernel_that_cannot_be_compiled_is_named(cache: Path, tmp_path: Path) -> None:
    module = tmp_path / "kernels_to_refuse.py"
    module.write_text(MODULE.replace("msg.value * factor", "msg.valu"))
    command = [sys.executable, "-m", "ringkernel.cli", "cache", "fill", str(module)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "the message has no field 'valu'" in done.stderr


@pytest.mark.parametrize("arguments", [["fill"], ["clear", "json"], ["info", "os"]])
def test_only_fill_takes_modules(arguments: list[str], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cache", *arguments]) == 2
    assert "ringkernel cache fill MODULE" in capsys.readouterr().err
