"""`docs/promises.md` names tests that exist and figures that were measured."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ringkernel.bench.model import Report
from ringkernel.bench.words import figure_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith(("| promise", "|---"))
]
NAMED = sorted({name for _, tests, _ in ROWS for name in re.findall(r"`([^`]+::[^`]+)`", tests)})

LISTING = """
import sys, pytest
class Listed:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("short" if item.get_closest_marker("long") is None else "long", item.nodeid)
sys.exit(pytest.main(sys.argv[1:], plugins=[Listed()]))
"""


def test_each_promise_has_a_test() -> None:
    assert len(ROWS) > 30
    for promise, tests, _ in ROWS:
        assert re.findall(r"`[^`]+\.py::test_\w+`", tests), promise


def test_no_promise_is_made_twice() -> None:
    assert len({promise for promise, *_ in ROWS}) == len(ROWS)


@pytest.fixture(scope="module")
def in_make_test() -> dict[str, bool]:
    """Each test of the named files, and whether `make test` runs it, if only for some of its parameters."""
    files = sorted({name.partition("::")[0] for name in NAMED})
    listing = subprocess.run(
        [sys.executable, "-c", LISTING, "--collect-only", "-qq", *(f"tests/{file}" for file in files)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert listing.returncode == 0, listing.stderr
    found: dict[str, bool] = {}
    for line in listing.stdout.splitlines():
        word, _, name = line.partition(" tests/")
        if word in ("long", "short"):
            name = name.partition("[")[0]
            found[name] = found.get(name, False) or word == "short"
    return found


def test_every_named_test_is_collected(in_make_test: dict[str, bool]) -> None:
    assert not [name for name in NAMED if name not in in_make_test]


@pytest.mark.parametrize("row", ROWS, ids=[promise[:40] for promise, *_ in ROWS])
def test_make_test_covers_each_promise(row: list[str], in_make_test: dict[str, bool]) -> None:
    names = re.findall(r"`([^`]+::[^`]+)`", row[1])
    assert any(in_make_test[name] for name in names), f"all of them are long: {names}"


def test_each_figure_is_the_committed_runs() -> None:
    report = Report.load(ROOT / "benchmarks" / "results" / "quick.json")
    figures = [figure for *_, figure in ROWS if figure]
    assert len(figures) >= 8
    for figure in figures:
        where, _, quoted = figure.partition(": ")
        case, _, key = where.partition("/")
        assert figure_of(report.row(case, key).ours) == quoted, figure


def test_functions_named_in_tests_are_not_hidden_by_another_of_the_same_name() -> None:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        names = [node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if hasattr(node, "name")]
        twice = {name for name in names if name.startswith("test_") and names.count(name) > 1}
        assert not twice, f"{path.name}: {twice}"
