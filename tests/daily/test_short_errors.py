"""What is said of a mistake: the user's line and what to do, in the user's words, and nothing else."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bad_handlers import CASES, TICK

import ringkernel as rk
from ringkernel import tracebacks
from ringkernel.declaration.signature import warn_of_unwritten_output

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.compiles, pytest.mark.sampled(3)]

NUMBAS_WORDS = re.compile(
    r"numba|nopython|lowering|unify|[Uu]ntyped|No implementation|signature|overload|candidate|Literal\[|reflected"
    r"|KeyError|<function|<class|<built-in|0x[0-9a-f]{5}|\$\d|Record\(|array\(",
)


# --- what cannot be compiled -----------------------------------------------------------------------------------------


def marked_line(func: Callable[..., Any]) -> int:
    """The line with the mark: the first one from the handler's first on."""
    lines = Path(inspect.getfile(func)).read_text(encoding="utf-8").splitlines()
    first = func.__code__.co_firstlineno
    return next(number for number, line in enumerate(lines, 1) if number >= first and line.endswith("# <-"))


@pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaPerformanceWarning")
@pytest.mark.parametrize(("func", "options", "reason"), CASES, ids=[func.__name__ for func, _, _ in CASES])
async def test_a_compile_error_says_what_and_where_and_what_to_do(
    func: Callable[..., Any], options: dict[str, Any], reason: str
) -> None:
    async with rk.RingKernelRuntime(workers=1) as runtime:
        declared = rk.ring_kernel(f"bad_{func.__name__}", **options)(func)
        with pytest.raises(rk.KernelCompileError) as caught:
            await runtime.launch(declared)
    said, where, code, who = str(caught.value).splitlines()
    assert re.search(reason, said), said
    assert where == f'  File "{inspect.getfile(func)}", line {marked_line(func)}'
    assert code.strip().endswith("# <-")
    assert who == f"  in kernel 'bad_{func.__name__}', handler {func.__name__}"
    assert not NUMBAS_WORDS.search(said), said


@pytest.mark.parametrize(
    ("name", "words"),
    [("two_types_of_one_name", "Cannot unify"), ("misspelt_in_batch", "prize"), ("imports", "opcode")],
)
async def test_the_cause_has_numbas_own_words(name: str, words: str) -> None:
    func, options = next((func, options) for func, options, _ in CASES if func.__name__ == name)
    async with rk.RingKernelRuntime(workers=1) as runtime:
        with pytest.raises(rk.KernelCompileError) as caught:
            await runtime.launch(rk.ring_kernel(f"bad_{name}", **options)(func))
    cause = caught.value.__cause__
    assert cause is not None
    assert words in str(cause)
    assert cause.__traceback__ is None


def test_what_numba_says_in_a_new_way_is_said_in_general_words() -> None:
    from ringkernel.codegen.wording import NO_FORM, in_plain_words

    assert in_plain_words("Failed in nopython mode pipeline (step: x)\nNo frobnication of $12call", "") == NO_FORM
    assert in_plain_words("Failed in nopython mode pipeline (step: x)\nslices have no eyes\nFile ...", "") == (
        "slices have no eyes"
    )


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("Literal[int](1)", "int64"),
        ("Literal[str](none)", "text"),
        ("readonly array(float64, 1d, A)", "array of float64"),
        ("array(float64, 2d, C)", "2-D array of float64"),
        ("array(Record(value[type=float64;offset=0];8;True), 1d, C)", "array of record"),
        ("ReadOnlyRecord(n[type=int64;offset=0],xs[type=nestedarray(float64, (3,));offset=8];32;True)", "record"),
        ("reflected list(unicode_type)<iv=None>", "list of text"),
        ("UniTuple(int64 x 2)", "tuple"),
        ("OptionalType(array(float64, 1d, C))", "array of float64 or None"),
        ("none", "None"),
    ],
)
def test_numbas_types_are_called_what_their_author_calls_them(given: str, plain: str) -> None:
    from ringkernel.codegen.wording import kind_of

    assert kind_of(given) == plain


# --- what is declared and sent ---------------------------------------------------------------------------------------


