"""A handler that failed runs again, in Python, for the traceback: it has a deadline, and changes nothing."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from typing import Any

import numba
import numpy as np
import pytest
from fault_kernels import (
    OwnError,
    check_alive,
    echo,
    failure,
    shown,
    usleep,
)
from helpers import check_books, drain, eventually, start, within
from inside import has_poller

from ringkernel import (
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    message,
    ring_kernel,
)
from ringkernel.devices.compiled.running_again import run_again


class PickyError(Exception):
    def __init__(self, number: Any) -> None:
        super().__init__(number + 1)


@message
class Ema:
    mean: float = 0.0
    max: float = 10.0


@ring_kernel(kernel_id="ft_ema", input_type=float, output_type=Ema, state=Ema())
def ema(msg: Any, out: Any, state: Any) -> None:
    """Fields with names that NumPy's records use for methods, as in the first example anybody writes."""
    state.mean += 0.5 * (msg.value - state.mean)
    if state.mean > state.max:
        raise OwnError("too much")
    out.mean = state.mean


LIMIT = 5
SPIN = False


@numba.njit  # type: ignore[untyped-decorator]  # numba has no types
def hold() -> None:
    while SPIN:
        pass


@ring_kernel(kernel_id="ft_limit", input_type=int, output_type=int)
def frozen_limit(msg: Any, out: Any) -> None:
    """Globals are constants once compiled: the test changes this one afterwards, so Python sees another."""
    hold()
    if msg.value == LIMIT:
        raise OwnError("only when compiled")
    out.value = msg.value


@ring_kernel(kernel_id="ft_total", input_type=int, output_type=int, state=np.zeros((), [("total", "i8")]))
def budget(msg: Any, out: Any, state: Any) -> None:
    if state.total + msg.value > 100:
        raise OverflowError("over budget", state.total)
    state.total += msg.value
    out.value = state.total


async def test_a_failure_is_run_again_on_a_copy_of_the_state(runtime: RingKernelRuntime) -> None:
    error = await failure(runtime, budget, [50, 40, 20, 1])
    assert type(error) is OverflowError
    assert error.args == ("over budget", 90)
    assert (await runtime.read_state("k")).total == 90
    assert drain(runtime, "k") == [50, 90]
    assert runtime.unprocessed("k").tolist() == [1]


async def test_field_names_that_numpy_uses_itself_do_not_mislead_the_traceback(runtime: RingKernelRuntime) -> None:
    error = await failure(runtime, ema, [1.0, 100.0, 1.0])
    assert type(error) is OwnError, shown(error)
    assert error.args == ("too much",)
    assert "in ema" in shown(error)


NESTED = np.dtype([("r", [("i", "i8"), ("xs", "f8", 2)])])


@ring_kernel(kernel_id="ft_nested_again", input_type=NESTED, output_type=NESTED)
def nested(msg: Any, out: Any) -> None:
    out.r = msg.r
    out.r.xs[0] = msg.r.xs[msg.r.i]


async def test_the_traceback_reaches_into_records_within_records(runtime: RingKernelRuntime) -> None:
    messages = np.zeros(2, NESTED)
    messages["r"]["i"] = [1, 2]
    error = await failure(runtime, nested, messages)
    assert type(error) is IndexError, shown(error)
    assert "in nested" in shown(error)


async def failure_that_python_does_not_reproduce(runtime: RingKernelRuntime, monkeypatch: Any, func: Any) -> Any:
    """What a kernel ends with whose compiled code alone still has the limit that its handler was compiled with."""
    await runtime.launch("k", func)
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 10**9)
    await runtime.send_batch("k", np.arange(10))
    await runtime.activate("k")
    await within(runtime.wait("k"))
    return runtime.kernels["k"].error


