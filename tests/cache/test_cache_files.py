"""Cache files that are damaged, or others', are not read."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cache_tools import SPEC, built, files, find_span, is_cached

from ringkernel.cache import settings
from ringkernel.cache.store import SUFFIX, Store

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.compiles


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


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owner there")
def test_users_of_one_directory_have_one_each_in_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or they would replace each other's files, and evict their own for those of others."""
    cache.mkdir()
    ours = settings.directory()
    Store(ours, 100).write("aa", bytes(50))
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    theirs = settings.directory()
    assert (ours, theirs) == (cache, cache / f"user-{other}")
    Store(theirs, 100).write("aa", bytes(49))
    assert [path.stat().st_size for path in (*files(ours), *files(theirs))] == [100, 99]


@pytest.mark.skipif(os.name == "nt", reason="has other permissions")
def test_files_and_directory_are_private(cache: Path) -> None:
    Store(cache, 1000).write("aa", b"payload")
    assert cache.stat().st_mode & 0o777 == 0o700
    assert files(cache)[0].stat().st_mode & 0o777 == 0o600
