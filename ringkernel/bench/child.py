"""Run one case in this process: `python -m ringkernel.bench.child`, with the request as JSON on stdin.

Every case has a process of its own, so that memory, threads and CPU time of one do not show up in the next one, and a
case that hangs or crashes does not end the run. What it has to say goes to stdout as JSON, one object per line:
`{"done": 3, "total": 12}` on the way, in the end `{"result": {...}, "about": {...}, "missing": {...}}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .cases import CASES
from .compiling import Compilations
from .context import Bench, Budget
from .method import WrongResultError
from .model import CaseResult
from .rivals.serving import answers_to_stdout
from .traffic import new_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from .model import Row

GRACE_S = 3.0
"""How long this process may take to end what it has started once nobody listens any more."""


def run(name: str, bench: Bench, loop: str) -> CaseResult:
    """Run a case to its end, whatever that is."""
    case, compilations = CASES[name], Compilations()
    rows: tuple[Row, ...] = ()
    start, error = time.perf_counter(), ""
    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        try:
            rows = tuple(runner.run(case.function(bench)))
        except WrongResultError as wrong:
            error = str(wrong)
        except Exception as failure:  # noqa: BLE001 (the other cases go on; this one's end is in the report)
            traceback.print_exc()
            error = f"{type(failure).__name__}: {failure}"
    seconds, found = time.perf_counter() - start, (tuple(bench.distributions), tuple(bench.notes))
    return CaseResult(name, case.title, rows, *found, seconds, compilations.seconds, error)


def main(say: Callable[[dict[str, Any]], None]) -> None:
    """Do what the request says and tell the parent."""
    request = json.loads(sys.stdin.readline())
    leave_with_parent()
    budget = Budget(**request["budget"])
    bench = Bench(budget, request["rivals"], lambda done, total: say({"done": done, "total": total}))
    result = run(request["case"], bench, request["loop"])
    say({"result": asdict(result), "about": bench.about, "missing": bench.missing})


def leave_with_parent() -> None:
    """End when the parent closes our stdin or has gone: as by Ctrl-C, and at once if that does not help."""

    def watch() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock this thread would hold at exit
            pass
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    try:
        main(answers_to_stdout())
    except (KeyboardInterrupt, BrokenPipeError):  # nobody is left to measure for
        sys.exit(130)
