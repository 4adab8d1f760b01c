"""The process of a rival: one JSON request per line on stdin, one JSON answer per line on stdout.

    {"job": "flood", "count": 1000}  ->  {"result": ...}  or  {"error": traceback}

Between requests the process is blocked in a read and takes no CPU. It ends when stdin does. Standard library
only: GNU Radio's side runs in an interpreter that knows neither ringkernel nor what ringkernel needs.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def answers_to_stdout() -> Callable[[dict[str, Any]], None]:
    """From now on only what is given to the returned function goes to stdout: what a library prints is no answer."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        stream.write(json.dumps(message) + "\n")
        stream.flush()

    return answer


def serve(about: str, jobs: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until stdin ends. `about` answers the job of that name: what runs here, in which version."""
    answer = answers_to_stdout()
    known = {"about": lambda: about, **jobs}
    for line in sys.stdin:
        parameters = json.loads(line)
        try:
            found = {"result": known[parameters.pop("job")](**parameters)}
        except Exception:  # noqa: BLE001 - whatever it was, the one who asked is told
            found = {"error": traceback.format_exc()}
        answer(found)
