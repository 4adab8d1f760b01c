"""Grids as PTX, without a GPU: every handler compiles and assembles, and the order that the design relies on is there.

For each kind of check a seeded mutation shows that it can fail.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from corpus import CASES, STREAMS, VALUE, Case, handlers_of
from llvmlite import ir
from numba import cuda, types
from ptx import ARCHITECTURES, Ptx, assemble, order_of

from ringkernel import inspecting
from ringkernel.codegen import handler_call, span_body
from ringkernel.codegen import operations as ops
from ringkernel.codegen.faults import LARGEST
from ringkernel.codegen.span_types import SpanTypes
from ringkernel.codegen.specialise import Specializer
from ringkernel.codegen.targets import cuda as cuda_target
from ringkernel.codegen.targets.cuda import instruction, operations
from ringkernel.devices.grid import cuda_program, mailbox
from ringkernel.devices.grid.cuda_program import GridCode, compile_grid, target_with
from ringkernel.devices.grid.handlers import Handler, Handlers
from ringkernel.devices.grid.loop import run_grid
from ringkernel.devices.grid.mailbox import take_over
from ringkernel.ring.block import ledger, token
from ringkernel.ring.protocol import cursors as protocol
from ringkernel.ring.sharing import share
from ringkernel.ring.spans import commit, fill, further_stages, pace, run_span
from ringkernel.ring.turns import turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringkernel.devices.grid.program import GridTarget

CC = (8, 0)
MAX_REGISTERS = 96
DROPS, RAISES = (next(case for case in CASES if case.name == name) for name in ("drops", "raises"))


@functools.cache
def grid(case: Case, *, cc: tuple[int, int] = CC, target: GridTarget | None = None) -> GridCode:
    return compile_grid(run_grid, case.handlers, is_cooperative=case.handlers.is_cooperative, cc=cc, target=target)


def check_polls(code: Ptx) -> None:
    """What others write is loaded anew in every pass, at system scope: four words at a time, and the command."""
    assert len(re.findall(r"ld\.relaxed\.sys\.u64", code.polling_loop())) >= 5


def check_scopes(code: Ptx) -> None:
    """Nothing is ordered for this block only, for this GPU only cursors in device memory, and nothing is changed by
    read-modify-write."""
    assert not re.findall(r"\b(?:ld|st|fence)[.\w]*\.(?:cta|cluster)\b", code.text)
    for_this_gpu = set(re.findall(r"\b(?:ld|st|fence)[.\w]*\.gpu[.\w]*", code.text))
    assert for_this_gpu == {"ld.relaxed.gpu.u64", "st.relaxed.gpu.u64", "fence.acq_rel.gpu"}
    assert not re.findall(r"\b(?:atom|red|membar)\b[.\w]*", code.text)


def check_device_scope(code: Ptx) -> None:
    """Near cursors are loaded anew in every pass; there is a fence after those that are new, and one before those that
    are published: the output's and the inputs'."""
    loop = code.polling_loop()
    assert len(re.findall(r"ld\.relaxed\.gpu\.u64", loop)) >= 1
    assert len(re.findall(r"st\.relaxed\.gpu\.u64", loop)) >= 2
    assert loop.count("fence.acq_rel.gpu") >= 2


def check_order(code: Ptx) -> None:
    """In the loop: a fence after a poll that saw something, two around what is posted, one for the histogram; releases
    of the ledger, the echo and the answer."""
    loop = code.polling_loop()
    assert loop.count("fence.acq_rel.sys") >= 4
    assert loop.count("st.release.sys.u64") >= 3


def check_faults(code: GridCode, case: Case) -> None:
    """The numbers of the handler's exceptions are in the code."""
    numbers = [number for number, (kind, _) in code.raised.items() if kind is OverflowError]
    assert numbers or case is not RAISES
    for number in numbers:
        assert re.search(rf"\b(?:mov|st|selp)[.\w]*\s[^;]*\b{number - LARGEST};", code.ptx), (number, code.raised)
    assert f", {LARGEST};" in code.ptx or not numbers


