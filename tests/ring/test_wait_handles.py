"""Wait handles are recycled clean, inherited by nobody, and left alone by a forked child."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ringkernel.memory import wait_handle
from ringkernel.memory.wait_handle import Waker, new_waker


@pytest.mark.parametrize("mechanism", ["eventfd", "pipe"], indirect=True)
def test_a_recycled_waker_is_used_again_and_brings_no_old_wake_ups(mechanism: str) -> None:
    waker = new_waker(blocking=True)
    for _ in range(3):
        waker.wake()
    waker.recycle()
    again = new_waker(blocking=False)
    assert again is waker
    with pytest.raises(BlockingIOError):
        again.clear()
    again.wake()
    again.clear()
    os.fstat(again.read_fd)  # it was never closed
    os.fstat(again.write_fd)
    another = new_waker(blocking=False)
    assert another is not again
    again.recycle()
    another.recycle()


@pytest.mark.parametrize("mechanism", ["eventfd", "pipe"], indirect=True)
@pytest.mark.parametrize("blocking", [True, False])
def test_a_waker_blocks_when_it_was_asked_to(mechanism: str, blocking: bool) -> None:
    waker = new_waker(blocking=not blocking)
    waker.recycle()
    waker = new_waker(blocking=blocking)
    assert os.get_blocking(waker.read_fd) is blocking
    waker.recycle()


def test_descriptors_are_not_inherited_by_programs_that_are_started() -> None:
    waker = new_waker(blocking=False)
    assert not os.get_inheritable(waker.read_fd)
    assert not os.get_inheritable(waker.write_fd)
    waker.recycle()


def test_timed_wakers_have_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_handle, "WAKE_MECHANISM", "timed")
    monkeypatch.setattr(wait_handle, "_free", [])
    waker = new_waker(blocking=True)
    waker.wake()
    waker.clear()
    waker.recycle()
    assert (waker.read_fd, waker.write_fd) == (-1, -1)
    assert isinstance(waker, Waker)


FORK = """
import os, sys
from ringkernel.memory import wait_handle
wait_handle.WAKE_MECHANISM = sys.argv[1]
from ringkernel.memory.wait_handle import new_waker
held, free = new_waker(blocking=False), new_waker(blocking=False)
free.recycle()
held.wake()
child = os.fork()
if child == 0:
    fresh = new_waker(blocking=False)
    mine = (fresh.read_fd, fresh.write_fd)
    inherited = {held.read_fd, held.write_fd, free.read_fd, free.write_fd}
    held.recycle()  # does nothing here
    os._exit(1 if inherited & set(mine) or new_waker(blocking=False) is held else 0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
held.clear()  # raises if the child has taken the wake-up away
assert new_waker(blocking=False) is free
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", ["eventfd", "pipe"])
def test_a_forked_child_leaves_its_parents_descriptors_alone(kind: str) -> None:
    if kind == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, kind], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
