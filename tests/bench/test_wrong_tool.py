"""Where ringkernel is the wrong tool: what is said of a report's rows, and what is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from reports import case, report, row

from ringkernel.bench.model import Series
from ringkernel.bench.wrong_tool import INSTEAD, LINES, factor, wrong_tool

SLOWER: dict[str, Any] = {"ours": [50.0] * 3, "beside": [10.0] * 3, "higher_is_better": False}


@pytest.mark.parametrize(
    ("ours", "beside", "fields", "expected"),
    [
        (50.0, 10.0, {"higher_is_better": False}, 5.0),  # takes 5 times as long
        (50.0, 10.0, {"higher_is_better": False, "inverted": True}, 5.0),
        (10.0, 50.0, {}, 5.0),  # a fifth of the rate
        (50.0, 10.0, {}, 0.2),
        (50.0, None, {}, 0.0),
    ],
)
def test_how_many_times_better_the_other_side_is(
    ours: float, beside: float | None, fields: dict[str, Any], expected: float
) -> None:
    found = factor(row(ours=[ours], beside=None if beside is None else [beside], **fields))
    assert found == pytest.approx(expected)


def test_the_worst_comes_first_with_its_figures() -> None:
    shown = report(
        case(row("map", ours=[1.0] * 3, beside=[2.0] * 3), name="fused"),
        case(row("linear-reused-1", **SLOWER), name="map_sizes", notes=("2x + 1: an njit call is faster below 10",)),
        case(row("p50", **SLOWER), name="latency"),  # of which nothing is to be said
    )
    first, second = wrong_tool(shown)
    assert first.startswith(INSTEAD["map_sizes", "linear-reused-1"])
    assert "plain loop: 10 M/s, ringkernel: 50 M/s (5x). 2x + 1: an njit call is faster below 10." in first
    assert second == f"{INSTEAD['fused', 'map']} plain loop: 2 M/s, ringkernel: 1 M/s (2x)."


def test_what_was_better_level_or_wrong_is_not_said() -> None:
    better = row("map", ours=[9.0] * 3, beside=[2.0] * 3)
    level = row("map", ours=[1.95] * 3, beside=[2.0] * 3)
    wrong = dataclasses.replace(row("map"), ours=Series("ringkernel", "M/s", (), "the sum is 3"))
    for one in (better, level, wrong):
        assert wrong_tool(report(case(one, name="fused"))) == []


def test_no_more_than_five_lines() -> None:
    everything = [case(row(key, ours=[1.0], beside=[2.0]), name=name) for name, key in INSTEAD]
    assert len(wrong_tool(report(*everything))) == LINES
