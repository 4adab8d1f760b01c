"""Run one case in this process: `python -m ringkernel.bench.child '{"case": ..., ...}'`.

Every case has a process of its own, so that memory, threads and CPU time of one do not show up in the next one, and a
case that hangs or crashes does not end the run. What it has to say goes to stdout as JSON, one object per line:
`{"done": 3, "total": 12}` on the way, in the end `{"result": {...}, "about": {...}, "missing": {...}}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .cases import CASES
from .context import Bench, Budget
from .method import WrongResultError
from .model import CaseResult, Row

if TYPE_CHECKING:
    from collections.abc import Callable


def new_loop(name: str) -> asyncio.AbstractEventLoop:
    """An event loop: "uvloop" or "asyncio"."""
    if name == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.new_event_loop()


def say(message: dict[str, Any]) -> None:
    """Tell the parent. Without one there is nobody to measure for."""
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(1) from None


def compile_timer() -> Callable[[], float]:
    """Starts adding up the time in which numba compiles in this process; what is returned reads it, in seconds."""
    from numba.core import event

    class Timer(event.Listener):  # type: ignore[misc]
        """Counts the outermost compilation of each thread: numba compiles callees inside of callers."""

        def __init__(self) -> None:
            self.seconds = 0.0
            self.local = threading.local()

        def on_start(self, _event: Any) -> None:
            self.local.depth = getattr(self.local, "depth", 0) + 1
            if self.local.depth == 1:
                self.local.began = time.perf_counter()

        def on_end(self, _event: Any) -> None:
            self.local.depth -= 1
            if self.local.depth == 0:
                self.seconds += time.perf_counter() - self.local.began

    timer = Timer()
    event.register("numba:compile", timer)
    return lambda: timer.seconds


def run(name: str, bench: Bench, loop: str) -> CaseResult:
    """Run a case to its end, whatever that is."""
    case = CASES[name]
    start, error = time.perf_counter(), ""
    rows: tuple[Row, ...] = ()
    compile_s = compile_timer()
    with asyncio.Runner(loop_factory=lambda: new_loop(loop)) as runner:
        try:
            rows = tuple(runner.run(case.run(bench)))
        except WrongResultError as wrong:
            error = str(wrong)
        except Exception as failure:  # noqa: BLE001 (the other cases go on; this one's end is in the report)
            traceback.print_exc()
            error = f"{type(failure).__name__}: {failure}"
    return CaseResult(
        name=name,
        title=case.title,
        rows=rows,
        distributions=tuple(bench.distributions),
        notes=tuple(bench.notes),
        seconds=time.perf_counter() - start,
        compile_s=compile_s(),
        error=error,
    )


def main(request: str) -> None:
    """Do what the request says and tell the parent."""
    options = json.loads(request)
    bench = Bench(
        Budget(**options["budget"]),
        options["rivals"],
        options["device"],
        lambda done, total: say({"done": done, "total": total}),
    )
    result = run(options["case"], bench, options["loop"])
    say({"result": asdict(result), "about": bench.about, "missing": bench.missing})


def leave_with_parent() -> None:
    """End this process when the parent has gone, however it went: its end of our stdin is closed then."""

    def watch() -> None:
        while os.read(0, 1):  # not through sys.stdin, whose lock this thread would hold at exit
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    leave_with_parent()
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
