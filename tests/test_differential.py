"""Random handlers, compiled and in Python, on the same messages: the same outputs, state and failures, to the bit, or a
difference that is listed in `differences.py`."""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import emulation
import numpy as np
import pytest
from emulation import UnspecifiedError
from helpers import within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_handlers import Case, cases, fill

from ringkernel import KernelCompileError, KernelFailedError, RingKernelRuntime, ring_kernel
from ringkernel.declaration import declared
from ringkernel.devices.failure import given as as_handlers_see

MESSAGES = 48
FAILURES = 6
"""How many failures of one handler are looked at; after each it goes on with the next message and a fresh state."""


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
    declaration = declared("random")
    records = declaration.input_type.as_array(messages.copy())
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
    except Exception as error:
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
    declaration = declared("random")
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
    if (got.failure, got.taken) != (wanted.failure, wanted.taken) and not (case.batch and got.failure == wanted.failure):
        return f"{got.failure} at {got.taken} instead of {wanted.failure} at {wanted.taken}"
    if case.batch and wanted.failure is not None:
        return None  # it fails as a whole span, wherever that ends
    found = _unlike(got.outputs, wanted.outputs, "outputs")
    return found or (None if wanted.state is None else _unlike(np.asarray(got.state), np.asarray(wanted.state), "state"))


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


found: Counter[str] = Counter()


async def check(case: Case, seed: int) -> None:
    random = np.random.default_rng(seed)
    messages = np.zeros(MESSAGES, case.input)
    fill(messages, random)
    function, twin = case.function(), case.emulated()
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
    async with RingKernelRuntime(workers=1) as runtime:
        for _ in range(FAILURES):
            try:
                got = await compiled(runtime, messages)
            except KernelCompileError as error:
                found["refused"] += 1
                raise AssertionError(f"{case.source}\n{error}") from error
            wanted = in_python(case, function, messages)
            unlike = difference(case, got, wanted)
            found["runs"] += 1
            if unlike is not None:
                emulation.seen.clear()
                explained = in_python(case, twin, messages)
                still = difference(case, got, explained)
                if still is not None:
                    raise AssertionError(f"{case.source}\n{case}\n{unlike}\nwith what is listed, {still}\n{emulation.seen}\n{messages[got.taken: got.taken + 1]!r}")
                assert emulation.seen, "a difference that the list does not name"
                found["explained"] += 1
                found.update(emulation.seen)
            messages = messages[got.taken + 1 :]
            if got.failure is None or case.batch or not len(messages):
                break


@settings(
    max_examples=int(os.environ.get("N", "40")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(case=cases(), seed=st.integers(0, 2**32 - 1))
def test_a_handler_does_the_same_compiled_and_in_python(case, seed):
    asyncio.run(check(case, seed))


def test_zz():
    print(found)
