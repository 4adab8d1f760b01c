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
        self._ids += message[0]
        return None


@contextlib.contextmanager
def _peer(job: str) -> Iterator[Peer]:
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()
    actor = Echo.start() if job == "round_trip" else Forward.start(back) if job == "flood" else Counter.start()
    answers: list[Any] = []
    yield {
        "round_trip": Peer(lambda message: answers.append(actor.ask(message)), answers.pop),
        "flood": Peer(actor.tell, back.get),
        "send": Peer(actor.tell, lambda: actor.ask(None)),
    }[job]
    actor.stop()


if __name__ == "__main__":
    serve(f"pykka {version('pykka')}", blocking_jobs(_peer))
