"""`ringkernel bench`: what this machine can do, how close ringkernel comes, and how far behind the alternatives are.

    machine, model, method     where, what and how is measured: plain data and statistics, nothing is run here
    floors, loops, native      what ringkernel is compared with, in the same interleaved rounds: the least that the
                               machine takes, and what a user would compile instead
    rivals, neighbour          other systems, and a process that is in the way
    kernels, forms             what the cases have in common: kernels and messages
    traffic, pair              loops that send and receive; rings without Python
    cases                      a table of small functions
    process, child, runner     each case runs in a process of its own
    words, wrong_tool, table, plots, compare, readme    what is made of a report

The schema of the JSON is described in `benchmarks/README.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runner import bench
    from .table import NotebookReport as Report

__all__ = ["Report", "bench"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .extra import check_extra

    check_extra("rich", "pydantic")
    from . import runner, table

    return runner.bench if name == "bench" else table.NotebookReport