def check_loads(code: Ptx, case: Case) -> None:
    """Ring memory is not read through the non-coherent cache; constants of the math library may be."""
    assert case.mathematics or not re.findall(r"ld\.(?:global\.)?nc\b", code.text)


def check_calls(code: Ptx, case: Case) -> None:
    """Everything is inlined and in registers, the math library's slow paths aside."""
    assert case.mathematics or not re.findall(r"^\s*call\b|\.local\b", code.text, re.MULTILINE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_handler_compiles_and_assembles(case: Any, tmp_path: Path) -> None:
    code = grid(case)
    ptx = Ptx(code.ptx)
    check_polls(ptx)
    check_scopes(ptx)
    check_device_scope(ptx)
    check_order(ptx)
    check_faults(code, case)
    check_loads(ptx, case)
    check_calls(ptx, case)
    for registers, stack in assemble(code.ptx, ARCHITECTURES, tmp_path):
        assert registers <= MAX_REGISTERS
        assert stack == 0 or case.mathematics


@pytest.mark.parametrize("name", STREAMS)
def test_streams_compile_and_assemble(name: str, tmp_path: Path) -> None:
    """In the grid's own code, and in registers: merges, timers, tables of keys, parameters, random numbers, ends."""
    handlers = handlers_of(STREAMS[name])
    code = compile_grid(run_grid, handlers, is_cooperative=handlers.is_cooperative, cc=CC)
    ptx = Ptx(code.ptx)
    check_polls(ptx)
    check_scopes(ptx)
    check_order(ptx)
    assert not JOINED.findall(code.ptx)
    assert not re.findall(r"^\s*call\b|\.local\b|ld\.(?:global\.)?nc\b", code.ptx, re.MULTILINE)
    assert [kind for number, (kind, _) in code.raised.items() if number in code.stops] == (
        [StopIteration] if name == "cu_draws" else []
    )
    for registers, stack in assemble(code.ptx, ARCHITECTURES, tmp_path):
        assert registers <= 2 * MAX_REGISTERS  # one thread has them all
        assert stack == 0


@pytest.mark.parametrize("cc", [(9, 0), (10, 0)])
def test_code_for_newer_architectures(cc: Any, tmp_path: Path) -> None:
    code = grid(DROPS, cc=cc)
    check_order(Ptx(code.ptx))
    ((_, stack),) = assemble(code.ptx, (f"sm_{cc[0]}{cc[1]}",), tmp_path)
    assert stack == 0


# --- products and sums -------------------------------------------------------------------------------------------


def multiply_and_add(msg: Any, out: Any) -> None:
    out.value = msg.value * msg.value + msg.value


def accumulate(msg: Any, out: Any, state: Any) -> None:
    state[0] = state[0] * msg.value + msg.value
    out.value = state[0]


JOINED = re.compile(r"\b(?:fma|mad)\.\S*f(?:32|64)")
JOINED_IN_SASS = re.compile(r"\b[DF]FMA\b")
FLOAT = np.dtype([("value", "f4")])


@pytest.mark.parametrize("dtype", [VALUE, FLOAT], ids=["f8", "f4"])
@pytest.mark.parametrize("state", [False, True], ids=["cooperative", "in order"])
def test_products_and_sums_are_joined_only_where_that_was_asked_for(dtype: Any, state: Any) -> None:
    handler = accumulate if state else multiply_and_add
    spec = SpanTypes(dtype, dtype, (dtype["value"], (1,)) if state else None)
    text, machine = {}, {}
    for fma in (False, True):
        handlers = Handlers((Handler(handler, spec, never_drops=True),))
        code = compile_grid(run_grid, handlers, is_cooperative=not state, cc=CC, fma=fma)
        text[fma], machine[fma] = code.ptx, inspecting._disassemble(code)
    assert not JOINED.findall(text[False])
    assert JOINED.findall(text[True])
    assert not JOINED_IN_SASS.findall(machine[False])  # nor does the assembler join what the text holds apart
    assert JOINED_IN_SASS.findall(machine[True])
    bits = "f64" if dtype is VALUE else "f32"
    for operation in ("mul", "add"):
        assert re.search(rf"\b{operation}\.rn\.{bits}\b", text[False])


# --- the order, function by function -----------------------------------------------------------------------------


def piece(function: Any, table: Mapping[Any, Any] | None = None) -> str:
    """The PTX of one function of the protocol, alone."""
    bound = Specializer(cuda_target.jit, table or operations()).rebind(function)

    def entry(address: Any) -> None:
        bound(address)

    bound = cuda_target.jit(bound)
    with cuda_target.settings(CC, check=False):
        return str(cuda.compile_ptx(entry, types.void(types.int64), cc=CC)[0])


def test_a_fetch_polls_relaxed_and_fences_once() -> None:
    assert order_of(piece(mailbox.fetch_from_host)) == "lfl"  # the words, the fence, the command
    assert piece(mailbox.fetch_from_host).count("fence") == 1
    assert order_of(piece(mailbox.fetch_from_device)) == "LF"
    assert piece(mailbox.fetch_from_device).count("fence") == 1
    assert order_of(piece(mailbox.fetch)) == "lflfLFlfl"  # ends, times, and then the cursors


def test_a_post_publishes_outputs_before_the_input_cursor() -> None:
    """And tells the neighbours before the host: the slots, then the cursors in device memory, and only then the slow
    stores to host memory: but first, where it goes by time and had nothing to do, that it has."""
    assert order_of(piece(mailbox.post_to_device)) == "FS"
    assert piece(mailbox.post_to_device).count("fence") == 1
    assert order_of(piece(mailbox.post)) == "sfFSsfsfs"


def take_over_behind(control: Any) -> None:
    take_over(control + 4096, control)


def test_a_mailbox_is_taken_over_and_then_fenced() -> None:
    assert order_of(piece(take_over_behind)) == "lf"


def test_an_answer_is_released() -> None:
    assert order_of(piece(mailbox.answer)) == "sr"
    assert piece(mailbox.answer).count("st.release.sys") == 2


def test_the_histogram_is_between_odd_and_even() -> None:
    assert order_of(piece(mailbox.post_histogram)) == "sfsr"


# --- mutations ---------------------------------------------------------------------------------------------------


class Marked:
    """Code in which each instruction of an operation has a comment that says whose it is: one compilation serves all
    mutations."""

    def __init__(self) -> None:
        self.marks: dict[Any, str] = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda_target, "instruction", self._instruction)
            self.table = operations.__wrapped__()
        self.text = grid(DROPS, target=target_with(self.table)).ptx

    def _instruction(self, text: str, *arguments: Any, **options: Any) -> Any:
        mark = f"// operation {len(self.marks)}."
        made = instruction(f"{text} {mark}", *arguments, **options)
        self.marks[made] = mark
        return made

    def broken(self, text: str, changes: dict[str, str]) -> str:
        """The text with other instructions in the place of some operations', or with none."""
        lines = text.split("\n")
        for name, instead in changes.items():
            mark = self.marks[self.table[getattr(ops, name)]]
            lines = [re.sub(r"\S+", instead, one, count=1) if mark in one else one for one in lines]
        return "\n".join(lines)

    def orders(self, changes: dict[str, str], *functions: Any) -> list[str]:
        """The orders of functions of the protocol, with these changes."""
        return [order_of(self.broken(piece(function, self.table), changes)) for function in functions]


