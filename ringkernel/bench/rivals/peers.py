"""The other side of rivals that block, in a thread or a process of its own, and the jobs that it makes possible."""

import contextlib
import functools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ringkernel.bench import traffic

from .registry import MESSAGES


@dataclass(frozen=True)
class Peer:
    """The other side, running."""

    send: Callable[[Any], Any]
    receive: Callable[[], Any]
    """The next echo, or, of a peer that counts, (count, sum of ids) after it was sent the last message."""
    last: Any = None


def echo(get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
    """Send everything back until None comes."""
    while (message := get()) is not None:
        put(message)


def count(get: Callable[[], Any], put: Callable[[Any], Any]) -> None:
    """Until None comes; then send back how many there were and the sum of their ids."""
    messages = ids = 0
    while (message := get()) is not None:
        messages += 1
        ids += message[0]
    put((messages, ids))


def blocking_jobs(peer: Callable[[str], AbstractContextManager[Peer]]) -> dict[str, Callable[[int], Any]]:
    """The three jobs of a rival with queues without bound. `peer` starts the other side for the job of that name, one
    that echoes or, for "send", one that counts; it is stopped after the job. Neither is in the timed part."""

    def run(job: str, count: int) -> Any:
        def total() -> Any:
            other.send(other.last)
            return other.receive()

        messages = traffic.pairs(count)
        with peer(job) as other:
            if job == "send":
                return traffic.sends(other.send, total, messages)
            traffic.round_trips(other.send, other.receive, traffic.pairs(traffic.WARM_UP))
            if job == "flood":
                return traffic.flood(other.send, other.receive, messages)
            return {"ns": traffic.round_trips(other.send, other.receive, messages)}

    return {job: functools.partial(run, job) for job in MESSAGES}


@contextlib.contextmanager
def queues(job: str, side: Callable[..., AbstractContextManager[None]], there: Any, back: Any) -> Iterator[Peer]:
    """The other side of two queues: `thread` or `process`."""
    with side(count if job == "send" else echo, there.get, back.put):
        yield Peer(there.put, back.get)
        there.put(None)


def thread(work: Callable[..., None], *arguments: Any) -> AbstractContextManager[None]:
    """The other side as a thread, which has been told to return when the context ends."""
    return _started(threading.Thread(target=work, args=arguments, daemon=True))


def process(work: Callable[..., None], *arguments: Any) -> AbstractContextManager[None]:
    """The other side as a process, likewise."""
    return _started(multiprocessing.get_context("spawn").Process(target=_run, args=(work, *arguments), daemon=True))


@contextlib.contextmanager
def _started(worker: Any) -> Iterator[None]:
    worker.start()
    yield
    worker.join()


def _run(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    work(*arguments)


def _follow_parent() -> None:
    """End this process when its parent has ended, however that was."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
