"""What a case is given: how often and how much to measure, a race to run its contenders in, and the rivals."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .method import Samples, WrongResultError, interleave
from .model import Distribution, Series

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from .rivals import Rival, RivalSpec

T = TypeVar("T")
RIVAL_CHOICES = ("none", "default", "all")


@dataclass(frozen=True)
class Budget:
    """How much a run may take. `scale` multiplies how many messages a measurement sends."""

    rounds: int
    scale: float = 1.0
    is_full: bool = False


QUICK = Budget(rounds=5)
FULL = Budget(rounds=15, scale=2.0, is_full=True)


@dataclass
class Opponent:
    """A rival in its process, during one case."""

    spec: RivalSpec
    rival: Rival

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.spec.name

    def asked(self, job: str, **parameters: Any) -> Callable[[], Awaitable[Any]]:
        """A contender that asks it to do a job. Blocks the event loop: while one runs, the others do nothing."""
        from .rivals import RivalError

        async def measure() -> Any:
            try:
                return self.rival.ask(job, **parameters)
            except RivalError as error:
                lines = str(error).strip().splitlines() or ["no reason given"]
                raise WrongResultError(f"{self.name} failed: {lines[-1]}") from error

        return measure

    def rate(self, job: str, count: int) -> Callable[[], Awaitable[float]]:
        """A contender that says how many millions of messages/s a job of so many messages comes to."""
        measure = self.asked(job, count=count)

        async def millions_per_s() -> float:
            answer = await measure()
            return float(answer["messages"] / answer["seconds"] / 1e6)

        return millions_per_s


@dataclass
class Bench:
    """One case's run. Cases add to `notes` and `distributions`; `progress` hears (steps done, steps in all)."""

    budget: Budget
    rivals: str = "default"
    device: str = "cpu"
    progress: Callable[[int, int], None] = lambda _done, _total: None
    notes: list[str] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    _done: int = 0
    _total: int = 0

    def count(self, messages: int, least: int = 1) -> int:
        """How many of something, for this budget."""
        return max(least, round(messages * self.budget.scale))

    def rounds(self, at_most: int | None = None) -> int:
        """How many counted rounds; fewer for what takes long."""
        return self.budget.rounds if at_most is None else min(at_most, self.budget.rounds)

    async def race(
        self,
        contenders: Mapping[str, Callable[[], Awaitable[T]]],
        *,
        rounds: int | None = None,
        warm_up: bool = True,
    ) -> dict[str, Samples[T]]:
        """Measure all contenders in interleaved, rotated rounds."""
        counted = self.budget.rounds if rounds is None else rounds
        self._total += len(contenders) * (counted + warm_up)
        self.progress(self._done, self._total)
        return await interleave(counted, contenders, warm_up=warm_up, step=self._step)

    def _step(self) -> None:
        self._done += 1
        self.progress(self._done, self._total)

    async def race_numbers(
        self,
        unit: str,
        contenders: Mapping[str, Callable[[], Awaitable[float]]],
        *,
        rounds: int | None = None,
        warm_up: bool = True,
    ) -> dict[str, Series]:
        """`race` for contenders that answer with one number each."""
        samples = await self.race(contenders, rounds=rounds, warm_up=warm_up)
        return {name: series_of(name, unit, found, float) for name, found in samples.items()}

    @contextlib.contextmanager
    def opponents(self, job: str, *, kinds: tuple[str, ...] = ()) -> Iterator[list[Opponent]]:
        """The rivals that can do a job, each started in a process of its own; why others cannot is kept."""
        if self.rivals == "none":
            yield []
            return
        from .rivals import Rival, RivalError, Unavailable, available

        usable, missing = available(everything=self.rivals == "all")
        self.missing.update(missing)
        with contextlib.ExitStack() as stack:
            started = []
            for spec in usable:
                if job not in spec.jobs or (kinds and spec.kind not in kinds):
                    continue
                try:
                    rival = stack.enter_context(Rival(spec))
                except (Unavailable, RivalError) as error:
                    self.missing[spec.name] = str(error)
                    continue
                self.about[spec.name] = rival.about
                started.append(Opponent(spec, rival))
            yield started


def series_of(name: str, unit: str, samples: Samples[T], value: Callable[[T], float]) -> Series:
    """One number of each round's sample."""
    return Series(name, unit, tuple(value(sample) for sample in samples.values), samples.wrong)
