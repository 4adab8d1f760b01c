"""The other side as a process: what the queues between processes share."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

Work = Callable[[Any, Any], None]


def _follow_parent() -> None:
    """End this process when its parent has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(work: Work, there: Any, back: Any) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    work(there, back)


@contextlib.contextmanager
def process(work: Work, there: Any, back: Any, stop: Callable[[], None]) -> Iterator[None]:
    """Run `work(there, back)` in a process of its own, which `stop` makes return."""
    worker = multiprocessing.get_context("spawn").Process(target=_run, args=(work, there, back), daemon=True)
    worker.start()
    yield
    stop()
    worker.join()
