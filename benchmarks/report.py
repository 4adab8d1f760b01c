"""The results as a table for people and as JSON for programs."""

import json
import statistics
from pathlib import Path

COLUMNS = ("case", "figure", "target", "measured", "spread", "", "medians")


def _number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(values):
    return f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else ""


def _measured(row):
    return f"{_number(statistics.median(row['values']))} {row['unit']}".rstrip() if row["values"] else "-"


def _sides(row):
    return ", ".join(
        f"{side['name']} {_number(statistics.median(side['values']))} {side['unit']}" for side in row["sides"]
    )


def _cells(case, row):
    target = row["target"] or "-"
    return case, row["figure"], target, _measured(row), _spread(row["values"]), row["verdict"], _sides(row)


def print_table(results):
    """Print one line per row, and one per case whose result was wrong."""
    lines = [COLUMNS]
    for case, result in results.items():
        lines += [_cells(case, row) for row in result["rows"]]
        if result["wrong"]:
            lines.append((case, "WRONG RESULT: " + result["wrong"], "", "", "", "FAIL", ""))
    is_wrong = [line[5] == "FAIL" for line in lines]
    widths = [
        max(len(line[i]) for line, wrong in zip(lines, is_wrong, strict=True) if not wrong) for i in range(len(COLUMNS))
    ]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_header(machine):
    width = max(map(len, machine))
    for name, value in machine.items():
        print(f"{name:{width}}  {value}")
    print()


def write_json(path, machine, results):
    Path(path).write_text(json.dumps({"machine": machine, "cases": results}, indent=1) + "\n")
