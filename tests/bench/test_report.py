"""A report as JSON, and what is made of two."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from reports import case, full_report, report, row

from ringkernel.bench.compare import compare, different_machines
from ringkernel.bench.model import SCHEMA, Report, ReportError, Series


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    full_report().save(path)
    again = Report.load(path)
    assert again == full_report()
    assert again.row("latency", "p50").ratios == (8.0, 9.0)
    assert json.loads(path.read_text(encoding="utf-8"))["schema"] == SCHEMA


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot be read"),
        ("[]", "no report of `ringkernel bench`"),
        ('{"kind": "something"}', "no report of `ringkernel bench`"),
        ('{"kind": "ringkernel-bench", "schema": 99}', "schema 99.*reads schema 1"),
        ('{"kind": "ringkernel-bench", "schema": 1, "cases": 3}', "damaged"),
        ('{"kind": "ringkernel-bench", "schema": 1, "cases": [{"name": 1}]}', "damaged"),
    ],
)
def test_what_is_no_report_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=rf"foreign\.json: .*{reason}"):
        Report.load(path)


VALUES = ("cases", 0, "rows", 0, "ours", "values")
DAMAGES: list[tuple[tuple[Any, ...], Any, str]] = [
    (VALUES, "fast", "report.cases[0].rows[0].ours.values is 'fast': Input should be a valid array"),
    ((*VALUES, 1), None, "report.cases[0].rows[0].ours.values[1] is None: Input should be a valid number"),
    ((*VALUES, 1), math.inf, "report.cases[0].rows[0].ours.values[1] is inf: Input should be a finite number"),
    ((*VALUES, 1), 1e301, "report.cases[0].rows[0].ours.values[1] is 1e+301: Input should be less than"),
    ((*VALUES, 1), "1.5", "report.cases[0].rows[0].ours.values[1] is '1.5': Input should be a valid number"),
    (VALUES, [1.0], "row 'batch1-1024' of 'ring_one_way' has sides of two lengths"),
    (("cases", 0, "rows", 0, "inverted"), 1, "report.cases[0].rows[0].inverted is 1: Input should be a valid boolean"),
    (("cases", 1, "distributions", 0, "points", 0), [1], "report.cases[1].distributions[0].points[0][1] is missing"),
    (("machine",), [], "report.machine is []: Input should be an object"),
    (("machine", "cpu"), 7, "report.machine.cpu is 7: Input should be a valid string"),
    (("cases", 1), "latency", "report.cases[1] is 'latency': Input should be an object"),
    (("created",), ..., "report.created is missing"),
]


@pytest.mark.parametrize(("place", "value", "reason"), DAMAGES)
def test_a_damaged_report_says_where(place: tuple[Any, ...], value: Any, reason: str) -> None:
    data = json.loads(full_report().to_json())
    inner = data
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    with pytest.raises(ReportError, match=re.escape(reason)):
        Report.from_json(json.dumps(data))


def test_deep_nesting_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ReportError, match=r"deep\.json: cannot be read"):
        Report.load(tmp_path / "deep.json")


def test_fields_may_be_added_within_a_schema() -> None:
    data = json.loads(full_report().to_json())
    for inner in (data, data["cases"][0], data["cases"][0]["rows"][0], data["cases"][0]["rows"][0]["ours"]):
        inner["later"] = {"anything": [1]}
    del data["cases"][0]["compile_s"]  # an older one lacks some
    again = Report.from_json(json.dumps(data))
    assert again.cases[1:] == full_report().cases[1:]
    assert again.cases[0].compile_s == 0.0


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"nowhere\.json: cannot be read"):
        Report.load(tmp_path / "nowhere.json")


def test_a_wrong_result_shows_in_row_case_and_report() -> None:
    bad = dataclasses.replace(row(), ours=Series("ringkernel", "M/s", (), "the sum is 3"))
    assert bad.wrong == "ringkernel: the sum is 3"
    assert bad.ratios == ()
    assert not case(bad).holds
    assert not report(case(bad)).holds
    assert not report(case(error="did not end")).holds
    assert report().holds


def test_an_unknown_row_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="no row 'x' of case 'map'"):
        report().row("map", "x")


def _change(old_values: list[float], new_values: list[float], **fields: Any) -> str:
    old, new = (report(case(row(ours=values, beside=[1.0] * 3, **fields))) for values in (old_values, new_values))
    (difference,) = compare(old, new)
    return difference.change


@pytest.mark.parametrize(
    ("old", "new", "higher", "change"),
    [
        ([10.0, 10.0, 10.0], [10.4, 10.4, 10.4], True, "within noise"),  # less than 5 %
        ([10.0, 10.0, 10.0], [9.6, 9.6, 9.6], True, "within noise"),
        ([10.0, 10.0, 10.0], [11.0, 11.0, 11.0], True, "better"),
        ([10.0, 10.0, 10.0], [9.0, 9.0, 9.0], True, "worse"),
        ([10.0, 10.0, 10.0], [9.0, 9.0, 9.0], False, "better"),
        ([6.0, 10.0, 14.0], [12.0, 12.0, 12.0], True, "within noise"),  # quartiles 8 and 12: 20 %
        ([6.0, 10.0, 14.0], [12.1, 12.1, 12.1], True, "better"),
    ],
)
def test_what_is_better_worse_or_noise(old: list[float], new: list[float], higher: bool, change: str) -> None:
    assert _change(old, new, higher_is_better=higher) == change


def test_rows_are_compared_by_their_ratio_if_they_have_one() -> None:
    old = report(case(row(ours=[10.0] * 3, beside=[10.0] * 3)))
    new = report(case(row(ours=[30.0] * 3, beside=[30.0] * 3)))  # the machine was three times as fast
    (difference,) = compare(old, new)
    assert (difference.change, difference.what, difference.factor) == ("within noise", "ratio", 1.0)


def test_an_inverted_ratio_is_better_when_it_grows() -> None:
    fields: dict[str, Any] = {"inverted": True, "higher_is_better": False}
    old = report(case(row(ours=[2.0] * 3, beside=[10.0] * 3, **fields)))
    new = report(case(row(ours=[1.0] * 3, beside=[10.0] * 3, **fields)))
    assert [difference.change for difference in compare(old, new)] == ["better"]


def test_rows_of_one_report_only() -> None:
    old = report(case(row("both"), row("gone")), case(row("not run"), name="other"))
    new = report(case(row("both"), row("new")))
    assert [(d.figure, d.change) for d in compare(old, new)] == [
        ("figure both", "within noise"),
        ("figure new", "new"),
        ("figure gone", "gone"),
    ]
    assert all(math.isnan(d.factor) for d in compare(old, new)[1:])


def test_another_machine_is_named() -> None:
    other = report(machine={**report().machine, "cpu": "Another"})
    assert different_machines(report(), other) == ["cpu: A processor then, Another now"]
    assert different_machines(report(), report()) == []
