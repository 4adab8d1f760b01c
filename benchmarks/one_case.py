"""Run one case in this process: `one_case.py NAME ROUNDS LOOP`. The last line printed is the result as JSON.

`quick.py` gives every case a process of its own, so that memory, threads and CPU time of one do not show up
in the next one, and a case that hangs or crashes does not end the run.
"""

import asyncio
import dataclasses
import json
import sys

from cases import CASES
from harness import WrongResultError


def _new_loop(name):
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _as_json(row):
    target = str(row.target) if row.target else None
    return dataclasses.asdict(row) | {"target": target, "verdict": row.verdict}


def main(name, rounds, loop):
    rows, wrong = [], ""
    with asyncio.Runner(loop_factory=lambda: _new_loop(loop)) as runner:
        try:
            rows = runner.run(CASES[name](int(rounds)))
        except WrongResultError as error:
            wrong = str(error)
    print(json.dumps({"rows": list(map(_as_json, rows)), "wrong": wrong}))


if __name__ == "__main__":
    main(*sys.argv[1:])
