"""The quick benchmark: every figure as a ratio to a floor or a rival that ran in the same rounds.

    python benchmarks/quick.py [--case NAME] [--rounds N] [--loop uvloop|asyncio] [--json FILE] [--list]

Each case interleaves its contenders in rotated rounds and checks every result. The table shows the median of
the ratios within each round, and the least and greatest of them. A missed target is only reported; the exit
status is 1 when a result was wrong or a case did not end.
"""

import argparse
import importlib.util
import inspect
import json
import subprocess
import sys
import time
from pathlib import Path

import machine
import report
from cases import CASES

CASE_DEADLINE_S = 120


def parse(arguments):
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules[__name__]).splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, metavar="NAME", help="only this one")
    parser.add_argument("--rounds", type=int, default=9, help="counted rounds of each case (default 9)")
    best_loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    parser.add_argument(
        "--loop",
        choices=("uvloop", "asyncio"),
        default=best_loop,
        help="our event loop (default uvloop where installed: the rival installs it for itself)",
    )
    parser.add_argument("--json", metavar="FILE", help="write every round's values there too")
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def run_case(name, options):
    """Run one case in a process of its own: {"rows": [...], "wrong": "" or what was wrong}."""
    script = Path(__file__).with_name("one_case.py")
    command = [sys.executable, str(script), name, str(options.rounds), options.loop]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=CASE_DEADLINE_S, check=False)
    except subprocess.TimeoutExpired:
        return {"rows": [], "wrong": f"did not end within {CASE_DEADLINE_S} s"}
    if done.returncode != 0 or not done.stdout:
        return {"rows": [], "wrong": f"ended with status {done.returncode}; see its traceback"}
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments=None):
    options = parse(arguments)
    if options.list:
        for name, case in CASES.items():
            print(f"{name:10} {inspect.getdoc(case).splitlines()[0]}")
        return 0
    header = machine.describe(options.loop)
    report.print_header(header)
    results = {}
    for name in options.case or CASES:
        start = time.perf_counter()
        results[name] = run_case(name, options)
        print(f"{name} took {time.perf_counter() - start:.1f} s", file=sys.stderr)
    report.print_table(results)
    if options.json:
        report.write_json(options.json, header, results)
    return 1 if any(result["wrong"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
