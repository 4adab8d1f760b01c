"""The options of `ringkernel bench`, and what the command does with them. Light until it runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from .model import Report

DESCRIPTION = """Measure what this machine can do (floors), how close ringkernel comes, and how far behind the
alternatives are. Every figure is taken in the same interleaved rounds as what stands beside it, and every result is
checked; the exit code is 0 when all were right, whatever the speed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options."""
    parser.description = DESCRIPTION
    parser.add_argument("--case", action="append", metavar="NAME", default=[], help="only this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="show the cases and stop")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under three minutes (the default)")
    size.add_argument("--full", action="store_true", help="more rounds and longer ones")
    parser.add_argument(
        "--rivals",
        choices=("none", "default", "all"),
        default="default",
        help="what else runs in the same rounds, where it is installed (default: %(default)s; all: Ray, too)",
    )
    parser.add_argument("--device", default="cpu", metavar="DEVICE", help="where kernels run (default: %(default)s)")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="", help="default: uvloop where installed")
    parser.add_argument("--neighbour", action="store_true", help="measure beside another process that takes a core")
    parser.add_argument("--json", metavar="FILE", help="write the report there, too")
    parser.add_argument("--compare", metavar="OLD.json", help="say what got better or worse since that report")
    parser.add_argument("--plot", metavar="FILE.png", help="draw the report")
    parser.add_argument("--from", dest="saved", metavar="FILE.json", help="show a saved report instead of measuring")
    parser.add_argument("--rounds", type=int, metavar="N", help="counted rounds of each case")
    parser.add_argument("--scale", type=float, metavar="X", help="multiply how much each measurement sends")


def run(arguments: argparse.Namespace) -> int:
    """Measure and show; 0 if every result held, 1 if not. Raises for a wrong call or something that is missing."""
    from .extra import check_extra

    check_extra("rich", "pydantic")
    from rich.console import Console

    from .cases import CASES
    from .compare import print_comparison
    from .model import Report
    from .table import print_report, print_titles

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has no width, and the table is meant to be read
    if arguments.list:
        print_titles({name: case.title for name, case in CASES.items()}, console)
        return 0
    old = None if arguments.compare is None else Report.load(arguments.compare)
    _check_outputs(arguments)
    if arguments.saved is None:
        from .runner import bench

        names = ("full", "rivals", "device", "rounds", "scale", "loop", "neighbour")
        report: Report = bench(*arguments.case, **{name: getattr(arguments, name) for name in names})
    else:
        report = Report.load(arguments.saved)
    if arguments.json is not None:
        report.save(arguments.json)  # first: nobody may be left to read the table
    print_report(report, console)
    if old is not None:
        print_comparison(old, report, console)
    if arguments.plot is not None:
        _plot(report, arguments.plot)
    return 0 if report.holds else 1


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raise now what would be raised after an hour of measuring."""
    from .cases import CASES
    from .extra import check_extra
    from .plots import check_picture

    if arguments.json is not None:
        _check_writable(arguments.json)
    if arguments.plot is not None:
        check_extra("matplotlib")
        check_picture(arguments.plot, CASES if arguments.saved is not None else arguments.case or CASES)
        _check_writable(arguments.plot)


def _check_writable(path: str) -> None:
    """Raises `OSError`, which names the file, unless it can be written. Leaves what is there, and nothing else."""
    was_there = os.path.lexists(path)
    with open(path, "ab"):  # noqa: PTH123 (a path may be the empty text, which `Path` takes for this directory)
        pass
    if not was_there:
        os.unlink(path)  # noqa: PTH108 (likewise)


def _plot(report: Report, path: str) -> None:
    from .model import ReportError
    from .plots import NothingToPlotError, save

    try:
        save(report, path)
    except NothingToPlotError as error:
        raise ReportError(f"--plot: {error}") from error
    except (LookupError, TypeError, ValueError) as error:  # `params` may hold anything
        raise ReportError(f"--plot: this report cannot be drawn: {error!r}") from error
