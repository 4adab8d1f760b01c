"""Ray: an actor in a worker process, called through the local node.

A synchronous actor, which keeps the order of its caller's calls. Calls are pipelined in the flood, as its guide
advises: all are submitted, then the results are fetched in batches. The `send` job drops the references that it
gets. Needs the extra `bench-all`.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from typing import Any

import ray

from . import measuring
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
        """Count a message and sum its id."""
        self._count += 1
        self._ids += message[0]

    def total(self) -> tuple[int, int]:
        """The counts since the last call."""
        total = self._count, self._ids
        self._count = self._ids = 0
        return total


class Jobs:
    """The jobs, with one actor for all of them."""

    def __init__(self) -> None:
        actor: Any = Actor  # the decorator gives it `remote`, which type checkers do not see
        self._actor = actor.remote()
        ray.get(self._actor.total.remote())

    def round_trip(self, count: int) -> Any:
        """Submit a call, get its result."""
        call, get = self._actor.echo.remote, ray.get
        references: list[Any] = []

        def submit(message: Any) -> None:
            references.append(call(message))

        return measuring.round_trip(submit, lambda: get(references.pop()), measuring.pairs(count))

    def flood(self, count: int) -> Any:
        """Submit all calls, then get the results in batches."""
        call = self._actor.echo.remote
        references: deque[Any] = deque()

        def results() -> Iterator[Any]:
            while references:
                yield ray.get([references.popleft() for _ in range(min(BATCH, len(references)))])

        received = itertools.chain.from_iterable(results())
        return measuring.flood(
            lambda message: references.append(call(message)), received.__next__, measuring.pairs(count)
        )

    def send(self, count: int) -> Any:
        """Submit calls whose results nobody wants."""
        call = self._actor.add.remote
        return measuring.send(call, lambda: ray.get(self._actor.total.remote()), measuring.pairs(count))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    jobs = Jobs()
    serve(f"Ray {ray.__version__}", {"round_trip": jobs.round_trip, "flood": jobs.flood, "send": jobs.send})
    ray.shutdown()
