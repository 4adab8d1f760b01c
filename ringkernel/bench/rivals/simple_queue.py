"""`queue.SimpleQueue`: two of them and another thread.

The fastest queue between threads in the standard library: written in C, without bound. Every hop between the
threads takes the GIL from one and gives it to the other.
"""

import contextlib
import queue
from collections.abc import Iterator
from platform import python_version
from typing import Any

from .peers import Peer, blocking_jobs, count, echo, thread
from .serving import serve


@contextlib.contextmanager
def _peer(job: str) -> Iterator[Peer]:
    there, back = (queue.SimpleQueue[Any]() for _ in range(2))
    with thread(count if job == "send" else echo, there.get, back.put):
        yield Peer(there.put, back.get)
        there.put(None)


if __name__ == "__main__":
    serve(f"queue.SimpleQueue of Python {python_version()}", blocking_jobs(_peer))
