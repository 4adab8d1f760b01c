"""Random handlers, compiled and in Python, on the same messages: the same outputs, state and failures, to the bit, or a
difference that is listed in `differences.py`."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import emulation
import hypothesis
import numpy as np
import pytest
from differences import DIFFERENCES
from emulation import UnspecifiedError
from helpers import eventually, within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_handlers import Case, cases
from random_messages import fill

from ringkernel import KernelCompileError, KernelFailedError, RingKernelRuntime, ring_kernel
from ringkernel.declaration.registry import declared
from ringkernel.devices.compiled.handler_views import given as as_handlers_see
from ringkernel.messages.arrays import as_array

pytestmark = pytest.mark.compiles

HANDLERS = 60
"""How many are tried in a round: a minute."""

MESSAGES = 48
FAILURES = 6
"""How many failures of one handler are looked at; after each it goes on with the next message and a fresh state."""

LISTED = {difference.key for difference in DIFFERENCES}


@dataclass
class Result:
    """What came of an array of messages: how far it went, and why no further."""

    outputs: np.ndarray[Any, Any]
    state: Any
    taken: int
    failure: str | None = None
    unspecified: bool = False


def in_python(case: Case, function: Any, messages: Any) -> Result:
    """The handler, run by Python over copies."""
    declaration: Any = declared("random")
    records = as_array(declaration.input_type, messages.copy())
    outs = np.zeros(len(records) * case.max_outputs, declaration.output_type.dtype)
    state = declaration.state.copy() if declaration.state is not None else None
    seen = [as_handlers_see(state, one=declaration.state_type is not None)] if state is not None else []
    emitted, i = 0, 0
    try:
        with np.errstate(all="ignore"):
            if case.batch:
                emitted = int(function(as_handlers_see(records, one=False), as_handlers_see(outs, one=False), *seen))
                i = len(records)
            while i < len(records):
                one = as_handlers_see(records[i : i + 1], one=True)
                outs[emitted] = np.zeros((), outs.dtype)
                verdict = function(one, as_handlers_see(outs[emitted : emitted + 1], one=True), *seen)
                emitted += verdict is None or bool(verdict)
                i += 1
    except UnspecifiedError:
        return Result(outs[:emitted], state, i, unspecified=True)
    except Exception as error:  # noqa: BLE001 (whatever the handler raises)
        return Result(outs[:emitted], state, i, type(error).__name__)
    return Result(outs[:emitted], state, i)


def _raised(error: BaseException | None) -> str:
    """What the compiled code raised; the exception is that of the Python function, run again, if that raises, too."""
    notes = "\n".join(getattr(error, "__notes__", ()))
    own = re.search(r"the compiled handler raised (\w+)", notes)
    return own[1] if own else type(error).__name__


async def compiled(runtime: RingKernelRuntime, messages: Any) -> Result:
    """The handler, as a kernel, by `map`."""
    await runtime.launch("random")
    await runtime.activate("random")
    declaration: Any = declared("random")
    failure = None
    try:
        outputs = await within(runtime.map("random", messages.copy()), 30)
    except KernelFailedError as error:
        failure, outputs = _raised(error.__cause__), error.partial
        if outputs is None:
            outputs = np.zeros(0, declaration.output_type.dtype)
    counts = runtime.statistics("random")
    state = None
    if declaration.state is not None:
        state = np.asarray(await runtime.read_state("random")).reshape(declaration.state.shape)
    if failure is None:
        await runtime.terminate("random")
    runtime.remove("random")
    return Result(outputs.copy(), state, counts.processed, failure)


def difference(case: Case, got: Result, wanted: Result) -> str | None:
    """In what two results differ, or None."""
    if wanted.unspecified:
        if case.batch or got.taken < wanted.taken:
            return None if case.batch else f"{got.failure} at {got.taken}, beyond which is {wanted.taken}"
        return _unlike(got.outputs[: len(wanted.outputs)], wanted.outputs, "outputs")
    if (got.failure, got.taken) != (wanted.failure, wanted.taken) and not (
        case.batch and got.failure == wanted.failure
    ):
        return f"{got.failure} at {got.taken} instead of {wanted.failure} at {wanted.taken}"
    if case.batch and wanted.failure is not None:
        return None  # it fails as a whole span, wherever that ends
    found = _unlike(got.outputs, wanted.outputs, "outputs")
    return found or (
        None if wanted.state is None else _unlike(np.asarray(got.state), np.asarray(wanted.state), "state")
    )


def _unlike(got: Any, wanted: Any, what: str) -> str | None:
    if got.dtype.names:
        for name in got.dtype.names:
            found = _unlike(got[name], wanted[name], f"{what}.{name}")
            if found:
                return found
        return None
    if len(np.shape(got)) and len(got) != len(wanted):
        return f"{len(got)} {what} instead of {len(wanted)}"
    if got.dtype.kind == "M":
        got, wanted = got.astype("i8"), wanted.astype("i8")
    if emulation.same(got, wanted):
        return None
    for at in np.ndindex(got.shape):
        if not emulation.same(got[at], wanted[at]):
            return f"{what}{list(at)} is {got[at]!r} instead of {wanted[at]!r}"
    return None


REFUSED = {
    "Int value is too large": "a literal, or what Python makes of two of them, beyond 64 bits",
    "No implementation of function Function(<ufunc 'bitwise_": "a bit function of uint64 and int64, as in NumPy",
    "No implementation of function Function(<built-in function": "a bit operation on a float64, of uint64 and int64",
    "unsupported array index type": "an index that is one",
}
"""What of a random handler is refused, and why."""


def messages_of(case: Case, seed: int) -> np.ndarray[Any, Any]:
    messages = np.zeros(MESSAGES, case.input)
    fill(messages, np.random.default_rng(seed))
    return messages


def declare(case: Case, function: Any) -> None:
    ring_kernel(
        "random",
        input_type=case.input,
        output_type=case.output,
        state=case.state,
        batch=case.batch,
        max_outputs=case.max_outputs,
        check=case.check,
        zeroed=case.zeroed,
    )(function)


async def check(case: Case, seed: int, found: Counter[str]) -> None:
    """Assert that what the case's kernel does with random messages is explained, and count by what."""
    messages = messages_of(case, seed)
    function, twin = case.function(), case.emulated()
    declare(case, function)
    found["handlers"] += 1
    async with RingKernelRuntime(workers=1) as runtime:
        for _ in range(FAILURES):
            try:
                got = await compiled(runtime, messages)
            except KernelCompileError as error:
                said = f"{error}\n{error.__cause__}"
                if not any(known in said for known in REFUSED):
                    raise AssertionError(f"refused:\n{case.source}") from error
                found["refused"] += 1
                return
            found["runs"] += 1
            unlike = difference(case, got, in_python(case, function, messages))
            if unlike is not None:
                emulation.seen.clear()
                explained = in_python(case, twin, messages)
                still = difference(case, got, explained)
                assert still is None, f"{case.source}\n{case}\nseed {seed}: {unlike}; with what is listed, {still}"
                assert emulation.seen <= LISTED
                assert emulation.seen, f"{case.source}\n{unlike}, which the list does not name"
                found["explained"] += 1
                found.update(emulation.seen)
            messages = messages[got.taken + 1 :]
            if got.failure is None or case.batch or not len(messages):
                if found["handlers"] % 4 == 0 and not in_python(case, twin, messages_of(case, seed)).unspecified:
                    await check_other_ways(runtime, case, got, seed)
                return


