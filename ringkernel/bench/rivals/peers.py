"""The other side of rivals that block, in a thread or a process of its own, and the jobs that it makes possible.

A rival describes the other side twice: one that echoes and one that counts. It is started for each job and stopped
after it, outside the timed part.
"""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ringkernel.bench import traffic


@dataclass(frozen=True)
class Peer:
    """The other side, running."""

    send: Callable[[Any], Any]
    receive: Callable[[], Any]
    """The next echo, or, of a peer that counts, (count, sum of ids) after it was sent the last message."""
    last: Any = None


Start = Callable[[], AbstractContextManager[Peer]]
Work = Callable[[Any, Any], None]
Messages = Callable[[int], Sequence[Any]]


def blocking_jobs(
    echo: Start, counter: Start, *, flooded: Start | None = None, messages: Messages = traffic.pairs
) -> dict[str, Callable[[int], Any]]:
    """The three jobs of a rival with queues without bound; `flooded` is the peer of the flood where it is another."""

    def round_trip(count: int) -> Any:
        with echo() as peer:
            traffic.round_trips(peer.send, peer.receive, messages(traffic.WARM_UP))
            return {"ns": traffic.round_trips(peer.send, peer.receive, messages(count))}

    def flood(count: int) -> Any:
        with (flooded or echo)() as peer:
            traffic.round_trips(peer.send, peer.receive, messages(traffic.WARM_UP))
            return traffic.flood(peer.send, peer.receive, messages(count))

    def send(count: int) -> Any:
        def total() -> Any:
            peer.send(peer.last)
            return peer.receive()

        with counter() as peer:
            return traffic.sends(peer.send, total, messages(count))

    return {"round_trip": round_trip, "flood": flood, "send": send}


@contextlib.contextmanager
def thread(work: Callable[[], None]) -> Iterator[None]:
    """The other side as a thread, which has been told to return when the context ends."""
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    yield
    worker.join()


@contextlib.contextmanager
def process(work: Work, there: Any, back: Any) -> Iterator[None]:
    """`work(there, back)` in a process of its own, likewise."""
    worker = multiprocessing.get_context("spawn").Process(target=_run, args=(work, there, back), daemon=True)
    worker.start()
    yield
    worker.join()


def _run(work: Work, there: Any, back: Any) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    work(there, back)


def _follow_parent() -> None:
    """End this process when its parent has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
