"""The console shows and clears the cache, and says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cache_tools import files

from ringkernel import cli
from ringkernel.cache import settings
from ringkernel.cache.store import Store

pytestmark = pytest.mark.compiles


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
