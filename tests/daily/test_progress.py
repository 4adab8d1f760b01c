"""Long operations show how far they are, in a notebook without anything installed, and leave nothing behind."""

from __future__ import annotations

import sys
import time
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from daily_kernels import double, plus, relay

import ringkernel as rk
from ringkernel.devices.event_loop import announcing

if TYPE_CHECKING:
    from ringkernel import RingKernelRuntime


class Handle:
    def __init__(self, shown: list[dict[str, str]]) -> None:
        self.shown = shown

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a notebook would show; IPython's own displays are tried in the tests of notebooks."""
    outputs: list[dict[str, str]] = []
    monkeypatch.setattr(announcing, "PATIENCE_S", 600.0)  # no line about a compilation on a busy machine

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        outputs.append(data)
        return Handle(outputs)

    package: Any = types.ModuleType("IPython")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=object(), custom_exceptions=(Exception,))
    displays: Any = types.ModuleType("IPython.display")
    displays.display = display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return outputs


async def test_a_map_shows_its_bar_in_a_notebook(runtime: RingKernelRuntime, shown: list[dict[str, str]]) -> None:
    line = rk.pipeline(double, plus)
    assert (await runtime.map(line, np.ones(3_000), progress=True)).tolist() == [2.5] * 3_000
    assert shown[0]["text/plain"] == "map double → plus: 0 of 3,000"
    assert shown[-2]["text/plain"] == "map double → plus: 3,000 of 3,000"
    assert '<progress max="3000" value="3000"></progress>' in shown[-2]["text/html"]
    assert shown[-1] == {"text/plain": "", "text/html": ""}


async def test_a_label_is_escaped_and_a_long_chain_is_named_by_its_ends(
    runtime: RingKernelRuntime, shown: list[dict[str, str]]
) -> None:
    names = ["<a>", "b", "c", "d"]
    for name in names:
        await runtime.launch(name, relay)
    await runtime.map(rk.pipeline(*names), [1, 2], progress=True)
    assert shown[0]["text/plain"] == "map <a> → … → d: 0 of 2"
    assert shown[0]["text/html"].startswith("<label>map &lt;a&gt; → … → d: 0 of 2 <progress")


async def test_a_stream_shows_how_much_has_come(runtime: RingKernelRuntime, shown: list[dict[str, str]]) -> None:
    async with runtime.run(double) as running:
        await running.send_batch(np.ones(1_000))
        await running.finish()
        batches = [batch async for batch in running.stream(progress=True)]
    assert sum(map(len, batches)) == 1_000
    assert shown[0] == {
        "text/plain": "stream double: 0",
        "text/html": "<label>stream double: 0 <progress></progress></label>",
    }
    assert shown[-2]["text/plain"] == "stream double: 1,000"
    assert shown[-1]["text/html"] == ""


async def test_a_map_that_fails_leaves_no_bar(runtime: RingKernelRuntime, shown: list[dict[str, str]]) -> None:
    with pytest.raises(rk.KernelStateError):
        await runtime.map(double, [1.0], progress=True)
        await runtime.deactivate("double")
        await runtime.map(double, [1.0], progress=True)
    assert shown[-1]["text/html"] == ""


def test_a_long_compilation_is_announced_in_a_notebook(
    shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(announcing, "PATIENCE_S", 0.0)
    monkeypatch.setattr(announcing._Waiting, "until", float("-inf"))
    with announcing.announced("kernel '<a>'"):
        deadline = time.monotonic() + 10
        while not shown and time.monotonic() < deadline:
            time.sleep(0.001)
    drawn = {
        "text/plain": "compiling kernel '<a>' ...",
        "text/html": "<label>compiling kernel &#x27;&lt;a&gt;&#x27; ... <progress></progress></label>",
    }
    assert shown == [drawn, {"text/plain": "", "text/html": ""}]
    monkeypatch.delitem(sys.modules, "IPython")
    assert announcing._say("compiling something ...") == []
    assert len(shown) == 2
    assert capsys.readouterr().err == ""
