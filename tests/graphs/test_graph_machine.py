"""Whole graphs under any sequence of concurrent operations, each cancelled at any moment, every message followed.

Hypothesis draws a script (`graph_script.py`), a runtime plays it (`graph_driver.py`), and what the host saw is audited
against the plain functions of the kernels (`graph_books.py`). `make soak` goes on as long as asked. A failure shows the
shortest script; if the process ends, or hangs, the script is in the file `LAST`. `--script FILE` plays a script again.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import guarded
import pytest
from graph_driver import play
from graph_kernels import KINDS
from graph_script import Node, Op, Script, scripts
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from ringkernel import RingKernelRuntime
from ringkernel.devices.compiled import handshake

if os.name != "posix":
    pytest.skip("the handlers that take their time call usleep", allow_module_level=True)

EXAMPLES = 250
EXAMPLES_GUARDED = 100
SHRINK_S = 60
LAST = Path(tempfile.gettempdir()) / "ringkernel-last-script"
SCRIPT_S = 60
"""After this a script has stopped the event loop, and the process is ended."""
TERMINAL = sys.__stderr__ or sys.stderr
REPEATS = 5
"""Threads differ from run to run: while Hypothesis shrinks, a script passes if it does so often."""
PROFILE = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    print_blob=False,
    verbosity=Verbosity.quiet,
)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A kernel's answer is waited for less long than its longest message takes; kernels fail on purpose."""
    monkeypatch.setattr(handshake, "ANSWER_TIMEOUT_S", 0.3)
    caplog.set_level(logging.CRITICAL, "ringkernel")
    caplog.set_level(logging.CRITICAL, "asyncio")


@pytest.fixture(autouse=True, scope="module")
def compiled_handlers() -> None:
    """What a first launch compiles may take longer than a script."""

    async def launch_all() -> None:
        async with RingKernelRuntime(workers=1) as runtime:
            for name, kind in KINDS.items():
                await runtime.launch(name, kind.declare(name, 1))

    asyncio.run(launch_all())


def script_of(text: str) -> Script:
    """What a failure has shown."""
    script: Script = eval(text, {"Script": Script, "Node": Node, "Op": Op})  # noqa: S307 (the tester's own)
    return script


def play_or_end(script: Script) -> None:
    LAST.write_text(repr(script))
    faulthandler.dump_traceback_later(SCRIPT_S, exit=True, file=TERMINAL)
    try:
        play(script, guarded.read_only if guarded.WHY_NOT is None else lambda array: array)
    finally:
        faulthandler.cancel_dump_traceback_later()


class Search:
    """One search for a script that fails, and the shortest that Hypothesis found."""

    def __init__(self) -> None:
        self.played = 0
        self.failure: tuple[Script, BaseException] | None = None
        self.ends = math.inf

    def run(self, number: int, examples: int) -> None:
        """Raises what the shortest script raised. `number` seeds it."""

        @seed(number)
        @settings(PROFILE, max_examples=examples)
        @given(scripts())
        def search(script: Script) -> None:
            if time.monotonic() > self.ends:
                return
            for _ in range(1 if self.failure is None else REPEATS):
                self.played += 1
                try:
                    play_or_end(script)
                except Exception as error:
                    self.ends = min(self.ends, time.monotonic() + SHRINK_S)
                    if self.failure is None or len(repr(script)) <= len(repr(self.failure[0])):
                        self.failure = script, error
                    raise

        try:
            search()
        except BaseException:
            if self.failure is None:
                raise
        if self.failure is not None:
            script, error = self.failure
            error.add_note(f"seed {number}, the shortest script that failed:\n{script!r}")
            raise error


@pytest.mark.timeout(900)
def test_no_message_of_any_graph_is_lost_doubled_or_misled(
    request: pytest.FixtureRequest, random_cases: Callable[[int], int]
) -> None:
    option = request.config.getoption
    if option("--script") is not None:
        for _ in range(REPEATS):
            play_or_end(script_of(Path(option("--script")).read_text()))
        return
    examples = random_cases(EXAMPLES_GUARDED if option("--guarded") else EXAMPLES)
    budget = option("--soak")
    if budget is None:
        Search().run(0, examples)
        return
    ends, number = time.monotonic() + budget, random.randrange(10**9)
    while time.monotonic() < ends:
        search = Search()
        search.run(number, examples)
        left = max(0.0, ends - time.monotonic())
        TERMINAL.write(f"seed {number}: {search.played} scripts, {left:.0f} s left\n")
        number += 1