async def check_other_ways(runtime: RingKernelRuntime, case: Case, mapped: Result, seed: int) -> None:
    """Batches through the queues, and message by message: the same outputs and state as by `map`."""
    if mapped.failure is not None or not mapped.taken:
        return
    messages = messages_of(case, seed)[MESSAGES - mapped.taken :]
    for one_by_one in (False, True):
        await runtime.launch("random")
        await runtime.activate("random")
        if one_by_one:
            for i in range(len(messages)):
                await within(runtime.send("random", messages[i]))
        else:
            await within(runtime.send_batch("random", messages))
        await eventually(lambda: runtime.statistics("random").processed == len(messages))
        parts = [np.zeros(0, mapped.outputs.dtype)]
        while sum(map(len, parts)) < runtime.statistics("random").emitted:
            if one_by_one:
                record = await within(runtime.receive("random"))
                parts.append(np.array([record.item()], mapped.outputs.dtype))
            else:
                parts.append(await within(runtime.receive_batch("random")))
        state = (
            None if mapped.state is None else np.asarray(await runtime.read_state("random")).reshape(mapped.state.shape)
        )
        await runtime.terminate("random")
        runtime.remove("random")
        found = _unlike(np.concatenate(parts), mapped.outputs, "outputs")
        found = found or (None if state is None else _unlike(state, np.asarray(mapped.state), "state"))
        assert found is None, f"{case.source}\nseed {seed}, {'one by one' if one_by_one else 'in batches'}: {found}"


