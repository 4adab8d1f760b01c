"""Handlers of `wrong_handlers.py`, judged in processes of their own: refused, as Python does, or wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from wrong_handlers import CONTEXTS, fragments, source_of

import ringkernel as rk
from ringkernel import testing
from ringkernel.devices.compiled.handler_views import given as as_handlers_see

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGE = np.dtype([("b", "?"), ("n", "i8"), ("big", "i8"), ("x", "f8"), ("xs", "f8", (4,)), ("s", "S5")], align=True)
ROWS = [
    (True, 0, 2**62, 1.5, [1.0, 2.0, 3.0, 4.0], b"abc"),
    (False, 1, -(2**63), -2.0, [0.5, -1.0, 0.0, 7.0], b""),
    (True, 2, 2**40, 0.0, [3.0, 2.0, 1.0, 0.0], b"12345"),
    (False, 3, 2**63 - 1, 2.5, [1.0, 1.0, 1.0, 1.0], b"a"),
    (True, -1, -1, 1e300, [9.0, -9.0, 0.0, 0.0], b"\xff\x00b"),
    (False, 0, 2**31, 1.5, [1.0, 2.0, 3.0, 4.0], b"abc"),
]
PATIENCE_S = 120.0
"""How long one handler may take before it is said to hang."""
REFUSED, SAME = "refused", "same"


def messages() -> np.ndarray[Any, Any]:
    """What each handler is given."""
    return np.array(ROWS, MESSAGE)


# --- in the process ----------------------------------------------------------------------------------------------


def judged(cases: list[tuple[str, str]]) -> Iterator[list[Any]]:
    """Of handlers, by fragment and context: which one comes next, and then what came of it."""
    warnings.simplefilter("ignore")
    logging.getLogger("ringkernel").disabled = True
    known = fragments()
    with rk.Session(workers=1) as session:
        for number, (name, context) in enumerate(cases):
            yield [name, context]
            try:
                said = _judge(source_of(known[name], context), context, f"wrong_{number}", session)
            except Exception as error:  # noqa: BLE001 (it is judged, too)
                said = f"{type(error).__name__}: {error}"
            if said == REFUSED and name.startswith("ok ") and context != "closure":  # of which numba knows less
                said = "is right, and refused"
            elif said != REFUSED and name.startswith("listed "):
                said = SAME  # it did not end the process: what it gives is in docs/differences.md
            yield [name, context, said]


def _functions(source: str, njit: Callable[..., Any]) -> dict[str, Any]:
    scope = {"np": np, "math": math, "njit": njit, "__name__": "wrong_handlers"}
    exec(compile(source, "<wrong handler>", "exec"), scope)
    return scope


def _judge(source: str, context: str, kernel_id: str, session: rk.Session) -> str:
    compiled, python = _functions(source, numba.njit), _functions(source, lambda function: function)
    options: dict[str, Any] = {"input_type": MESSAGE, "output_type": float, "batch": context == "batch"}
    options["state"] = {"state": np.zeros(2), "end": messages()[0]}.get(context)
    rk.ring_kernel(f"{kernel_id}_python", **options)(python["handler"])
    rk.ring_kernel(kernel_id, **options)(compiled["handler"])
    if context == "end":
        rk.on_end(kernel_id)(compiled["end"])
        return asyncio.run(_at_end(kernel_id, python["end"]))
    left = messages()
    while len(left):
        wanted = testing.in_python(python["handler"], left)
        try:
            got = testing.compiled(compiled["handler"], left, session=session)
        except rk.KernelCompileError:
            return REFUSED
        if context == "njit" and got.failure is not None and wanted.failure is not None:
            got = got._replace(failure=wanted.failure)  # what is run again for the class is its author's compiled code
        said = _difference(got, wanted, spans=context == "batch")
        if said is not None:
            return said
        if wanted.failure is None or context == "batch":
            break
        taken = len(wanted.outputs) + (
            int((left["n"][: len(wanted.outputs) + 1] == 1).sum()) if context == "filter" else 0
        )
        left = left[taken + 1 :]
    return SAME


def _difference(got: testing.Outcome, wanted: testing.Outcome, *, spans: bool) -> str | None:
    if _named(got) != _named(wanted):
        return f"{_end(got)} instead of {_end(wanted)}"
    if spans and wanted.failure is not None:
        return None  # it fails as a whole
    if np.array_equal(got.outputs, wanted.outputs, equal_nan=True):
        return None
    return f"{got.outputs} instead of {wanted.outputs}"


def _named(outcome: testing.Outcome) -> str | None:
    return None if outcome.failure is None else outcome.failure.__name__


def _end(outcome: testing.Outcome) -> str:
    return f"{outcome.outputs}, {_named(outcome) or 'no failure'}"


async def _at_end(kernel_id: str, python: Callable[..., Any]) -> str:
    state, out = messages()[:1], np.zeros(1, [("value", "f8")])
    failure, got = None, None
    with np.errstate(all="ignore"):
        try:
            python(as_handlers_see(out, one=True), as_handlers_see(state, one=True))
        except Exception as error:  # noqa: BLE001 (whatever the handler raises)
            failure = type(error)
    found = None
    async with rk.RingKernelRuntime(workers=1) as runtime:
        try:
            await runtime.launch(kernel_id)
        except rk.KernelCompileError:
            return REFUSED
        await runtime.activate(kernel_id)
        await runtime.close_input(kernel_id)
        try:
            async with asyncio.timeout(20):
                got = await runtime.receive(kernel_id)
        except rk.RingKernelError:
            cause = runtime.kernels[kernel_id].error
            found = type(cause if cause is None or cause.__cause__ is None else cause.__cause__)
    if failure is not None or found is not None:
        same = getattr(found, "__name__", None) == getattr(failure, "__name__", None)
        return SAME if same else f"{found} instead of {failure}"
    wanted = out["value"][0]
    return SAME if got == wanted or wanted != wanted else f"{got} instead of {wanted}"


# --- the processes -----------------------------------------------------------------------------------------------

FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]
CHILD = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))  # what asks for more is refused it, and not killed
sys.path[:0] = {folders!r}
import judging
for said in judging.judged(json.load(sys.stdin)):
    print(json.dumps(said), flush=True)
"""


