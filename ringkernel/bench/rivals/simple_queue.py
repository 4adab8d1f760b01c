"""`queue.SimpleQueue`: two of them and another thread.

The fastest queue between threads in the standard library: written in C, without bound. Every hop between the
threads takes the GIL from one and gives it to the other.
"""

import contextlib
import queue
from collections.abc import Callable, Iterator
from platform import python_version
from typing import Any

from ringkernel.bench.traffic import notes

from .peers import Peer, blocking_jobs, thread
from .serving import serve

Queue = queue.SimpleQueue[Any]


def _echo(there: Queue, back: Queue) -> None:
    get, put = there.get, back.put
    while (message := get()) is not None:
        put(message)


def _count(there: Queue, back: Queue) -> None:
    get, count, ids = there.get, 0, 0
    while (message := get()) is not None:
        count += 1
        ids += message.id
    back.put((count, ids))


@contextlib.contextmanager
def _peer(work: Callable[[Queue, Queue], None]) -> Iterator[Peer]:
    there, back = Queue(), Queue()
    with thread(lambda: work(there, back)):
        yield Peer(there.put, back.get)
        there.put(None)


if __name__ == "__main__":
    jobs = blocking_jobs(lambda: _peer(_echo), lambda: _peer(_count), messages=notes)
    serve(f"queue.SimpleQueue of Python {python_version()}", jobs)
