"""The first benchmark's figures with their targets, on top of `ringkernel bench`: looser targets, fewer cases.

    python benchmarks/quick.py [--case NAME] [--rounds N] [--loop uvloop|asyncio] [--json FILE] [--list]

A missed target is only reported; the exit status is 1 when a result was wrong or a case did not end.
"""

import argparse
import dataclasses
import sys

from rich.console import Console

from ringkernel.bench.context import Budget
from ringkernel.bench.model import at_least, at_most
from ringkernel.bench.runner import Options, run
from ringkernel.bench.table import print_report

# case -> {row: target, or None for a row that only informs}
FIGURES = {
    "ring_round_trip": {"floor": at_most(1.2)},
    "latency": {"p50-PyDotCompute": at_least(6)},
    "map": {"loop": at_least(0.7)},
    "batch": {"rate": at_least(30, "M/s")},
    "chain": {"hops-4": at_least(0.4)},
    "coroutine": {"p50-PyDotCompute": at_least(2), "flood-PyDotCompute": at_least(4)},
    "send": {"rate": at_least(0.7, "M/s")},
    "idle": {"cpu": at_most(1, "%"), "first": at_most(3)},
    "many": {
        "busy": at_most(3),
        "launch-10000": at_most(5, "ms"),
        "compilations": at_most(0, "functions"),
        "memory-10000": at_most(2 * 64 * 16 + 8192, "B"),
    },
}


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=FIGURES, metavar="NAME", help="only this one")
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds of each case (default 9)")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="", help="default: uvloop where installed")
    parser.add_argument("--json", metavar="FILE", help="write every round's values there, too")
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def of_interest(case):
    """The case with only the rows in `FIGURES`, and their targets."""
    wanted = FIGURES[case.name]
    rows = [dataclasses.replace(row, target=wanted[row.key]) for row in case.rows if row.key in wanted]
    return dataclasses.replace(case, rows=tuple(rows))


def main(arguments=None):
    options = parse(arguments)
    if options.list:
        print("\n".join(FIGURES))
        return 0
    names = tuple(options.case or FIGURES)
    report = run(Options(cases=names, budget=Budget(rounds=options.rounds), loop=options.loop))
    if options.json:
        report.save(options.json)
    cases = tuple(map(of_interest, report.cases))
    console = Console()
    shown_on = console if console.is_terminal else Console(width=160)
    print_report(dataclasses.replace(report, cases=cases), shown_on)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
