"""The cache keeps to its size and place, and the least recently used goes first."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from cache_tools import SPEC, built, files, find_span, is_cached

import ringkernel as rk
from ringkernel.cache import settings
from ringkernel.cache.store import SUFFIX, TEMPORARY_SUFFIX, Store

pytestmark = pytest.mark.compiles


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