@pytest.fixture(scope="module")
def marked() -> Marked:
    made = Marked()
    for check in (check_polls, check_scopes, check_device_scope, check_order):
        check(Ptx(made.text))
    return made


PLAIN_LOAD, PLAIN_STORE, NOTHING = "ld.u64", "st.u64", ""
CTA_LOAD, CTA_FENCE = "ld.relaxed.cta.u64", "fence.acq_rel.cta;"
GPU_LOAD, GPU_FENCE = "ld.relaxed.gpu.u64", "fence.acq_rel.gpu;"


def test_a_plain_poll_is_caught(marked: Marked) -> None:
    with pytest.raises(AssertionError):
        check_polls(Ptx(marked.broken(marked.text, {"load": PLAIN_LOAD})))


@pytest.mark.parametrize(
    "changes",
    [{"load_device": PLAIN_LOAD}, {"store_device": PLAIN_STORE}, {"fence_device": NOTHING}],
    ids=["load", "store", "fence"],
)
def test_device_memory_without_order_is_caught(marked: Marked, changes: Any) -> None:
    code = Ptx(marked.broken(marked.text, changes))
    for check in (check_device_scope, check_scopes):
        with pytest.raises(AssertionError):
            check(code)
    functions = (mailbox.fetch, mailbox.post)
    assert marked.orders({}, *functions) == ["lflfLFlfl", "sfFSsfsfs"]
    assert marked.orders(changes, *functions) != ["lflfLFlfl", "sfFSsfsfs"]


