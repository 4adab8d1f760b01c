"""The figures of the performance page, made from the JSON of a real run.

    python -m ringkernel.bench.page [RESULTS.json] [PERFORMANCE.md] [PROMISES.md]

replaces what stands between the two comments `<!-- bench:begin -->` and `<!-- bench:end -->`, and the figures that the
page of promises quotes. Tests make sure that both are in step with the results.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .model import Report, Row
from .words import figure_of, ratio, target_of
from .wrong_tool import wrong_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
RESULTS = Path("benchmarks/results/quick.json")
DEFAULTS = (RESULTS, Path("docs/performance.md"), Path("docs/promises.md"))


LINES = {
    ("latency", "p50"): "`await send` + `await receive` through a compiled kernel, one in flight, p50",
    ("latency", "p99"): "the same, p99",
    ("latency", "p99.9"): "the same, p99.9",
    ("latency_open", "p99-10000"): "the same at 10,000 messages a second, timed from when each was due, p99",
    ("latency_open", "cores-10000"): "the cores that this takes",
    ("latency_open", "p99-10000-busy"): "p99 beside a process that takes a core half of the time",
    ("forms", "np.void"): "a structured record instead of a float",
    ("coroutine", "p50-PyDotCompute"): "the same through a coroutine kernel, p50",
    ("coroutine", "flood-PyDotCompute"): "coroutine echo kernel, flooded, one way",
    ("send", "rate"): "single `await send` into a compiled sink",
    ("map", "loop"): "`map` of 3 million 16-byte records; beside it a compiled loop into a fresh array",
    ("map_sizes", "linear-reused-1"): "`map` of one record of `2x + 1`",
    ("map_sizes", "linear-reused-10000000"): "`map` of 10 million records of `2x + 1`",
    ("cores", "prices-map-prange"): "`map` of half a million option prices, on every core",
    ("fused", "map"): "`map` through 8 connected saxpy kernels; beside it one loop that does all eight",
    ("placement", "two"): "a streamed chain of four on two workers",
    ("ewma", "one by one-csp"): "a running average, one number at a time",
    ("ewma", "batches-csp"): "the same in batches of 256",
    ("ewma_stream", "map-csp"): "a running average of a million numbers by `map`",
    ("ewma_stream", "replay-csp"): "the same, of numbers with times, in their order",
    ("merge", "batches"): "two inputs merged in the order of time, batches of 256; beside it one plain input",
    ("merge", "at-once"): "the same, whole arrays",
    ("replay", "pandas.merge_asof"): "an as-of join of millions of quotes and trades, both counted",
    ("replay", "polars.join_asof"): "the same",
    ("keys", "array-1000"): "a running average for each of 1,000 keys; beside it a loop over an array of averages",
    ("keys", "array-1000000"): "the same for a million keys",
    ("shards", "all-one"): "a handler of 100 ns with a state for each key, on every core; beside it on one",
    ("foreign", "push-256"): "`push_batch` of 256 from a thread that is not asyncio's",
    ("batch", "rate"): "`send_batch` and `receive_batch` of 16-byte records at the same time",
    ("chain", "hops-8"): "`map` through 8 connected kernels on one worker, per hop",
    ("saxpy", "stages-1"): "saxpy on float32 blocks, one stage; beside it the bare loop in cache",
    ("saxpy", "stages-8"): "the same, a chain of 8 on one worker, per stage",
    ("ring_round_trip", "floor"): "round trip of a checked record between two compiled threads",
    ("ring_one_way", "batch1-1024"): "records one way between them, one by one, ring of 1,024",
    ("ring_one_way", "batch256-65536"): "in batches of 256, ring of 65,536; C++ one by one",
    ("many", "shared-10000"): "a message there and back, 64 in flight, shared by 10,000 kernels",
    ("many", "busy"): "round trip among 10,000 idle kernels, p50",
    ("idle", "first"): "first message after idleness, both sides asleep, p50",
    ("idle", "first-1ms"): "first message after 1 ms of idleness, p50",
    ("idle", "cpu"): "CPU of eight idle kernels, in percent of a core",
    ("launch", "cached"): "first launch in a fresh process, after `import numba`, compile cache filled",
    ("launch", "whole-cached"): "from the start of a process to its first answer, caches filled",
}
"""Which row of the report, by case and key, and what it times, in words."""


class OutOfPlaceError(ValueError):
    """The page has no place for the figures."""


def section(report: Report, source: str) -> str:
    """The section as Markdown, without the two comments."""
    machine = report.machine
    rounds = report.options["budget"]["rounds"]
    where = (
        f"Measured by `ringkernel bench` on {report.created[:10]}: {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['machine'].split(' ')[0]}, {machine['python']}, {machine['event loop']}. Medians of {rounds} rounds "
        f"in which both columns ran in turn ([all figures]({source})). Absolute times differ from machine to "
        f"machine; the ratio says more."
    )
    lines = [where, "", "| what is timed | ringkernel | beside it | ratio | target |", "|---|---|---|---|---|"]
    lines += [_line(LINES[name], report.row(*name)) for name in quoted(report)]
    explained = (
        "The ratio is ringkernel's figure by the other one, round by round, of which this is the median; for round "
        "trips beside another library it says how many times as fast ringkernel is. PyDotCompute is an actor runtime "
        "whose kernels are coroutines; queues without a lifecycle do less, and asyncio's takes single messages faster."
    )
    lines += ["", explained]
    if wrong := wrong_tool(report):
        lines += ["", "Where ringkernel is the wrong tool, by this run:", "", *(f"- {line}" for line in wrong)]
    lines += ["", *(f"- {warning}" for warning in report.warnings if not warning.startswith("noisy"))]
    return "\n".join(lines).rstrip() + "\n"


def quoted(report: Report) -> list[tuple[str, str]]:
    """The rows that are in the report, and are what the line says: a cached launch had a cache."""
    there = {(case.name, row.key) for case, row in report.rows if case.name != "launch" or not case.notes}
    return [name for name in LINES if name in there]


def _line(what: str, row: Row) -> str:
    beside = f"{row.beside.name}: {figure_of(row.beside)}" if row.beside is not None else ""
    verdict = f"{target_of(row)}: {row.verdict}" if row.target is not None else ""
    return f"| {what} | {figure_of(row.ours)} | {beside} | {ratio(row)} | {verdict} |"


def put(readme: str, text: str) -> str:
    """The page with other figures. Raises `OutOfPlaceError`."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise OutOfPlaceError(f"there is no {BEGIN} ... {END} in it")
    return f"{before}{BEGIN}\n{text}{END}{after}"


def quote(promises: str, report: Report) -> str:
    """The page of promises with this run's figures: "latency/p50: 1.4 µs" at the end of a line of its table."""

    def figure(found: re.Match[str]) -> str:
        return f"{found[1]}/{found[2]}: {figure_of(report.row(found[1], found[2]).ours)} |"

    return re.sub(r"\b(\w+)/([\w.-]+): [^|]+ \|$", figure, promises, flags=re.MULTILINE)


def main(arguments: Sequence[str]) -> int:
    """Write the figures into the performance page, and into the page of promises."""
    results, readme, promises = (*map(Path, arguments), *DEFAULTS[len(arguments) :])
    report = Report.load(results)
    text = put(readme.read_text(encoding="utf-8"), section(report, os.path.relpath(results, readme.parent)))
    quoted_there = quote(promises.read_text(encoding="utf-8"), report)
    readme.write_text(text, encoding="utf-8")
    promises.write_text(quoted_there, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
