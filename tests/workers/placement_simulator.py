"""A machine in simulated time: stages in worker threads and an event loop that feeds them, on a few cores.

Messages are a fluid. Threads that can run share the cores in slices of `SLICE_S`, as a scheduler does it that prefers
who has had the least, so a thread too many is descheduled for whole slices, and the stages beside it fill and starve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ringkernel.devices.cpu.balancer import Balancer, Period
from ringkernel.devices.cpu.placement import Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEP_S, SLICE_S, PERIOD_S = 0.001, 0.004, 0.1
PATIENCE_STEPS = 1
TINY = 1e-6


@dataclass(eq=False)
class Stage:
    """A kernel: what a message costs it, in seconds, whom it feeds, and how many of them pass on. From a source on
    another core a message costs `hop` more."""

    cost: float
    feeds: tuple[int, ...] = ()
    hop: float = 0.0
    here: float = 0.0
    passes: float = 1.0
    place: int = 0
    waiting: float = 0.0
    done: float = 0.0
    busy: float = 0.0
    out: float = 0.0
    seen: tuple[float, float] = (0.0, 0.0)


@dataclass(eq=False)
class Thread:
    """What wants a core: `used` seconds of it so far, `had` in this slice; `fair` is what a scheduler goes by."""

    used: float = 0.0
    fair: float = 0.0
    had: float = 0.0
    is_on: bool = False
    idle_steps: int = 9
    is_other: bool = False
    stages: list[Stage] = field(default_factory=list)


@dataclass
class Machine:
    """`stages` of which the first ones (`sources`) are fed by the loop, as fast as it can; who feeds nobody is emptied
    by it. A message costs the loop `loop_cost` seconds each way. `neighbours` are other processes that never rest."""

    stages: list[Stage]
    cores: int = 2
    workers: int = 2
    loop_cost: float = 1e-7
    neighbours: int = 0
    queue: float = 4096
    sources: Sequence[int] = (0,)
    balanced: bool = True
    now: float = 0.0
    trials: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        feeds: dict[Any, Any] = {i: stage.feeds for i, stage in enumerate(self.stages)}
        self.balancer = Balancer(lambda _: feeds)
        self.loop = Thread()
        self.threads = [Thread() for _ in range(self.workers)]
        self.others = [Thread(is_other=True) for _ in range(self.neighbours)]
        self.everybody = [self.loop, *self.threads, *self.others]
        self.ends = [stage for stage in self.stages if not stage.feeds]
        self.first = [self.stages[source] for source in self.sources]
        self._place()
        self.received = 0.0
        self._began = self._loop_used = 0.0
        self._awake = [0] * self.workers

    @property
    def layout(self) -> list[int]:
        return [stage.place for stage in self.stages]

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time pass. Messages received a second."""
        before, start = self.received, self.now
        while self.now < start + seconds - TINY and not until():
            self._step()
        return (self.received - before) / (self.now - start)

    # --- one step: whoever has a core does what it can -----------------------------------------------------------

    def _step(self) -> None:
        self.now += STEP_S
        wanting = [thread for thread in self.everybody if self._wants(thread)]
        wanting.sort(key=lambda thread: (not (thread.is_on and thread.had < SLICE_S), thread.fair))
        least = min((thread.fair for thread in wanting), default=0.0)
        cores, running = [STEP_S] * self.cores, set()
        for thread in wanting:
            core = cores.index(max(cores))
            if cores[core] > TINY * STEP_S:
                running.add(thread)
                cores[core] -= self._run(thread, cores[core])
        for thread in self.everybody:
            if thread not in running:
                thread.is_on, thread.had = False, 0.0
            if thread not in wanting:
                thread.fair = max(thread.fair, least)
        self._look()

    def _wants(self, thread: Thread) -> bool:
        if thread.is_other:
            return True
        can = self._loop_can() if thread is self.loop else any(self._can(stage) > TINY for stage in thread.stages)
        thread.idle_steps = 0 if can else thread.idle_steps + 1
        return thread.idle_steps <= PATIENCE_STEPS

    def _run(self, thread: Thread, left: float) -> float:
        """Seconds that it has used."""
        if not thread.is_on or thread.had >= SLICE_S:
            thread.is_on, thread.had = True, 0.0
        if thread is self.loop:
            used = left - self._run_loop(left)
        else:
            used = left if thread.is_other else left - self._run_worker(thread.stages, left)
        thread.used += used
        thread.fair += used
        thread.had += used
        return used

    def _place(self) -> None:
        for i, thread in enumerate(self.threads):
            thread.stages = [stage for stage in self.stages if stage.place == i]
        for stage in self.stages:
            stage.here = 0.0 if stage in self.first else stage.hop
        for source in self.stages:
            for target in source.feeds:
                if self.stages[target].place == source.place:
                    self.stages[target].here = 0.0

    def _can(self, stage: Stage) -> float:
        """Messages that it could process now."""
        if stage.feeds:
            room = self.queue - max(self.stages[target].waiting for target in stage.feeds)
        else:
            room = self.queue - stage.out
        return min(stage.waiting, room / stage.passes)

    def _run_worker(self, stages: list[Stage], left: float) -> float:
        """What is left of the time."""
        is_working = True
        while left > TINY * STEP_S and is_working:
            is_working = False
            for stage in stages:
                count = min(self._can(stage), min(left, 50e-6) / (stage.cost + stage.here))
                if count > TINY and left > 0:
                    is_working = True
                    left -= count * (stage.cost + stage.here)
                    self._process(stage, count)
        return max(0.0, left)

    def _process(self, stage: Stage, count: float) -> None:
        stage.waiting -= count
        stage.done += count
        stage.busy += count * (stage.cost + stage.here)
        for target in stage.feeds:
            self.stages[target].waiting += count * stage.passes
        if not stage.feeds:
            stage.out += count * stage.passes

    def _loop_can(self) -> bool:
        return any(end.out > TINY for end in self.ends) or any(self.queue - s.waiting > TINY for s in self.first)

    def _run_loop(self, left: float) -> float:
        """What is left of the time."""
        for end in self.ends:
            count = min(end.out, left / self.loop_cost)
            end.out -= count
            self.received += count
            left -= count * self.loop_cost
        for first in self.first:
            count = min(self.queue - first.waiting, left / self.loop_cost)
            first.waiting += count
            left -= count * self.loop_cost
        return max(0.0, left)

    # --- once a period -------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._awake = [n + (t.idle_steps <= PATIENCE_STEPS) for n, t in zip(self._awake, self.threads, strict=True)]
        if self.now - self._began < PERIOD_S - TINY:
            return
        elapsed = self.now - self._began
        period = Period(
            self.now,
            [self._busy(i, stage, elapsed) for i, stage in enumerate(self.stages) if stage.done > stage.seen[0] + TINY],
            list(range(self.workers)),
            frozenset(i for i, n in enumerate(self._awake) if n > elapsed / STEP_S / 2),
            self.cores,
            (self.loop.used - self._loop_used) / elapsed,
        )
        for stage in self.stages:
            stage.seen = stage.done, stage.busy
        self._began, self._loop_used, self._awake = self.now, self.loop.used, [0] * self.workers
        if self.balanced:
            self._move(self.balancer.step(period))

    def _busy(self, index: int, stage: Stage, elapsed: float) -> Busy:
        done, busy = stage.done - stage.seen[0], stage.busy - stage.seen[1]
        return Busy(index, stage.place, busy / elapsed, done / elapsed, int(stage.waiting))

    def _move(self, moves: dict[object, object]) -> None:
        if moves:
            self.trials.append(self.now)
        for key, place in moves.items():
            assert isinstance(key, int)
            assert isinstance(place, int)
            self.stages[key].place = place
        self._place()


def chain(*costs: float) -> list[Stage]:
    """Stages in a row."""
    return [Stage(cost, (i + 1,) if i + 1 < len(costs) else ()) for i, cost in enumerate(costs)]
