"""The demos agree with pandas, say what differs if something does, and the one that draws writes its picture."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ringkernel import cli
from ringkernel.demos import DEMOS, flights, market
from ringkernel.demos.flow import reference, streaming

PNG = b"\x89PNG"


def test_they_are_listed_and_a_picture_is_only_drawn_by_flow(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(DEMOS)
    assert cli.main(["demo", "--picture", "flights.png"]) == 2
    assert "flights draws no picture" in capsys.readouterr().err


def test_flow_agrees_with_pandas_in_sixty_columns_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    picture = tmp_path / "day.png"
    assert cli.main(["demo", "flow", "--limit", "2000", "--picture", str(picture)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert last == f"Picture: {picture}"
    assert picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize("limit", [1, 9])
def test_a_day_without_a_bar_has_no_picture(limit: int, tmp_path: Path) -> None:
    picture = tmp_path / "day.png"
    assert cli.main(["demo", "flow", "--limit", str(limit), "--picture", str(picture)]) == 0
    assert picture.exists() == (limit > 8)


def test_flow_says_what_differs() -> None:
    quotes, trades = market.make(2_000)
    outcome = asyncio.run(streaming.stream(quotes, trades, 64, lambda seconds: None))
    joined, found = reference.compute(quotes, trades)
    assert reference.differences(outcome, joined, found) == []
    costs, signals = outcome.costs.copy(), outcome.signals.copy()
    costs["bid"][7] = np.nextafter(costs["bid"][7], 0)
    signals["pressure"][3] += 1e-9
    wrong = dataclasses.replace(outcome, costs=costs, signals=signals)
    assert reference.differences(wrong, joined, found) == ["bid", "pressure"]
    short = dataclasses.replace(outcome, costs=costs[:-1])
    assert reference.differences(short, joined, found) == [f"{len(costs) - 1:,} rows, not {len(costs):,}"]


def test_flights_agree_with_pandas() -> None:
    assert flights.run(limit=3_000) == 0
