"""`docs/differences.md`: the page shows the list, and each example on it is what Python and compiled code give."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from differences import ALTERNATING, DIFFERENCES, MESSAGE, SAME, UNSPECIFIED, Example
from helpers import within

from ringkernel import KernelCompileError, KernelFailedError, MessageTypeError, RingKernelRuntime, ring_kernel
from ringkernel.devices.compiled.handler_views import given as as_handlers_see
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType

pytestmark = pytest.mark.compiles

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"
EXAMPLES = [example for difference in DIFFERENCES for example in difference.examples] + list(SAME)
FIELDS = MESSAGE.names or ()
ids = [f"{example.expression} with {example.given}" for example in EXAMPLES]


def message_of(example: Example) -> Any:
    message = np.ones(1, MESSAGE)
    for name, value in example.given.items():
        message[name] = [1e16, 1, -1e16, 1] * 4 if value == ALTERNATING else np.array(value, MESSAGE[name].base)
    return message


CONVERSIONS = {"i8": "np.int64", "f8": "np.float64", "?": "bool"}


def raises(example: Example) -> bool:
    return example.compiled.endswith("Error")


@pytest.fixture(scope="module")
def compiled_values() -> dict[int, Any]:
    """What each example that raises nothing gives, by one handler that computes them all, each on its own message."""
    plain = [example for example in EXAMPLES if not raises(example)]
    output = np.dtype([(f"v{i}", _kind(example)) for i, example in enumerate(plain)])
    lines = [
        f"    if msg.i == {i}:\n        out.v{i} = {CONVERSIONS[_kind(example)]}({example.expression})\n"
        for i, example in enumerate(plain)
    ]
    scope: dict[str, Any] = {"np": np, "math": math, "__name__": "examples"}
    exec("def handler(msg, out):\n" + "".join(lines), scope)
    numbered = np.dtype([*((name, MESSAGE[name]) for name in FIELDS), ("i", "i8")])
    messages = np.zeros(len(plain), numbered)
    for i, example in enumerate(plain):
        for name in FIELDS:
            messages[name][i] = message_of(example)[name][0]
        messages["i"][i] = i
    ring_kernel("examples", input_type=numbered, output_type=output)(scope["handler"])

    async def run() -> Any:
        async with RingKernelRuntime(workers=1) as runtime:
            await runtime.launch("examples")
            await runtime.activate("examples")
            return await runtime.map("examples", messages)

    outputs = asyncio.run(run())
    return {id(example): outputs[f"v{i}"][i].item() for i, example in enumerate(plain)}


def _kind(example: Example) -> str:
    """The type that holds what an example gives."""
    if example.compiled in ("True", "False"):
        return "?"
    if example.compiled == UNSPECIFIED or example.compiled.lstrip("-").isdigit():
        return "i8"
    return "f8"


@pytest.mark.parametrize("example", EXAMPLES, ids=ids)
def test_python_gives_what_the_page_says(example: Example) -> None:
    view = as_handlers_see(as_array(MessageType(MESSAGE), message_of(example)), one=True)
    with np.errstate(all="ignore"):
        try:
            given = str(eval(example.expression, {"np": np, "math": math, "msg": view}))  # noqa: S307 (the page's own)
        except Exception as error:  # noqa: BLE001 (its name is what the page says)
            given = type(error).__name__
    assert given == example.python


@pytest.mark.parametrize(
    "example",
    [e for e in EXAMPLES if not raises(e)],
    ids=[n for n, e in zip(ids, EXAMPLES, strict=True) if not raises(e)],
)
def test_compiled_code_gives_what_the_page_says(example: Example, compiled_values: dict[int, Any]) -> None:
    given = compiled_values[id(example)]
    assert example.compiled in (UNSPECIFIED, str(given))


@pytest.mark.parametrize(
    "example", [e for e in EXAMPLES if raises(e)], ids=[n for n, e in zip(ids, EXAMPLES, strict=True) if raises(e)]
)
async def test_compiled_code_raises_what_the_page_says(example: Example, runtime: RingKernelRuntime) -> None:
    scope: dict[str, Any] = {"np": np, "math": math, "__name__": "examples"}
    exec(f"def handler(msg, out):\n    out.value = {example.expression}\n", scope)
    ring_kernel("raises", input_type=MESSAGE, output_type=complex)(scope["handler"])
    await runtime.launch("raises")
    await runtime.activate("raises")
    with pytest.raises(KernelFailedError) as failed:
        await within(runtime.map("raises", message_of(example)))
    cause = failed.value.__cause__
    notes = " ".join(getattr(cause, "__notes__", ()))
    assert type(cause).__name__ == example.compiled or f"handler raised {example.compiled}" in notes


def test_the_differences_are_real() -> None:
    for difference in DIFFERENCES:
        assert not difference.examples or any(e.python != e.compiled for e in difference.examples), difference.key
    assert all(example.python == example.compiled for example in SAME)


def test_the_page_shows_the_list() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = page.partition("## What differs\n")[2].partition("## What does not differ\n")
    assert listed[0].strip() == "\n".join(difference.section() for difference in DIFFERENCES).strip()
    rows = listed[2].partition("## What is refused\n")[0]
    assert [line for line in rows.splitlines() if line.startswith("| `")] == [example.row() for example in SAME]


async def test_functions_of_the_c_library_are_within_four_units_of_numpys(runtime: RingKernelRuntime) -> None:
    names = ("exp", "log", "sin", "cos", "tan", "tanh", "arctan", "log1p", "expm1", "log10")
    exact = ("sqrt", "floor", "ceil", "trunc", "rint")
    output = np.dtype([(name, "f8") for name in names + exact])
    scope: dict[str, Any] = {"np": np, "__name__": "examples"}
    exec("def handler(msg, out):\n" + "".join(f"    out.{n} = np.{n}(msg.value)\n" for n in names + exact), scope)
    ring_kernel("close", input_type=float, output_type=output)(scope["handler"])
    await runtime.launch("close")
    await runtime.activate("close")
    values = np.random.default_rng(0).uniform(0.01, 20, 2000)
    outputs = await within(runtime.map("close", values))
    for name in names:
        wanted = getattr(np, name)(values)
        assert np.all(np.abs(outputs[name] - wanted) <= 4 * np.spacing(np.abs(wanted))), name
    for name in exact:
        assert np.array_equal(outputs[name], getattr(np, name)(values)), name


@pytest.mark.parametrize("kind", ["f2", ("?", (2,))], ids=str)
async def test_types_that_the_page_calls_refused_are(kind: Any, runtime: RingKernelRuntime) -> None:
    dtype = np.dtype([("x", *kind) if isinstance(kind, tuple) else ("x", kind)])

    def handler(msg: Any, out: Any) -> None:
        out.value = 1.0

    ring_kernel("refused", input_type=dtype, output_type=float)(handler)
    with pytest.raises(KernelCompileError):
        await runtime.launch("refused")


@pytest.mark.parametrize("kind", ["U4", "O"])
def test_text_and_objects_are_no_message_types(kind: Any) -> None:
    with pytest.raises(MessageTypeError):
        MessageType(np.dtype([("x", kind)]))
