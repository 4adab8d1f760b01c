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

from .peers import Peer, blocking_jobs, count, echo, process
from .serving import serve


def work(job: str, there: Any, back: Any) -> None:
    """The other side of a job."""
    (count if job == "send" else echo)(there.get, back.put)


@contextlib.contextmanager
def _peer(job: str) -> Iterator[Peer]:
    context = multiprocessing.get_context("spawn")
    there, back = context.Queue(), context.Queue()
    with process(work, job, there, back):
        yield Peer(there.put, back.get)
        there.put(None)


if __name__ == "__main__":
    serve(f"multiprocessing.Queue of Python {python_version()}", blocking_jobs(_peer))
