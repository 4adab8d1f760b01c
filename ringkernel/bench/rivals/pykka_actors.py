"""pykka: actors in threads of their own.

`ask` and `tell` on the actor's reference, which its documentation recommends over proxies where speed counts. The
flood is told; the echo hands each message on to a queue, which costs less than a second actor would.
"""

import contextlib
import queue
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pykka

from ringkernel.bench.traffic import notes

from .peers import Peer, blocking_jobs
from .serving import serve


class Echo(pykka.ThreadingActor):
    """Answers with the message."""

    def on_receive(self, message: Any) -> Any:
        """Answer."""
        return message


class Forward(pykka.ThreadingActor):
    """Hands messages on."""

    def __init__(self, target: queue.SimpleQueue[Any]) -> None:
        super().__init__()
        self._put = target.put

    def on_receive(self, message: Any) -> None:
        """Hand on."""
        self._put(message)


class Counter(pykka.ThreadingActor):
    """Counts messages and sums their ids; answers None with both."""

    def __init__(self) -> None:
        super().__init__()
        self._count = self._ids = 0

    def on_receive(self, message: Any) -> Any:
        """Count, or answer."""
        if message is None:
            return self._count, self._ids
        self._count += 1
        self._ids += message.id
        return None


@contextlib.contextmanager
def _started(actor: Any, *arguments: Any) -> Iterator[Any]:
    reference = actor.start(*arguments)
    yield reference
    reference.stop()


@contextlib.contextmanager
def _asked() -> Iterator[Peer]:
    """`ask`, which sends and waits for the answer."""
    answers: list[Any] = []
    with _started(Echo) as echo:
        yield Peer(lambda message: answers.append(echo.ask(message)), answers.pop)


@contextlib.contextmanager
def _told() -> Iterator[Peer]:
    """`tell` through an actor that hands on."""
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with _started(Forward, back) as forward:
        yield Peer(forward.tell, back.get)


@contextlib.contextmanager
def _counted() -> Iterator[Peer]:
    """`tell` to an actor that counts."""
    with _started(Counter) as counter:
        yield Peer(counter.tell, lambda: counter.ask(None))


if __name__ == "__main__":
    serve(f"pykka {version('pykka')}", blocking_jobs(_asked, _counted, flooded=_told, messages=notes))
