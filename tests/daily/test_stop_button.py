"""The stop button of a notebook ends whatever cell awaits, and so does Ctrl-C in IPython: in a real kernel, and in a
terminal."""

from __future__ import annotations

import re
import sys
import time
from queue import Empty
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

manager = pytest.importorskip("jupyter_client.manager", reason="needs the extra `notebook`")
pytest.importorskip("ipykernel", reason="needs the extra `notebook`")

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore"),  # of jupyter's own
    pytest.mark.skipif(sys.platform == "win32", reason="jupyter interrupts in another way"),
]

LIMIT_S = 60
HANDLERS = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
import ringkernel as rk

def double(msg: float, out: float):
    out.value = 2 * msg.value

async def slow(ctx):
    async for message in ctx:
        await ctx.send(message)
        if message == 2:
            print("waits", flush=True)
            await asyncio.sleep(60)

def endless(msg: float, out: float):
    out.value = 0
    while msg.value > 0:
        out.value += 1
"""


class Cell(NamedTuple):
    """What a cell has printed: its text, its result, and its error."""

    text: str
    result: str
    error: str


class Notebook:
    """A kernel, and the cells that it runs."""

    def __init__(self) -> None:
        self._manager, self._client = manager.start_new_kernel(kernel_name="python3")

    def run(self, code: str, stop_when: Callable[[Cell], bool] | None = None) -> Cell:
        """Run a cell to its end, and press the stop button once it has printed what `stop_when` waits for."""
        message_id = self._client.execute(code)
        deadline = time.monotonic() + LIMIT_S
        cell, is_stopped = Cell("", "", ""), stop_when is None
        while True:
            assert time.monotonic() < deadline, f"the cell does not end: {code}\n{cell}"
            try:
                message = self._client.get_iopub_msg(timeout=0.1)
            except Empty:
                message = {"parent_header": {}, "msg_type": "", "content": {}}
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":  # also of tasks that an earlier cell has started
                cell = cell._replace(text=cell.text + content["text"])
            elif message["parent_header"].get("msg_id") == message_id:
                if kind == "execute_result":
                    cell = cell._replace(result=content["data"]["text/plain"])
                elif kind == "error":
                    cell = cell._replace(error=re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"])))
                elif kind == "status" and content["execution_state"] == "idle":
                    return cell
            if not is_stopped and stop_when is not None and stop_when(cell):
                is_stopped = True
                time.sleep(0.1)  # until it waits
                self._manager.interrupt_kernel()

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    notebook = Notebook()
    try:
        assert notebook.run(HANDLERS).error == ""
        yield notebook
    finally:
        notebook.close()


@pytest.fixture(scope="module")
def started(notebook: Notebook) -> Notebook:
    code = "rt = rk.RingKernelRuntime(workers=1)\nfor one in (double, slow):\n"
    cell = notebook.run(code + "    await rt.launch(one)\n    await rt.activate(one)")
    assert cell.error == ""
    return notebook


def begun(cell: Cell) -> bool:
    return "begun" in cell.text


def waits(cell: Cell) -> bool:
    return "waits" in cell.text


def frames(error: str) -> list[str]:
    """The places that a traceback shows."""
    return re.findall(r"^(?:Cell|File) .*$", error, re.MULTILINE)


def said(error: str) -> str:
    return error.splitlines()[-1]


PARTIAL = "map over 'slow': 2 of 3 messages were taken; the 2 outputs so far are .partial of this error"


def test_a_receive_is_stopped(started: Notebook) -> None:
    cell = started.run("print('begun', flush=True)\nawait rt.receive(double)", begun)
    assert said(cell.error) == "CancelledError: was waiting for an output of kernel 'double'"
    assert len(frames(cell.error)) == 1
    assert started.run("await rt.call(double, 4.0)").result == "8.0"


def test_a_wait_that_is_not_ours_is_stopped_too(started: Notebook) -> None:
    cell = started.run("print('begun', flush=True)\nawait asyncio.sleep(600)", begun)
    assert "CancelledError" in cell.error


def test_a_map_is_stopped_and_its_outputs_are_there(started: Notebook) -> None:
    cell = started.run("await rt.map(slow, [1, 2, 3])", waits)
    assert said(cell.error) == f"CancelledError: {PARTIAL}"
    assert len(frames(cell.error)) == 1
    assert started.run("sys.last_value.partial").result == "[1, 2]"


def test_a_blocking_map_is_stopped_and_its_outputs_are_there(notebook: Notebook) -> None:
    for before in ("", "await asyncio.sleep(0)\n"):  # where nothing is awaited, and where the loop has the signal
        cell = notebook.run(f"{before}rk.map(slow, [1, 2, 3])", waits)
        assert said(cell.error) == f"KeyboardInterrupt: {PARTIAL}"
        assert len(frames(cell.error)) == 1
        assert notebook.run("sys.last_value.partial").result == "[1, 2]"


def test_a_block_whose_kernel_does_not_return_is_left(notebook: Notebook) -> None:
    cell = notebook.run(
        "async with rk.RingKernelRuntime(workers=1) as own:\n"
        "    await own.launch(endless)\n    await own.activate(endless)\n    await own.send(endless, 1.0)\n"
        "    print('begun', flush=True)\n    await own.receive(endless)",
        begun,
    )
    assert said(cell.error) == "CancelledError: was waiting for an output of kernel 'endless'"
    assert notebook.run("own.get_state(endless).name").result in ("'TERMINATING'", "'TERMINATED'")
    assert notebook.run("await own.wait(endless)").error == ""


def test_errors_in_cells_are_short(started: Notebook) -> None:
    cell = started.run("def typo(msg: float, out: float):\n    out.value = msg.valeu\nawait rt.launch(typo)")
    assert len(frames(cell.error)) == 1
    assert cell.error.splitlines()[-4:-2] == [
        "KernelCompileError: msg.valeu: the message has no field 'valeu' (did you mean 'value'?); its fields are value",
        re.search(r"  Cell In\[\d+\], line 2", cell.error)[0],  # type: ignore[index]
    ]
    cell = started.run("await rt.receive(double, timeout=0.01)")
    assert said(cell.error) == "TimeoutError: nothing came from kernel 'double' within 0.01 s"
    assert len(frames(cell.error)) == 1
    cell = started.run("rk.map(double, ['a'])")
    assert len(frames(cell.error)) == 1
    cell = started.run("%xmode Verbose\nrk.map(double, ['a'])")
    assert len(frames(cell.error)) > 3
    started.run("%xmode Context")


def test_a_failed_handler_is_shown_with_its_line(notebook: Notebook) -> None:
    cell = notebook.run(
        "def pick(msg: float, out: float, state=np.zeros(2)):\n    out.value = state[int(msg.value)]\n"
        "rk.map(pick, [1.0, 7.0])"
    )
    assert [re.sub(r"In\[\d+\]", "In", place) for place in frames(cell.error)] == [
        "Cell In, line 2, in pick(msg, out, state)",
        "Cell In, line 3",
    ]


# --- a terminal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[Any]:
    pexpect = pytest.importorskip("pexpect")
    arguments = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"]
    child = pexpect.spawn(sys.executable, arguments, encoding="utf-8", timeout=LIMIT_S, dimensions=(60, 200))
    try:
        child.expect(r"In \[\d+\]: ")
        yield child
    finally:
        child.close(force=True)


def test_ctrl_c_ends_a_cell_in_a_terminal(terminal: Any) -> None:
    def run(code: str, *, stop: bool = False) -> str:
        terminal.sendline(code)
        if stop:
            terminal.expect("begun\r\n")
            time.sleep(0.2)  # until it waits
            terminal.sendintr()
        terminal.expect(r"In \[\d+\]: ")
        return str(terminal.before)

    run(f"exec({HANDLERS!r})")
    run("rt = rk.RingKernelRuntime(workers=1)")
    run("await rt.launch(double); await rt.activate(double)")
    shown = run("print('beg' 'un'); await rt.receive(double)", stop=True)
    assert "CancelledError: was waiting for an output of kernel 'double'" in shown
    assert not re.search(r"File .*(ringkernel|asyncio|selectors)", shown)
    run("await rt.send(double, 1.0)")
    assert "2.0" in run("await rt.receive(double)")  # nobody else has it
    shown = run("import time; print('beg' 'un'); time.sleep(600)", stop=True)
    assert "KeyboardInterrupt" in shown
    run("await rt.close()")
