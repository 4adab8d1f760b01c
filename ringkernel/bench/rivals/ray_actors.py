"""Ray: an actor in a worker process, called through the local node.

A synchronous actor, which keeps the order of its caller's calls. Calls are pipelined in the flood, as its guide
advises: all are submitted, then the results are fetched in batches. The `send` job drops the references that it
gets. Needs the extra `bench-all`.
"""

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import ray

from .peers import Peer, blocking_jobs
from .serving import serve

BATCH = 1000


@ray.remote
class Actor:
    """Echoes and counts."""

    def __init__(self) -> None:
        self._count = self._ids = 0

    def echo(self, message: Any) -> Any:
        """Answer with the message."""
        return message

    def add(self, message: Any) -> None:
        """Count a message and sum its id. After the last one comes None."""
        if message is not None:
            self._count += 1
            self._ids += message[0]

    def total(self) -> tuple[int, int]:
        """The counts since the last call."""
        total = self._count, self._ids
        self._count = self._ids = 0
        return total


def _results(references: deque[Any]) -> Iterator[Any]:
    """The results of the calls so far, in batches; there may be more each time."""
    while True:
        yield from ray.get([references.popleft() for _ in range(min(BATCH, len(references)))])


def main() -> None:
    """Serve, with one actor for all jobs."""
    make: Any = Actor  # the decorator gives it `remote`, which type checkers do not see
    actor = make.remote()
    ray.get(actor.total.remote())
    call, add = actor.echo.remote, actor.add.remote

    @contextlib.contextmanager
    def peer(job: str) -> Iterator[Peer]:
        references: deque[Any] = deque()
        results = _results(references).__next__
        yield {
            "round_trip": Peer(lambda message: references.append(call(message)), lambda: ray.get(references.pop())),
            "flood": Peer(lambda message: references.append(call(message)), results),
            "send": Peer(add, lambda: ray.get(actor.total.remote())),
        }[job]

    serve(f"Ray {ray.__version__}", blocking_jobs(peer))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    main()
    ray.shutdown()
