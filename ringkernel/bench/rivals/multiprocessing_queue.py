"""`multiprocessing.Queue`: two of them and another process.

As documented: `put` hands the object to a feeder thread, which pickles it into a pipe; a tuple pickles faster than
an object of a class. `SimpleQueue` of the same module answers sooner and has no buffer, so that a flood through an
echo would block both sides for ever.
"""

import contextlib
import multiprocessing
from collections.abc import Iterator
from platform import python_version
from typing import Any

from .peers import Peer, Work, blocking_jobs, process
from .serving import serve


def echo(there: Any, back: Any) -> None:
    """Send everything back."""
    while (message := there.get()) is not None:
        back.put(message)


def count(there: Any, back: Any) -> None:
    """Send back how many there were and the sum of their ids."""
    messages = ids = 0
    while (message := there.get()) is not None:
        messages += 1
        ids += message[0]
    back.put((messages, ids))


@contextlib.contextmanager
def _peer(work: Work) -> Iterator[Peer]:
    context = multiprocessing.get_context("spawn")
    there, back = context.Queue(), context.Queue()
    with process(work, there, back):
        yield Peer(there.put, back.get)
        there.put(None)


if __name__ == "__main__":
    jobs = blocking_jobs(lambda: _peer(echo), lambda: _peer(count))
    serve(f"multiprocessing.Queue of Python {python_version()}", jobs)