def test_an_output_that_is_never_mentioned_is_warned_of() -> None:
    def forgetful(msg: Any, out: Any) -> None:
        msg.price * 2

    declared = rk.ring_kernel("forgetful", input_type=TICK, output_type=float)(forgetful)
    with pytest.warns(UserWarning, match=r"forgetful never mentions `out`, so that each output is zero") as caught:
        assert rk.map(declared, np.zeros(2, TICK)).tolist() == [0, 0]
    assert (caught[0].filename, caught[0].lineno) == (__file__, forgetful.__code__.co_firstlineno)


def test_who_never_emits_need_not_write() -> None:
    def drops(msg: Any, out: Any) -> bool:
        return False

    def raises(msg: Any, out: Any) -> None:
        raise ValueError

    for func in (drops, raises):
        warn_of_unwritten_output("quiet", func)


def typed(msg: float, out: float) -> None:
    out.value = msg.value  # type: ignore[attr-defined]


def untyped(msg, out):  # type: ignore[no-untyped-def]
    out.value = 1


@pytest.mark.parametrize(
    ("func", "messages", "reason"),
    [
        (typed, np.ones((3, 2)), r"got shape \(3, 2\); `array\.ravel\(\)` sends.*\(\"row\", \"float64\", \(2,\)\)"),
        (typed, ["a"], r"expected a number .* got 'a'; convert the text first, as in `np\.float64\(text\)`"),
        (typed, np.array(["1", "2"]), r"got one of dtype <U1; convert it, as in `array\.astype\(np\.float64\)`"),
        (typed, (x for x in [1.0]), r"got <generator .*; make a list of it first"),
        (typed, 3, r"got 3; one message is sent by call\(\)"),
        (untyped, [1.0], r"needs a type: annotate its first parameter, as in `msg: float`"),
        (np.sin, [1.0], r"got <ufunc 'sin'>; call it in a function of your own"),
    ],
)
def test_what_map_cannot_take_is_said_with_what_to_do(func: Any, messages: Any, reason: str) -> None:
    with pytest.raises((rk.MessageTypeError, rk.ConfigurationError), match=reason):
        rk.map(func, messages)


def test_rows_of_an_array_may_become_records() -> None:
    def first(msg: Any, out: Any) -> None:
        out.value = msg.price

    declared = rk.ring_kernel("rows", input_type=TICK, output_type=float)(first)
    with pytest.raises(rk.MessageTypeError, match="unstructured_to_structured"):
        rk.map(declared, np.ones((3, 2)))


# --- what is printed -------------------------------------------------------------------------------------------------


SCRIPT = """
import asyncio, os, signal, sys
import numpy as np
import ringkernel as rk

def double(msg: float, out: float):
    out.value = 2 * msg.value

def typo(msg: float, out: float):
    out.value = 2 * msg.valeu

def pick(msg: float, out: float, state=np.zeros(2)):
    out.value = state[int(msg.value)]

async def slow(ctx):
    async for message in ctx:
        await ctx.send(message)
        if message == 2:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)

def interrupt():
    asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)

async def main(what):
    async with rk.RingKernelRuntime(workers=1) as runtime:
        await runtime.launch(double)
        await runtime.activate(double)
        if what == "compile":
            await runtime.launch(typo)
        if what == "state":
            await runtime.launch(double)
        if what == "timeout":
            await runtime.receive(double, timeout=0.01)
        if what == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(runtime.launch(typo))
        if what == "interrupted":
            interrupt()
            await runtime.receive(double)
        if what == "asleep":
            interrupt()
            await asyncio.sleep(60)
        if what == "mapping":
            await runtime.map(slow, [1, 2, 3])
        if what == "user":
            1 / 0

what = sys.argv[1]
if what == "blocking":
    rk.map(typo, [1.0])
elif what == "blocking interrupted":
    rk.map(slow, [1, 2, 3])
elif what == "fails":
    rk.map(pick, [1.0, 7.0])
else:
    asyncio.run(main(what))
"""

