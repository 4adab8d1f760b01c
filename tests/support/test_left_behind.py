"""What a test leaves behind is seen."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import left_behind
import pytest


def test_a_thread_is_seen_until_it_has_ended() -> None:
    before, let_go = left_behind.look(), threading.Event()
    thread = threading.Thread(target=let_go.wait, name="forgotten", daemon=True)
    thread.start()
    assert left_behind.look().left_since(before) == ["thread forgotten"]
    let_go.set()
    assert left_behind.wait_until_gone(lambda: left_behind.look().left_since(before)) == []


@pytest.mark.skipif(not left_behind.IS_LINUX, reason="descriptors and mappings are looked up in /proc")
def test_descriptors_and_mapped_files_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "mapped"
    path.write_bytes(b"x" * mmap.PAGESIZE)
    before, mapped = left_behind.look(), left_behind.mapped_files()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert f"descriptor {file.fileno()}, {path}" in left_behind.look().left_since(before)
        assert left_behind.mapped_files() - mapped == {os.fspath(path)}
    assert left_behind.look().left_since(before) == []
    assert left_behind.mapped_files() == mapped
