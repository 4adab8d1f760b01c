"""Fixtures for tests of waking: parkers that are closed, and the choice of what to sleep on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ringkernel.memory import wait_handle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
from parking import Parker


@pytest.fixture
def new_parker() -> Iterator[Callable[..., Parker]]:
    made: list[Parker] = []

    def make(*args: Any, **options: Any) -> Parker:
        made.append(Parker(*args, **options))
        return made[-1]

    yield make
    for parker in made:
        parker.close()


@pytest.fixture
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Sleep on this from now on, with wakers of its own."""
    kind = str(request.param)
    if kind == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    monkeypatch.setattr(wait_handle, "WAKE_MECHANISM", kind)
    own: list[wait_handle.Waker] = []
    monkeypatch.setattr(wait_handle, "_free", own)
    yield kind
    for descriptor in {one for waker in own for one in (waker.read_fd, waker.write_fd)}:
        os.close(descriptor)