RUN = 'File "s.py", line N, in <module>|asyncio.run(main(what))|File "s.py", line N, in main|await '
PARTIAL = "map over 'slow': 2 of 3 messages were taken; the 2 outputs so far are .partial of this error"
TYPO = (
    "ringkernel.errors.KernelCompileError: msg.valeu: the message has no field 'valeu' (did you mean 'value'?); its "
    """fields are value|File "s.py", line N|out.value = 2 * msg.valeu|in kernel 'typo', handler typo"""
)
PRINTED = {
    "compile": f"{RUN}runtime.launch(typo)|{TYPO}",
    "state": f"{RUN}runtime.launch(double)|ringkernel.errors.KernelExistsError: kernel 'double' exists and is ACTIVE; "
    "terminate() and remove() it, or use another id",
    "timeout": f"{RUN}runtime.receive(double, timeout=0.01)|TimeoutError: nothing came from kernel 'double' within "
    "0.01 s",
    "interrupted": f"{RUN}runtime.receive(double)|KeyboardInterrupt: was waiting for an output of kernel 'double'",
    "asleep": f"{RUN}asyncio.sleep(60)|KeyboardInterrupt",
    "mapping": f"{RUN}runtime.map(slow, [1, 2, 3])|KeyboardInterrupt: {PARTIAL}",
    "blocking": f'File "s.py", line N, in <module>|rk.map(typo, [1.0])|{TYPO}',
    "blocking interrupted": f'File "s.py", line N, in <module>|rk.map(slow, [1, 2, 3])|KeyboardInterrupt: {PARTIAL}',
}


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scripts") / "s.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def printed(script: Path, what: str, **environment: str) -> str:
    """What a script prints that ends with an error."""
    done = subprocess.run(
        [sys.executable, str(script), what],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode != 0
    assert done.stdout == ""
    return done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="some send SIGINT")
@pytest.mark.parametrize("what", PRINTED)
def test_a_script_prints_the_users_lines_and_what_is_wrong(script: Path, what: str) -> None:
    first, *lines = printed(script, what).replace(str(script), "s.py").splitlines()
    assert first == "Traceback (most recent call last):"
    shown = [re.sub(r"line \d+", "line N", line.strip()) for line in lines if not re.fullmatch(r"[\s~^]*", line)]
    assert shown == PRINTED[what].split("|")


def test_a_failed_handler_is_shown_with_its_line_and_the_callers(script: Path) -> None:
    text = printed(script, "fails")
    assert re.findall(r"line \d+, in (\S+)", text)[-2:] == ["pick", "<module>"]
    assert "IndexError: index 7 is out of bounds" in text
    assert "ringkernel/" not in text


def test_the_errors_of_a_group_are_shown_without_our_frames(script: Path) -> None:
    text = printed(script, "group")
    assert "msg.valeu: the message has no field" in text
    assert not re.search(r"ringkernel[/\\]|asyncio[/\\]", text)


def test_all_frames_are_shown_if_somebody_wants_them(script: Path) -> None:
    text = printed(script, "blocking", RINGKERNEL_FULL_TRACEBACK="1")
    assert re.search(r"ringkernel[/\\]runtime[/\\]session.py", text)
    assert re.search(r"numba[/\\]core", text)


def test_errors_that_are_not_ours_are_shown_as_ever(script: Path) -> None:
    text = printed(script, "user")
    assert re.search(r"asyncio[/\\]runners.py", text)
    assert "ZeroDivisionError" in text


