"""How everything here is measured: interleaved, rotated rounds; results checked; speed never asserted."""

import asyncio
import dataclasses
import statistics

SETTLE_S = 0.005  # between two measurements: lets spinning workers park before the next side runs


class WrongResultError(AssertionError):
    """A measured run returned wrong data; its time means nothing."""


def check(is_right, what):
    """Raise `WrongResultError(what)` unless `is_right`: the only thing that makes the benchmark fail."""
    if not is_right:
        raise WrongResultError(what)


@dataclasses.dataclass(frozen=True)
class Target:
    """`limit` in `unit` ("x" for a ratio); `at_least` says on which side of it is good."""

    limit: float
    unit: str
    at_least: bool

    def is_met_by(self, value):
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self):
        return f"{'>=' if self.at_least else '<='} {self.limit:,g} {self.unit}".rstrip()


def at_least(limit, unit="x"):
    return Target(limit, unit, True)


def at_most(limit, unit="x"):
    return Target(limit, unit, False)


@dataclasses.dataclass(frozen=True)
class Side:
    """What one contender showed, one value per round."""

    name: str
    unit: str
    values: list[float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table: `values`, one per round, are judged by their median.

    `sides` are the contenders whose ratio `values` is. Without a target a row only informs.
    """

    figure: str
    target: Target | None
    unit: str
    values: list[float]
    sides: list[Side] = dataclasses.field(default_factory=list)

    @property
    def verdict(self):
        if not self.values:
            return "n/a"
        if self.target is None:
            return ""
        return "pass" if self.target.is_met_by(statistics.median(self.values)) else "miss"


def ratio_row(figure, target, over, under):
    """Row of `over / under`, paired round by round. A side that is not installed here is None."""
    sides = [side for side in (over, under) if side is not None]
    values = [a / b for a, b in zip(over.values, under.values, strict=True)] if len(sides) == 2 else []
    return Row(figure, target, "x", values, sides)


def value_row(figure, target, values):
    """Row of one side's own values, in the target's unit."""
    return Row(figure, target, target.unit, values)


async def interleave(rounds, sides):
    """Call every side once per round, the order rotated by one each round.

    `sides` maps names to coroutine functions that return one number. One more round runs first, uncounted:
    it compiles, faults pages in and fills caches. Returns {name: [value per round]}.
    """
    values = {name: [] for name in sides}
    names = list(sides)
    for round_no in range(-1, rounds):
        shift = round_no % len(names)
        for name in names[shift:] + names[:shift]:
            await asyncio.sleep(SETTLE_S)
            value = await sides[name]()
            if round_no >= 0:
                values[name].append(value)
    return values
