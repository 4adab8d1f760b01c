"""What awaits and what blocks is written once: signatures, docstrings and types of the one are those of the other."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, assert_type

import pytest

import ringkernel as rk
from ringkernel.runtime.access.input_handle import InputHandle

NOT_IN_A_SESSION = {
    *("replace", "view", "serve_stats", "collector", "port", "peek", "send_nowait", "receive_nowait"),
}
"""What is left to the runtime."""
RUNTIME, SESSION = (
    {name: member for name, member in inspect.getmembers(cls) if not name.startswith("_")}
    for cls in (rk.RingKernelRuntime, rk.Session)
)


def double(msg: float, out: float) -> None:
    out.value = 2 * msg.value  # type: ignore[attr-defined]


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function takes by name only, with the defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {one.name: (one.default, one.annotation) for one in parameters if one.kind is one.KEYWORD_ONLY}


def test_a_session_has_each_method_of_a_runtime_or_it_is_left_out_on_purpose() -> None:
    assert set(RUNTIME) - set(SESSION) == NOT_IN_A_SESSION


@pytest.mark.parametrize("name", sorted({*RUNTIME} & {*SESSION} - {"close", "kernels"}))
def test_a_method_of_a_session_looks_like_the_runtimes(name: str) -> None:
    method = SESSION[name]
    awaited, waiting = inspect.signature(RUNTIME[name]), inspect.signature(method)
    assert waiting.parameters == awaited.parameters
    if name != "run":
        assert waiting.return_annotation == awaited.return_annotation.replace("AsyncIterator", "Iterator")
    assert (method.__module__, method.__qualname__) == (rk.Session.__module__, f"Session.{name}")
    assert inspect.isfunction(method)
    assert not inspect.iscoroutinefunction(inspect.unwrap(method))
    doc = inspect.getdoc(method) or ""
    assert f"session.{name}(" in doc
    assert not re.search(r"await |async with|async for|asyncio\.|\bruntime\b|Cancelled|managed_kernel", told(doc)), doc


def told(docstring: str) -> str:
    """A docstring without the handlers of its example, which may be coroutines."""
    return docstring.replace("...     await ctx.send", "")


def test_the_options_of_a_map_are_the_same_everywhere() -> None:
    expected = options(rk.RingKernelRuntime.map)
    assert {*expected} == {"out", "progress", "extra", "to"}
    for function in (rk.map, rk.Session.map, rk.Session.map_once, rk.RunningPipeline.map):
        assert options(function) == expected
    assert [*inspect.signature(rk.map).parameters][:2] == ["func", "messages"]
    assert [*inspect.signature(rk.RunningPipeline.map).parameters][:2] == ["self", "messages"]


@pytest.mark.parametrize("name", ["send", "send_batch", "receive", "receive_batch", "stream", "call"])
def test_a_running_pipeline_takes_what_the_runtime_takes_but_for_the_kernel(name: str) -> None:
    own = dict(inspect.signature(getattr(rk.RunningPipeline, name)).parameters)
    theirs = dict(inspect.signature(RUNTIME[name]).parameters)
    del theirs["kernel_id"]
    assert [*own.values()] == [*theirs.values()]


def test_an_argument_that_is_not_taken_is_refused_by_the_name_of_what_was_called() -> None:
    def calls(function: Any, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    with rk.Session(workers=1) as session:
        with pytest.raises(TypeError, match=r"^Session\.send\(\): missing a required argument: 'message'$"):
            calls(session.send, "double")
        with pytest.raises(TypeError, match=r"^Session\.connect\(\): got an unexpected keyword argument 'inputs'$"):
            calls(session.connect, "double", "double", inputs="a")
        with pytest.raises(TypeError, match=r"^Session\.map_once\(\): got an unexpected keyword argument 'too'$"):
            calls(session.map_once, double, [1.0], too="arrow")
        assert not session.kernels
    with pytest.raises(TypeError, match=r"^map\(\): got an unexpected keyword argument 'too'$"):
        calls(rk.map, double, [1.0], too="arrow")


def test_a_handlers_own_type_error_comes_out_as_it_is() -> None:
    async def fails(ctx: rk.KernelContext[float, float]) -> None:
        await ctx.receive()
        raise TypeError("mine")

    with rk.Session(workers=1) as session, session.run(fails) as running:
        running.send(1.0)
        with pytest.raises(rk.KernelFailedError) as caught:
            running.receive(timeout=5)
        assert str(caught.value.__cause__) == "mine"


def types_are_those_of_what_is_awaited(session: rk.Session, running: rk.RunningPipeline) -> None:
    """For the type checker: nobody calls this."""
    assert_type(session.launch("double", queue_size=16), rk.RingKernel)
    assert_type(session.wait(kernel_id="double", timeout=1.0), rk.KernelState)
    assert_type(session.get_state("double"), rk.KernelState)
    assert_type(session.statistics("double"), rk.KernelStatistics)
    assert_type(session.open_input("double", full="drop"), InputHandle)
    assert_type(session.stream("double", max_messages=3), Iterator[Any])
    sent: Callable[[str, float], None] = session.send
    sent("double", 1.0)
    session.send("double")  # type: ignore[call-arg]
    session.map("double", [1.0], too="arrow")  # type: ignore[call-arg]
    session.map_once("double", [1.0], extra="keep")  # type: ignore[arg-type]
    session.receive_batch("double", "3")  # type: ignore[arg-type]
    running.map([1.0], out=1)  # type: ignore[arg-type]
    running.receive(timeout="1")  # type: ignore[arg-type]
    rk.map(double, [1.0], to="parquet")  # type: ignore[arg-type]