async def test_a_failure_that_python_does_not_reproduce_says_so(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await failure_that_python_does_not_reproduce(runtime, monkeypatch, frozen_limit)
    assert type(error) is OwnError
    assert error.args == ("only when compiled",)
    assert "did not fail" in shown(error)
    assert "failed on message 5" in shown(error)


@ring_kernel(kernel_id="ft_computed", input_type=int, output_type=int)
def frozen_computed(msg: Any, out: Any) -> None:
    if msg.value == LIMIT:
        raise OwnError("value", msg.value)
    out.value = msg.value


@ring_kernel(kernel_id="ft_picky", input_type=int, output_type=int)
def frozen_picky(msg: Any, out: Any) -> None:
    if msg.value == LIMIT:
        raise PickyError(msg.value)
    out.value = msg.value


@pytest.mark.parametrize(
    ("func", "kind", "arguments"),
    [
        (frozen_computed, OwnError, ("value", "(computed)")),
        (frozen_picky, RuntimeError, ("PickyError('(computed)',)",)),
    ],
    ids=["computed", "picky"],
)
async def test_an_exception_whose_arguments_only_the_compiled_code_knows_ends_the_kernel(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, func: Any, kind: Any, arguments: Any
) -> None:
    """The kernel ends with what is known, also where the exception's class cannot be called with it."""
    error = await failure_that_python_does_not_reproduce(runtime, monkeypatch, func)
    assert (type(error), error.args) == (kind, arguments)


async def test_a_run_again_that_never_ends_has_a_deadline(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runtime.launch("k", frozen_limit)
    await start(runtime, "other", echo)
    monkeypatch.setattr(sys.modules[__name__], "SPIN", True)
    await runtime.send_batch("k", np.arange(10))
    threads = threading.active_count()
    await runtime.activate("k")
    await check_alive(runtime, "other")
    await within(runtime.wait("k"), 3)
    error = runtime.kernels["k"].error
    assert type(error) is OwnError
    assert "did not end within" in shown(error)
    await eventually(lambda: threading.active_count() <= threads)
    assert check_books(runtime, "k").failed == 1


@pytest.mark.parametrize("command", ["deactivate-reactivate", "terminate", "read_state", "map"])
async def test_commands_to_a_kernel_that_has_failed_and_is_being_looked_into(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Between the failure and the end of the run again nobody runs the kernel; nothing may start it once more."""
    await runtime.launch("k", frozen_limit)
    monkeypatch.setattr(sys.modules[__name__], "SPIN", True)
    await runtime.send_batch("k", np.arange(10))
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").failed == 1)
    await eventually(lambda: not has_poller(runtime.kernels["k"]))
    try:
        if command == "deactivate-reactivate":
            await within(runtime.deactivate("k"))
            await within(runtime.reactivate("k"))
        elif command == "terminate":
            await within(runtime.terminate("k", timeout=2))
        elif command == "map":
            drain(runtime, "k")
            await within(runtime.map("k", np.arange(10)))
        else:
            with pytest.raises(MessageTypeError):
                await runtime.read_state("k")
    except KernelStateError:
        pass
    await within(runtime.wait("k"), 3)
    assert type(runtime.kernels["k"].error) is OwnError
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (5, 1, 4)
    assert runtime.unprocessed("k").tolist() == [6, 7, 8, 9]


# --- Python all the way down -----------------------------------------------------------------------------------------


WRITES_ANYWHERE = """
import types
import numba, numpy as np, ringkernel as rk
from ringkernel import testing

@numba.njit
def put(array, i):
    array[i] = 1.0

module = types.ModuleType("module")
module.put = put

@numba.njit
def put_through_a_module(array, i):
    module.put(array, i)

def handler_of(helper):
    @rk.ring_kernel("k", input_type=int, output_type=float, state=np.zeros(16))
    def k(msg, out, state):
        helper(state, msg.value)
        out.value = 0.0
    return k

k = handler_of(put_through_a_module)
around = [np.zeros(16) for _ in range(10_000)]
for i in (1_000, 2**31, 2**40):
    assert testing.in_python(k, [i]).failure is IndexError
    try:
        rk.map(k, [i])
    except rk.KernelFailedError as error:
        assert str(error.__cause__) == f"index {i} is out of bounds for axis 0 with size 16", error.__cause__
assert not any(array.any() for array in around)
print("alive")
"""


def test_a_helper_under_njit_is_run_again_with_index_checks() -> None:
    """Its machine code has none: the process would not live, or other memory be written to."""
    done = subprocess.run(
        [sys.executable, "-c", WRITES_ANYWHERE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


# --- nobody notices --------------------------------------------------------------------------------------------------


RECORDS = np.zeros(3, [("x", "f8")])
SEEN: list[Any] = []
NOTES = False


@ring_kernel(kernel_id="ft_draws", input_type=float, output_type=float)
def draws(msg: Any, out: Any) -> None:
    out.value = np.random.normal() + random.random()  # noqa: NPY002
    if msg.value < 0:
        raise OwnError("negative")


@ring_kernel(kernel_id="ft_calls_c", input_type=float, output_type=float)
def calls_c(msg: Any, out: Any) -> None:
    usleep(1)
    out.value = msg.value
    if msg.value < 0:
        raise OwnError("negative")


@pytest.mark.parametrize(("func", "used"), [(draws, "numpy.random.normal"), (calls_c, "usleep")])
async def test_what_others_might_notice_is_not_run_again(runtime: RingKernelRuntime, func: Any, used: str) -> None:
    before = random.getstate(), repr(np.random.get_state())  # noqa: NPY002 (the generator that all share)
    error = await failure(runtime, func, [1.0, -2.0])
    assert (random.getstate(), repr(np.random.get_state())) == before  # noqa: NPY002
    assert (type(error), error.args) == (OwnError, ("negative",))
    assert f"others might notice that it uses {used}" in shown(error)
    assert "failed on message -2.0" in shown(error)
    assert f'test_running_again.py", line {func.__code__.co_firstlineno}' in shown(error)


@ring_kernel(kernel_id="ft_prints", input_type=int, output_type=float)
def prints(msg: Any, out: Any) -> None:
    print("message", msg.value)  # noqa: T201
    out.value = RECORDS[0].x
    if NOTES:
        RECORDS.x[:] = 1.0  # type: ignore[attr-defined]
    if msg.value < 0:
        raise OwnError("negative")


async def test_what_is_run_again_prints_nothing_and_reads_records_from_outside(
    runtime: RingKernelRuntime, capfd: pytest.CaptureFixture[str]
) -> None:
    error = await failure(runtime, prints, [1, -2])
    assert type(error) is OwnError
    assert "in prints" in shown(error)
    assert capfd.readouterr().out.split() == ["message", "1", "message", "-2"]


async def test_what_is_run_again_writes_to_no_array_from_outside(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch that would was left out when the handler was compiled."""
    await runtime.launch("k", prints)
    monkeypatch.setattr(sys.modules[__name__], "NOTES", True)
    await runtime.send("k", -2)
    await runtime.activate("k")
    await within(runtime.wait("k"))
    error = runtime.kernels["k"].error
    assert error is not None
    assert "read-only" in shown(error)
    assert "the compiled handler raised OwnError" in shown(error)
    assert not RECORDS["x"].any()


def notes(value: Any) -> None:
    SEEN.append(value)


async def test_objects_from_outside_are_not_touched() -> None:
    assert await run_again(notes, [1]) == "was not run again: others might notice that it uses SEEN"
    assert SEEN == []


class Witness:
    """Takes longer to go than a run again may."""

    def __init__(self) -> None:
        self.has_gone = threading.Event()

    def __del__(self) -> None:
        time.sleep(0.6)
        self.has_gone.set()


def drops(held: Any) -> None:
    while True:
        held.clear()


async def test_the_deadline_ends_a_handler_but_no_destructor_that_runs_meanwhile() -> None:
    witness = Witness()
    has_gone, held = witness.has_gone, [witness]
    del witness
    threads = threading.active_count()
    assert "did not end within" in str(await within(run_again(drops, [held])))
    await eventually(lambda: threading.active_count() <= threads)
    assert has_gone.is_set()
