"""A busy neighbour: a process that takes a core every now and then, as others on a shared machine do.

    works for 20 ms, rests for 20 ms, works for 20 ms, ...      while it is told to; asleep otherwise

`python -m ringkernel.bench.neighbour` is that process; `Neighbour` is who tells it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from .process import Child
from .rivals.serving import answers_to_stdout

if TYPE_CHECKING:
    from .method import Measure, T

SPELL_S = 0.02
BUSY = "beside a busy neighbour: a process that takes a core half of the time, as --neighbour asks"
PATIENCE_S = 20.0


class Neighbour:
    """The process, at rest at first, until the context ends. Raises `ChildError` when it cannot be run, or dies."""

    def __enter__(self) -> Self:
        self._child = Child([sys.executable, "-m", "ringkernel.bench.neighbour"])
        return self

    def __exit__(self, *_: object) -> None:
        self._child.close()

    def be_busy(self, is_busy: bool) -> None:
        """From now on it works, or rests."""
        self._child.ask({"busy": is_busy}, PATIENCE_S)

    def beside(self, measure: Measure[T]) -> Measure[T]:
        """The contender, measured while the neighbour is busy."""

        async def measured() -> T:
            self.be_busy(True)
            try:
                return await measure()
            finally:
                self.be_busy(False)

        return measured


def main() -> None:
    """Work and rest as stdin says, until it ends."""
    answer, busy = answers_to_stdout(), threading.Event()
    threading.Thread(target=_work, args=(busy,), daemon=True).start()
    for line in sys.stdin:
        is_busy = json.loads(line)["busy"]
        (busy.set if is_busy else busy.clear)()
        answer({"result": is_busy})


def _work(busy: threading.Event) -> None:
    while busy.wait():
        end = time.perf_counter() + SPELL_S
        while busy.is_set() and time.perf_counter() < end:
            pass
        time.sleep(SPELL_S)


if __name__ == "__main__":
    main()
