"""`queue.SimpleQueue`: two of them and another thread.

The fastest queue between threads in the standard library: written in C, without bound. Every hop between the
threads takes the GIL from one and gives it to the other.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from platform import python_version
from typing import Any

from .measuring import Note, notes
from .peers import Peer, blocking_jobs
from .serving import serve

Get = Callable[[], Any]
Put = Callable[[Any], None]


def _echo(get: Get, put: Put) -> None:
    while (message := get()) is not None:
        put(message)


def _count(get: Get, put: Put) -> None:
    count = ids = 0
    while (message := get()) is not None:
        count += 1
        ids += message.id
    put((count, ids))


@contextlib.contextmanager
def _thread(work: Callable[[Get, Put], None]) -> Iterator[Peer]:
    there: queue.SimpleQueue[Note | None] = queue.SimpleQueue()
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()
    thread = threading.Thread(target=work, args=(there.get, back.put), daemon=True)
    thread.start()
    yield Peer(there.put, back.get)
    there.put(None)
    thread.join()


if __name__ == "__main__":
    jobs = blocking_jobs(lambda: _thread(_echo), lambda: _thread(_count), stop=None, messages=notes)
    serve(f"queue.SimpleQueue of Python {python_version()}", jobs)
