"""`multiprocessing.Queue`: two of them and another process.

As documented: `put` hands the object to a feeder thread, which pickles it into a pipe; a tuple pickles faster than
an object of a class. `SimpleQueue` of the same module answers sooner and has no buffer, so that a flood through an
echo would block both sides for ever.
"""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from platform import python_version
from typing import Any

from .peers import STOP, Peer, blocking_jobs
from .processes import process
from .serving import serve


def echo(there: Any, back: Any) -> None:
    """Send everything back."""
    while (message := there.get()) != STOP:
        back.put(message)


def count(there: Any, back: Any) -> None:
    """Send back how many there were and the sum of their ids."""
    messages = ids = 0
    while (message := there.get()) != STOP:
        messages += 1
        ids += message[0]
    back.put((messages, ids))


@contextlib.contextmanager
def _peer(work: Callable[[Any, Any], None]) -> Iterator[Peer]:
    context = multiprocessing.get_context("spawn")
    there, back = context.Queue(), context.Queue()
    with process(work, there, back, stop=lambda: there.put(STOP)):
        yield Peer(there.put, back.get)


if __name__ == "__main__":
    serve(
        f"multiprocessing.Queue of Python {python_version()}", blocking_jobs(lambda: _peer(echo), lambda: _peer(count))
    )
