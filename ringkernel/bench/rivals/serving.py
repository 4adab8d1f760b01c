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


def serve(about: str, jobs: Mapping[str, Callable[..., Any]]) -> None:
    """Answer until stdin ends. `about` answers the job of that name: what runs here, in which version."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    known = {"about": lambda: about, **jobs}
    for line in sys.stdin:
        parameters = json.loads(line)
        try:
            answer = {"result": known[parameters.pop("job")](**parameters)}
        except Exception:  # noqa: BLE001 - whatever it was, the one who asked is told
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
