"""A rival in its process, seen from the one that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ringkernel.bench.method import WrongResultError
from ringkernel.bench.process import Child, ChildError

from .registry import RivalSpec, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.bench.method import Measure, T


class RivalError(Exception):
    """A rival failed, died, answered with something else than JSON, or did not answer in time."""


class Rival:
    """A rival in a process of its own, from construction until `close`. After an error the process is gone.

    Args:
        spec: Which.
        timeout_s: How long the start, and each answer, may take.

    Raises:
        Unavailable: When something that it needs is missing, or it does not start.
    """

    def __init__(self, spec: RivalSpec, *, timeout_s: float = 60) -> None:
        self.spec = spec
        self.name = spec.name
        self._timeout_s = timeout_s
        try:
            self._child = Child(spec.command())
            self.about = str(self._child.ask({"job": "about"}, timeout_s)["result"])
            """What runs there: "PyDotCompute 0.2.0 on uvloop"."""
        except ChildError as error:
            raise Unavailable(f"{self.name} does not start: it {error}") from error

    def ask(self, job: str, **parameters: Any) -> Any:
        """What a job answers; see the package for the jobs. Blocks the event loop, too.

        Raises:
            RivalError: With the rival's traceback when it failed, or the last line that it wrote when it died.
            ValueError: For a job that this rival does not have.
        """
        if job not in self.spec.jobs:
            raise ValueError(f"{self.name} has no job {job!r}; it has {', '.join(self.spec.jobs)}")
        if self._child.is_closed:
            raise RivalError(f"{self.name} was asked for {job!r} after it had been closed")
        try:
            answer = self._child.ask({"job": job, **parameters}, self._timeout_s)
        except ChildError as error:
            raise RivalError(f"{self.name}, asked for {job!r}, {error}") from error
        if "error" in answer:
            self._child.close(0)
            raise RivalError(f"{self.name} failed in {job!r}:\n{answer['error']}")
        return answer["result"]

    def contender(self, job: str, value: Callable[[Any], T], **parameters: Any) -> Measure[T]:
        """Asks it to do a job, as one of a race; `value` makes the sample of its answer."""

        async def measure() -> T:
            try:
                return value(self.ask(job, **parameters))
            except RivalError as error:
                lines = str(error).strip().splitlines()
                raise WrongResultError(f"{self.name} failed: {lines[-1]}") from error

        return measure

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
