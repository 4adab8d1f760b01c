"""What a case is given: how often and how much to measure, a race to run its contenders in, and the rivals."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .method import Samples, interleave
from .model import Distribution, Series

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping

    from .method import K, Measure, T
    from .rivals import Rival

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
class Bench:
    """One case's run. Cases add to `notes` and `distributions`; `progress` hears (steps done, steps in all)."""

    budget: Budget
    rivals: str = "default"
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

    def rounds(self, at_most: int) -> int:
        """How many counted rounds of what takes long."""
        return min(at_most, self.budget.rounds)

    async def race(
        self, contenders: Mapping[K, Measure[T]], *, rounds: int | None = None, warm_up: bool = True
    ) -> dict[K, Samples[T]]:
        """Measure all contenders in interleaved, rotated rounds."""
        counted = self.budget.rounds if rounds is None else rounds
        self._total += len(contenders) * (counted + warm_up)
        self.progress(self._done, self._total)
        return await interleave(counted, contenders, warm_up=warm_up, step=self._step)

    def _step(self) -> None:
        self._done += 1
        self.progress(self._done, self._total)

    async def race_numbers(self, unit: str, contenders: Mapping[K, Measure[float]]) -> dict[K, Series]:
        """`race` for contenders that answer with one number each. A key is a contender's name, or (name, what it is
        measured for)."""
        found = await self.race(contenders)
        names = {key: str(key[0] if isinstance(key, tuple) else key) for key in found}
        return {key: series_of(names[key], unit, samples, float) for key, samples in found.items()}

    @contextlib.contextmanager
    def opponents(self, job: str, only: Container[str] | None = None) -> Iterator[list[Rival]]:
        """The rivals that can do a job, or those of them, each started in a process of its own; why others cannot is
        kept."""
        if self.rivals == "none":
            yield []
            return
        from .rivals import Rival, Unavailable, available

        usable, missing = available(everything=self.rivals == "all")
        self.missing.update(missing)
        with contextlib.ExitStack() as stack:
            started = []
            for spec in usable:
                if job not in spec.jobs or (only is not None and spec.name not in only):
                    continue
                try:
                    rival = stack.enter_context(Rival(spec))
                except Unavailable as error:
                    self.missing[spec.name] = str(error)
                    continue
                self.about[spec.name] = rival.about
                started.append(rival)
            yield started


def series_of(name: str, unit: str, samples: Samples[T], value: Callable[[T], float]) -> Series:
    """One number of each round's sample."""
    return Series(name, unit, tuple(value(sample) for sample in samples.values), samples.wrong)
