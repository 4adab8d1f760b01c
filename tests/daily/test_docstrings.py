"""Every public name is on the API page, and has an example in its docstring that does what it shows."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers import within
from pages import TEXTS

import ringkernel
import ringkernel as rk
from ringkernel import testing

PAGE = TEXTS["docs/api.md"]
BEFORE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
CLASSES = (
    *(rk.RingKernelRuntime, rk.Session, rk.Pipeline, rk.RunningPipeline),
    *(rk.InputHandle, rk.MessageQueue, rk.KernelContext, rk.KernelStatistics, rk.Rng),
)
NOT_FOR_USERS = {"KernelContext.enter", "KernelContext.note_end"}


def public() -> Iterator[tuple[str, Any]]:
    """Each public name that has a docstring of its own, and what it means."""
    for name in [*ringkernel.__all__, "map"]:
        if name not in ("__version__", "TRANSITIONS"):
            yield name, getattr(ringkernel, name)
    for cls in CLASSES:
        for name, member in inspect.getmembers(cls):
            is_ours = callable(member) or isinstance(member, property)
            if not name.startswith("_") and is_ours and f"{cls.__name__}.{name}" not in NOT_FOR_USERS:
                yield f"{cls.__name__}.{name}", member
    for name, member in vars(testing).items():
        if not name.startswith("_") and getattr(member, "__module__", None) == testing.__name__:
            yield f"testing.{name}", member


PUBLIC = dict(public())


async def shown(source: str, scope: dict[str, Any]) -> str:
    """What a notebook, or `python -m asyncio`, shows for an input: also the last line of an exception."""
    code = compile(source, "<docstring>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            value = eval(code, scope)  # noqa: S307 (our own docstrings)
            if code.co_flags & inspect.CO_COROUTINE:
                await value
        except Exception as error:  # noqa: BLE001 (an example may show any)
            return f"{type(error).__name__}: {error}\n"
    return out.getvalue()


async def run(docstring: str) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(BEFORE, "<docstring>", "exec", dont_inherit=True), scope)
    fits: Callable[[str, str, int], bool] = doctest.OutputChecker().check_output
    try:
        for example in doctest.DocTestParser().get_examples(docstring):
            got = await shown(example.source, scope)
            want = example.want.removeprefix("Traceback (most recent call last):\n")
            assert fits(want, got, doctest.ELLIPSIS), f"{example.source}wants: {want}gives: {got}"
    finally:
        await scope["runtime"].close()
        scope["session"].close()


@pytest.mark.sampled(40)
@pytest.mark.parametrize("name", PUBLIC)
async def test_each_docstring_has_an_example_that_does_what_it_shows(name: str) -> None:
    docstring = inspect.getdoc(PUBLIC[name]) or ""
    assert ">>> " in docstring, f"{name} has no example"
    assert sum(line.startswith((">>> ", "... ")) for line in docstring.splitlines()) <= 9, "an example is short"
    await within(run(docstring), 60)  # what it compiles, too


def test_the_page_has_every_public_name() -> None:
    documented = re.findall(r"^\.\. auto\w+:: ([\w.]+)$", PAGE, re.MULTILINE)
    missing = {f"ringkernel.{name}" for name in [*ringkernel.__all__, "map"]} - {*documented, "ringkernel.__version__"}
    assert not missing
    assert testing.__name__ in documented