def play(handlers: int, seed: int, found: Counter[str]) -> None:
    """Check so many random handlers."""

    @hypothesis.seed(seed)
    @settings(max_examples=handlers, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases(), values=st.integers(0, 2**32 - 1))
    def each(case: Case, values: int) -> None:
        asyncio.run(check(case, values, found))

    each()
    assert found["refused"] <= 0.1 * found["handlers"], f"{found}: too many random handlers are refused to tell much"


@pytest.mark.workers
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("uncovered")
def test_a_handler_does_the_same_compiled_and_in_python(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, random_cases: Callable[[int], int]
) -> None:
    monkeypatch.setattr(logging.getLogger("ringkernel"), "disabled", True)  # kernels fail here by the hundred
    handlers, found = random_cases(HANDLERS), Counter[str]()
    budget = request.config.getoption("--soak", default=None)
    end, seed = time.monotonic() + (budget or 0.0), 1
    while True:
        play(handlers, seed, found)
        if time.monotonic() >= end:
            break
        seed = int.from_bytes(os.urandom(4))
        print(f"seed {seed}, so far {dict(found)}", flush=True)  # noqa: T201 (a soak says how far it is)
    assert found["runs"] > handlers
    assert 0 < found["explained"] < 0.8 * found["runs"], f"{found}: random handlers are too tame, or too wild"


OVERFLOWS = {
    "read": "out.value = state[min(msg.value * msg.value, 15)]",
    "written": "state[min(msg.value * msg.value, 15)] = 1.0",
    "compared": "out.value = msg.value + 1 > msg.value",
    "divided": "out.value = (msg.value & 9223372036854775807) // (msg.value * msg.value)",
}
"""What ends the process, or is wrong, where the compiler takes it that whole numbers never overflow."""

OVERFLOWING = """
import asyncio, sys
import numpy as np
import ringkernel as rk

BODY, VALUES = sys.argv[1], [int(value) for value in sys.argv[2:]]
exec(f"def handler(msg, out, state):\\n    {BODY}\\n")
rk.ring_kernel("k", input_type=int, output_type=float, state=np.zeros(16))(handler)

async def main():
    async with rk.RingKernelRuntime() as runtime:
        await runtime.launch("k")
        await runtime.activate("k")
        try:
            print(*await runtime.map("k", np.array(VALUES)))
        except rk.KernelFailedError as failure:
            print(type(failure.__cause__).__name__)

asyncio.run(main())
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("body", "values", "wanted"),
    [
        ("read", ["2", "3037000500"], "IndexError"),
        ("written", ["2", "3037000500"], "IndexError"),
        ("compared", ["2", str(2**63 - 1)], "1.0 0.0"),
        ("divided", ["2", str(2**32)], "0.0 0.0"),
    ],
)
def test_whole_numbers_that_overflow_wrap_around(body: str, values: list[str], wanted: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", OVERFLOWING, OVERFLOWS[body], *values],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout.strip()) == (0, wanted), run.stderr