def judge(cases: list[tuple[str, str]], processes: int) -> dict[tuple[str, str], str]:
    """What came of each handler. One that ends its process, or does not end, does so alone."""
    with ThreadPoolExecutor(processes) as pool:
        parts = pool.map(_judge_part, [cases[number::processes] for number in range(processes)])
        return {case: said for part in parts for case, said in part.items()}


def _judge_part(cases: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    while len(found) < len(cases):
        left = [case for case in cases if case not in found]
        running, ending = _judge_until_it_ends(left, found)
        if running is None:
            assert len(found) == len(cases), f"it ended before it began: {ending}"
            break
        found[running] = ending
    return found


def _judge_until_it_ends(
    cases: list[tuple[str, str]], found: dict[tuple[str, str], str]
) -> tuple[tuple[str, str] | None, str]:
    """Judge in one process; the handler at which it ended, and how."""
    environment = {**os.environ, "MALLOC_PERTURB_": "165", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""}
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD.format(folders=FOLDERS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    said = ["it prints nothing"]
    errors = threading.Thread(target=lambda: said.append(child.stderr.read()))  # type: ignore[union-attr]
    errors.start()
    running: tuple[str, str] | None = None
    hung = threading.Event()
    watch = _watch(child, hung)
    with child:
        child.stdin.write(json.dumps(cases))
        child.stdin.close()
        for line in child.stdout:
            watch.cancel()
            name, context, *verdict = json.loads(line)
            running = None if verdict else (name, context)
            if verdict:
                found[name, context] = verdict[0]
            watch = _watch(child, hung)
    watch.cancel()
    errors.join()
    if hung.is_set():
        return running, f"did not end within {PATIENCE_S:.0f} s"
    code = child.returncode
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return running, f"ended its process: {how} {said[-1][-600:] if code > 0 else ''}"


def _watch(child: subprocess.Popen[str], hung: threading.Event) -> threading.Timer:
    def end() -> None:
        hung.set()
        child.kill()

    timer = threading.Timer(PATIENCE_S, end)
    timer.daemon = True
    timer.start()
    return timer


def chosen(count: int | None, seed: int) -> list[tuple[str, str]]:
    """So many handlers, or all, in an order that is as the seed says."""
    cases = [(name, context) for name in fragments() for context in CONTEXTS]
    random.Random(seed).shuffle(cases)
    return cases[:count]


def wrong(found: dict[tuple[str, str], str]) -> list[str]:
    """What is neither refused nor as in Python."""
    return [f"{name} ({context}): {said}" for (name, context), said in found.items() if said not in (REFUSED, SAME)]


if __name__ == "__main__":  # judges what is asked for, by contexts and a part of the name
    contexts, part = sys.argv[1].split(","), sys.argv[2] if len(sys.argv) > 2 else ""
    asked = [(name, context) for context in contexts for name in fragments() if part in name]
    began = time.monotonic()
    verdicts = judge(asked, 2)
    print(*wrong(verdicts), sep="\n")  # noqa: T201
    counts = {one: list(verdicts.values()).count(one) for one in (REFUSED, SAME)}
    print(len(verdicts), counts, f"{time.monotonic() - began:.0f} s")  # noqa: T201
