"""A compilation that takes long is announced, and a short one is not."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ringkernel.audience import is_terminal
from ringkernel.devices.event_loop import announcing

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal
        self.has_spoken = threading.Event()

    def isatty(self) -> bool:
        return self.is_terminal

    def write(self, text: str) -> int:
        self.has_spoken.set()
        return super().write(text)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(announcing, "PATIENCE_S", 0.0)
    monkeypatch.setattr(announcing._Waiting, "until", float("-inf"))
    level = announcing.logger.level
    yield
    announcing.logger.setLevel(level)


def test_a_terminal_hears_what_takes_long(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    announcing.logger.setLevel(logging.WARNING)
    terminal = Stream(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with announcing.announced("something"):
        assert terminal.has_spoken.wait(10)
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "ringkernel: compiling something ..."
    assert lines[-1].startswith("ringkernel: compiled something in ")


def test_a_pipe_hears_nothing_and_the_log_all(
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipe = Stream(is_terminal=False)
    monkeypatch.setattr(sys, "stderr", pipe)
    with caplog.at_level(logging.INFO, "ringkernel"), announcing.announced("something"):
        pass
    assert pipe.getvalue() == capsys.readouterr().out == ""
    assert caplog.messages[-1].startswith("compiled something in ")


def test_what_is_quick_is_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ringkernel"), announcing.announced("something"):
        pass
    assert not caplog.messages


@pytest.mark.parametrize("is_next", [True, False])
def test_who_waits_for_one_thing_after_another_hears_of_it(
    is_next: bool, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    announcing.logger.setLevel(logging.WARNING)
    terminal = Stream(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(announcing, "PATIENCE_S", 1000.0)
    monkeypatch.setattr(announcing, "GAP_S", 100.0)
    now = time.monotonic()
    monkeypatch.setattr(announcing._Waiting, "since", now - 2000)
    monkeypatch.setattr(announcing._Waiting, "until", now - (0 if is_next else 500))
    with announcing.announced("the second"):
        if is_next:
            assert terminal.has_spoken.wait(10)
    assert terminal.has_spoken.is_set() == is_next


def test_a_stream_that_is_closed_or_not_there_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)
    assert not is_terminal(None)
