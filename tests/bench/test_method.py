"""Rounds and statistics, on known data."""

from __future__ import annotations

from typing import Any

import pytest
from reports import row

from ringkernel.bench.method import Measure, WrongResultError, interleave, moved, order, sized, spread_of
from ringkernel.bench.model import at_least, at_most


def test_every_contender_runs_once_per_round_and_never_always_after_the_same_one() -> None:
    rounds = list(order(["a", "b", "c"], 3))
    assert [number for number, _ in rounds] == [-1, 0, 1, 2]
    assert all(sorted(names) == ["a", "b", "c"] for _, names in rounds)
    assert [names[0] for _, names in rounds[1:]] == ["a", "b", "c"]


async def test_the_first_round_warms_up_and_is_not_counted() -> None:
    calls: list[str] = []

    def contender(name: str) -> Measure[int]:
        async def measure() -> int:
            calls.append(name)
            return len(calls)

        return measure

    samples = await interleave(2, {"a": contender("a"), "b": contender("b")})
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert samples["a"].values == [3, 6]
    assert samples["b"].values == [4, 5]


async def test_without_a_warm_up_every_round_counts() -> None:
    async def one() -> int:
        return 1

    samples = await interleave(2, {"a": one}, warm_up=False)
    assert samples["a"].values == [1, 1]


async def test_a_contender_that_is_wrong_drops_out_and_the_others_go_on() -> None:
    steps = []

    async def wrong() -> float:
        raise WrongResultError("the sum is 3")

    async def right() -> float:
        return 1.0

    samples = await interleave(2, {"wrong": wrong, "right": right}, step=lambda: steps.append(1))
    assert (samples["wrong"].wrong, samples["wrong"].values) == ("the sum is 3", [])
    assert (samples["right"].wrong, samples["right"].values) == ("", [1.0, 1.0])
    assert len(steps) == 4  # three by the one, one by the other


async def test_other_exceptions_are_not_a_result() -> None:
    async def broken() -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await interleave(1, {"broken": broken})


@pytest.mark.parametrize(
    ("costs_ns", "counts"),
    [
        ([1.0, 1.0], [10, 1000]),  # cheap: all of them
        ([50.0, 50.0], [10, 30]),  # as many as fit into the rest of 2,000 ns
        ([150.0, 2.0, 2.0], [10, 20, 230]),  # a hiccup in the short try
        ([500.0], [10]),  # a short try that has taken it all
    ],
)
def test_a_sample_is_as_long_as_the_budget_lets_it(costs_ns: list[float], counts: list[int]) -> None:
    asked: list[int] = []

    def cost_ns(count: int) -> float:
        asked.append(count)
        return costs_ns[len(asked) - 1]

    assert sized(cost_ns, 1000, 10, budget_ns=2000.0) == costs_ns[-1]
    assert asked == counts


def test_spread() -> None:
    spread = spread_of([1.0, 2.0, 3.0, 4.0, 9.0])
    assert (spread.low, spread.median, spread.high) == (2.0, 3.0, 4.0)
    assert spread.relative == pytest.approx(1 / 3)
    assert spread_of([5.0]).relative == 0.0


def test_moved() -> None:
    assert moved([2.0, 5.0]) == 2.5
    assert moved([0.0, 0.0]) == 1.0
    assert moved([0.0, 1.0]) == float("inf")


def test_ratios_are_paired_by_round() -> None:
    drifting = row(ours=(10.0, 20.0, 40.0), beside=(5.0, 10.0, 20.0))
    assert drifting.ratios == (2.0, 2.0, 2.0)
    assert row(ours=(2.0, 4.0), beside=(16.0, 36.0), inverted=True).ratios == (8.0, 9.0)


def test_a_floor_that_moved_by_more_than_two_makes_a_row_noisy() -> None:
    assert not row(beside=(10.0, 20.0, 15.0)).is_noisy
    assert row(beside=(10.0, 20.1, 15.0)).is_noisy
    assert not row(beside=None).is_noisy


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"target": at_least(1.0)}, "met"),  # the median of 0.9, 1.0, 1.1
        ({"target": at_least(1.01)}, "missed"),
        ({"target": at_most(1.0)}, "met"),
        ({"target": at_least(10, "M/s")}, "met"),
        ({"target": at_least(10.5, "M/s")}, "missed"),
        ({"target": at_least(1.0), "beside": None}, "unknown"),
        ({"target": None}, ""),
    ],
)
def test_verdicts(fields: dict[str, Any], verdict: str) -> None:
    assert row(**fields).verdict == verdict
