"""What rivals with a blocking `send` and `receive` share: the jobs, given how to reach the other side.

A rival describes a `Peer` twice: one that echoes and one that counts. It is started for each job and stopped
after it, outside the timed part.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from . import measuring


@dataclass(frozen=True)
class Peer:
    """The other side, running."""

    send: Callable[[Any], Any]
    receive: Callable[[], Any]
    """The next echo, or the (count, sum of ids) of a counting peer after it was sent `STOP`."""


STOP = (-1, 0.0)
"""As a message, where messages are tuples: the other side is done."""

Start = Callable[[], AbstractContextManager[Peer]]


def blocking_jobs(
    echo: Start, counter: Start, stop: Any = STOP, messages: Callable[[int], Sequence[Any]] = measuring.pairs
) -> dict[str, Callable[[int], Any]]:
    """The three jobs of a rival with queues without bound; `stop` asks the counting peer for its total."""

    def round_trip(count: int) -> Any:
        with echo() as peer:
            measuring.round_trip(peer.send, peer.receive, messages(measuring.WARM_UP))
            return measuring.round_trip(peer.send, peer.receive, messages(count))

    def flood(count: int) -> Any:
        with echo() as peer:
            measuring.round_trip(peer.send, peer.receive, messages(measuring.WARM_UP))
            return measuring.flood(peer.send, peer.receive, messages(count))

    def send(count: int) -> Any:
        def total() -> Any:
            peer.send(stop)
            return peer.receive()

        with counter() as peer:
            return measuring.send(peer.send, total, messages(count))

    return {"round_trip": round_trip, "flood": flood, "send": send}