@pytest.mark.parametrize(
    ("changes", "check"),
    [({"load": GPU_LOAD}, check_polls), ({"fence_release": GPU_FENCE}, check_order)],
    ids=["load", "fence"],
)
def test_gpu_scope_towards_the_host_is_caught(marked: Marked, changes: Any, check: Any) -> None:
    with pytest.raises(AssertionError):
        check(Ptx(marked.broken(marked.text, changes)))


@pytest.mark.parametrize("changes", [{"load_device": CTA_LOAD}, {"fence_device": CTA_FENCE}], ids=["load", "fence"])
def test_block_scope_is_caught(marked: Marked, changes: Any) -> None:
    with pytest.raises(AssertionError):
        check_scopes(Ptx(marked.broken(marked.text, changes)))


@pytest.mark.parametrize("name", ["fence_acquire", "fence_release"])
def test_a_missing_fence_is_caught(marked: Marked, name: str) -> None:
    changes = {name: NOTHING}
    with pytest.raises(AssertionError):
        check_order(Ptx(marked.broken(marked.text, changes)))
    functions = (mailbox.fetch_from_host, mailbox.post)
    assert marked.orders({}, *functions) == ["lfl", "sfFSsfsfs"]
    assert marked.orders(changes, *functions) != ["lfl", "sfFSsfsfs"]


def test_a_dropped_fault_path_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    check_faults(grid(RAISES), RAISES)
    monkeypatch.setattr(handler_call, "FAILED", span_body.EMIT)
    blind = handler_call.CallTarget(
        vars(cuda_target)["intrinsic"],
        cuda_target._overload,
        lambda _builder, _status: ir.Constant(handler_call._I64, 0),
    )
    monkeypatch.setattr(cuda_program, "CUDA_CALL", blind)
    code = grid(RAISES, target=target_with(operations()))
    with pytest.raises(AssertionError):
        check_faults(code, RAISES)


def test_a_barrier_that_is_gone_would_be_seen() -> None:
    code = grid(DROPS)
    assert code.ptx.count("barrier.sync") >= 7
    assert "bar.sync" not in code.ptx


# --- one source --------------------------------------------------------------------------------------------------


def test_the_cpu_and_cuda_compile_the_same_functions() -> None:
    """The turn and the ring's protocol are the CPU's own functions, not a second version of them."""
    program = grid(DROPS).program
    compiled = program.private.functions
    turns: tuple[Any, ...] = (
        turn.turn,
        fill.find_input,
        run_span.run_span,
        commit.publish_outputs,
        ledger.keep_ledger,
        pace.adapt_span,
    )
    for function in turns:
        assert function in compiled
    shared: tuple[Any, ...] = (protocol.room_of, protocol.bound_of, protocol.slot_address, protocol.set_tail)
    for function in (*shared, token.give_back):
        assert function in compiled
    for never_in_a_grid in (further_stages.ring_before, share.take_part):
        assert never_in_a_grid not in compiled
    from ringkernel.codegen.targets.cpu import operations
    from ringkernel.devices.compiled import worker_loop
    from ringkernel.words.compiler import WordCompiler

    on_the_cpu = WordCompiler(operations("eventfd"))
    on_the_cpu.function(worker_loop.run_worker)
    modules = (turn, fill, run_span, commit, pace, ledger, token, protocol)
    of_the_turn = {function for function in compiled if function.__module__ in {module.__name__ for module in modules}}
    assert of_the_turn <= set(on_the_cpu.functions)