IN_IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.colors = "nocolor"
shell.run_cell("import asyncio, ringkernel as rk; queue = rk.MessageQueue(capacity=1)")
shell.run_cell(sys.argv[1])
"""
CELLS = {
    "async with asyncio.timeout(0.01):\n    await queue.get()": "was waiting for what is put into a queue",
    "await asyncio.wait_for(queue.get(), 0.01)": "TimeoutError",
    "await queue.get(timeout=0.01)": "TimeoutError: nothing came within 0.01 s",
    "queue.put_nowait(1); await queue.put(2, timeout=0.01)": "no room within 0.01 s: all 1 slots are taken",
    "async with asyncio.TaskGroup() as tasks:\n    tasks.create_task(queue.get_batch(timeout=0.01))": "nothing came",
}


def shown_in_ipython(cell: str, folder: Path, **environment: str) -> str:
    pytest.importorskip("IPython")
    done = subprocess.run(
        [sys.executable, "-c", IN_IPYTHON, cell],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "IPYTHONDIR": str(folder), **environment},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("cell", CELLS)
def test_ipython_shows_what_asyncio_makes_of_an_error_without_our_frames(cell: str, tmp_path: Path) -> None:
    ours = re.compile(r"(ringkernel|asyncio)[/\\]\w+")
    text = shown_in_ipython(cell, tmp_path)
    assert CELLS[cell] in text
    assert not ours.search(text), text
    assert ours.search(shown_in_ipython(cell, tmp_path, RINGKERNEL_FULL_TRACEBACK="1"))


def test_ipython_shows_errors_that_are_not_ours_as_ever(tmp_path: Path) -> None:
    ours = "try:\n    queue.get_nowait()\nexcept asyncio.QueueEmpty:\n    pass"
    text = shown_in_ipython(f"{ours}\nasync with asyncio.timeout(0.01):\n    await asyncio.sleep(60)", tmp_path)
    assert re.search(r"asyncio[/\\]timeouts.py", text)


HOOKS = """
import sys
import ringkernel as rk

def sink(msg: float): pass

assert rk.map(sink, [1.0]) is None
assert sys.excepthook is sys.__excepthook__
ours = lambda *_: None
sys.excepthook = ours
rk.KernelStateError("x")
assert sys.excepthook is ours
sys.excepthook = sys.__excepthook__
rk.KernelStateError("x")
assert sys.excepthook is not sys.__excepthook__
"""


def test_the_hook_is_set_by_the_first_error_and_only_where_there_is_none() -> None:
    done = subprocess.run([sys.executable, "-c", HOOKS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def raised() -> rk.KernelCompileError:
    """An error with a cause, a context and frames that are not the user's."""
    try:
        rk.ring_kernel("bad", input_type=list)
        try:
            raise KeyError("inner")  # noqa: TRY301
        except KeyError as inner:
            raise rk.KernelCompileError("outer") from inner
    except rk.KernelCompileError as error:
        return error


def test_an_error_is_whole_again_when_it_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    error = raised()
    before = (error.__traceback__, error.__cause__, error.__context__, error.__suppress_context__, error.args)
    tracebacks._show(type(error), error, error.__traceback__)
    assert (error.__traceback__, error.__cause__, error.__context__, error.__suppress_context__, error.args) == before
    assert "KeyError" not in capsys.readouterr().err


def again(error: BaseException) -> Any:
    return pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)


def test_errors_are_pickled() -> None:
    error = asyncio.CancelledError()
    tracebacks.shorten(error, "why")
    assert again(error).args == ("why",)
    for kind in (rk.KernelStateError, rk.KernelNotFoundError, rk.QueueFullError):
        assert again(kind("x")).args == ("x",)


# --- what was stopped ------------------------------------------------------------------------------------------------


async def stopped(work: Any) -> asyncio.CancelledError:
    """What a call says that is cancelled while it waits."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        return error
    raise AssertionError(task.result())


async def test_a_cancellation_says_what_was_going_on() -> None:
    async with rk.RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("idle", typed, queue_size=1)
        assert "was waiting for an output of kernel 'idle'; kernel 'idle' is LAUNCHED: activate() it" in str(
            await stopped(runtime.receive("idle"))
        )
        assert "was waiting for an output of kernel 'idle'" in str(await stopped(runtime.receive_batch("idle")))
        await runtime.send("idle", 1.0)
        assert "was waiting for room in the input of kernel 'idle'" in str(await stopped(runtime.send("idle", 2.0)))
        assert "was waiting for room" in str(await stopped(runtime.send_batch("idle", [2.0, 3.0])))
        assert str(await stopped(runtime.wait("idle"))) == "wait of kernel 'idle' was not over yet"


async def test_a_cancellation_keeps_what_its_author_says() -> None:
    async with rk.RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("idle", typed)
        task = asyncio.ensure_future(runtime.receive("idle"))
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
