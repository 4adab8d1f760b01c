"""The orders that the protocol relies on are in the machine code, on x86-64 and aarch64, and nothing is hoisted.

Each check reads LLVM IR after optimisation, or the assembly of a cross compilation. For each kind of check a mutated
version shows that it can fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import pytest

from ringkernel.bench import single
from ringkernel.devices.compiled import worker_loop
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, DOORBELL, EDGE, PARKER, RING, RUN_ENTRY
from ringkernel.ring.block import token
from ringkernel.ring.protocol import cursors as protocol
from ringkernel.ring.protocol import doorbell
from ringkernel.ring.spans import commit
from ringkernel.ring.turns import turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from ir import Code, Instruction, compiled, loads, mutant, position, stores, watch


@pytest.fixture(scope="module")
def worker() -> Code:
    return compiled(worker_loop.run_worker)


@pytest.fixture(scope="module")
def mutated_worker() -> Code:
    return compiled(worker_loop.run_worker, mutant())


# --- polling loops -----------------------------------------------------------------------------------------------

POLLED = {
    "stop": PARKER.stop,
    "epoch": BLOCK.epoch,
    "tail or inbox or owner": RING.tail,
    "limit": EDGE.limit,
    "head of a consumer": EDGE.head,
    "closed": EDGE.closed,
}


def test_a_plain_load_is_hoisted_out_of_the_smallest_loop_and_an_atomic_one_is_not() -> None:
    sound, mutated = compiled(watch).named("watch"), compiled(watch, mutant()).named("watch")
    assert loads(sound.in_cycles(), 128)
    assert not [one for one in mutated.in_cycles() if one.opcode == "load"]  # the trap that the atomics are for


@pytest.mark.parametrize("what", POLLED)
def test_the_worker_loop_polls_with_acquire_loads(worker: Code, what: str) -> None:
    assert loads(worker.repeated("run_worker"), POLLED[what])
    assert not loads(worker.repeated("run_worker"), POLLED[what], None)


@pytest.mark.parametrize("what", POLLED)
def test_the_check_of_the_worker_loop_can_fail(mutated_worker: Code, what: str) -> None:
    assert not loads(mutated_worker.repeated("run_worker"), POLLED[what])


def test_the_stop_word_is_read_inside_the_loop_itself(worker: Code) -> None:
    assert loads(worker.named("run_worker").in_cycles(), PARKER.stop)


def test_no_access_of_the_worker_loop_is_a_plain_one(worker: Code, mutated_worker: Code) -> None:
    def plain(code: Code) -> list[str]:
        accesses = [
            one for one in code.repeated("run_worker") if one.opcode in ("load", "store") and not one.is_private()
        ]
        return [one.text for one in accesses if "atomic" not in one.text]

    assert plain(worker) == []
    assert plain(mutated_worker)


def test_wait_bound_looks_at_the_cursor_and_the_limit_again_in_each_pass() -> None:
    sound = compiled(protocol.wait_bound).repeated("wait_bound")
    mutated = compiled(protocol.wait_bound, mutant()).repeated("wait_bound")
    assert loads(sound, RING.tail)
    assert loads(sound, EDGE.limit)
    assert not loads(mutated, RING.tail)
    assert not loads(mutated, EDGE.limit)


# --- the orders that the protocol relies on ----------------------------------------------------------------------


def test_set_tail_publishes_with_release() -> None:
    code = compiled(protocol.set_tail).named("set_tail").instructions()
    assert stores(code, RING.tail, "release")
    assert not stores(compiled(protocol.set_tail, mutant()).named("set_tail").instructions(), RING.tail, "release")


def test_consume_gives_back_with_release() -> None:
    code = compiled(protocol.consume).named("consume").instructions()
    assert stores(code, EDGE.head, "release")
    assert not stores(compiled(protocol.consume, mutant()).named("consume").instructions(), EDGE.head, "release")


def test_bound_of_acquires_the_cursor_and_the_limit() -> None:
    code = compiled(protocol.bound_of).named("bound_of").instructions()
    assert loads(code, RING.tail)
    assert loads(code, EDGE.limit)


def test_slowest_head_acquires_the_heads() -> None:
    code = compiled(protocol.slowest_head).named("slowest_head").instructions()
    assert len([one for one in code if "load atomic" in one.text and " acquire" in one.text]) >= 2


@pytest.mark.parametrize("function", [single.push, single.pop], ids=["push", "pop"])
def test_the_copy_of_a_message_stands_before_the_release_of_its_cursor(
    function: Callable[..., Any],
) -> None:
    code = compiled(function).named(function.__name__).instructions()
    look = next(i for i, one in enumerate(code) if " acquire, align 8" in one.text or "room_of" in one.text)
    assert look < position(code, "llvm.memcpy") < position(code, " release, align 8")


FENCED = [
    # function, the store before the fence, whether it is a release
    (protocol.publish, RING.tail, "release"),
    (protocol.consume, EDGE.head, "release"),
    (turn.rest, RUN_ENTRY.state, "release"),
    (worker_loop.park, PARKER.parked, "monotonic"),
]


def store_fence_load(code: list[Instruction], offset: int, order: str) -> bool:
    """Whether a seq_cst fence stands between the store and the next load."""
    store = [i for i, one in enumerate(code) if one in stores(code, offset, order)]
    if not store:
        return False
    after = code[store[0] + 1 :]
    looks = ("load", "cmpxchg", "call", "br", "ret")
    return (
        next((one.text for one in after if one.opcode in looks or one.opcode == "fence"), "").strip() == "fence seq_cst"
    )


@pytest.mark.parametrize(("function", "offset", "order"), FENCED, ids=lambda v: getattr(v, "__name__", ""))
def test_a_full_fence_separates_what_is_published_from_the_next_look(
    function: Callable[..., Any], offset: int, order: str
) -> None:
    name = function.__name__
    assert store_fence_load(compiled(function).named(name).instructions(), offset, order)
    assert not store_fence_load(compiled(function, mutant()).named(name).instructions(), offset, order)


def test_arming_a_doorbell_and_waking_a_parker_are_fenced() -> None:
    arm = compiled(doorbell.arm_doorbell).named("arm_doorbell").instructions()
    assert position(arm, "cmpxchg") < position(arm, "fence seq_cst")
    wake = compiled(doorbell.unpark).named("unpark").instructions()
    assert position(wake, "fence seq_cst") < wake.index(loads(wake, PARKER.parked, "monotonic")[0])


def test_a_span_is_committed_before_any_of_it_is_published() -> None:
    """In which order the cursors then move, `test_commit_orders.py` plays."""
    function = compiled(commit.commit).named("commit")
    code = function.instructions()
    (claim,) = (one for one in code if one.opcode == "cmpxchg" and "i64 1, i64 2" in one.text)
    (publishes,) = (one for one in code if "@publish_span" in one.text)
    assert (CLAIMED, COMMIT) == (1, 2)
    assert function.in_order(claim, publishes)
    assert not [one for one in code if " release, " in one.text]


def test_the_token_is_given_back_with_release(worker: Code) -> None:
    code = compiled(token.give_back).named("give_back").instructions()
    echo = code.index(stores(code, BLOCK.echo, "release")[0])
    status = code.index(stores(code, BLOCK.status, "monotonic")[0])
    assert status < echo < position(code, "fence seq_cst")


# --- aarch64 -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arm() -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple("aarch64-linux-gnu").create_target_machine(opt=2)


def assembly(arm: Any, code: Code, name: str) -> list[str]:
    """The instructions of one function, cross compiled."""
    text = re.sub(r"(?m)^target (datalayout|triple) = .*$", "", code.text)
    text = re.sub(r'"(target-cpu|target-features|tune-cpu)"="[^"]*"', "", text)
    text = re.sub(r"(?m)^.*@llvm\.x86\.sse2\.pause\(\).*$", "", text)
    module = llvm.parse_assembly(f'target triple = "aarch64-linux-gnu"\n{text}')
    module.verify()
    lines = arm.emit_assembly(module).splitlines()
    start = lines.index(next(one for one in lines if one.startswith(name + ":")))
    end = next(i for i in range(start, len(lines)) if lines[i].startswith(".Lfunc_end"))
    return [line.split()[0] for line in lines[start:end] if line.startswith("\t") and not line.strip().startswith(".")]


ON_ARM = [
    # function, at least these instructions
    (protocol.bound_of, {"acquire": 2}),
    (protocol.slowest_head, {"acquire": 2}),
    (protocol.set_tail, {"release": 1}),
    (protocol.publish, {"release": 1, "fence": 1}),
    (protocol.consume, {"release": 1, "fence": 1}),
    (worker_loop.park, {"acquire": 1, "fence": 1}),
    (turn.rest, {"release": 1, "fence": 1}),
    (watch, {"acquire": 1}),
]
_MNEMONICS = {"acquire": ("ldar", "ldapr"), "release": ("stlr",), "fence": ("dmb",)}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("function", "wanted"), ON_ARM, ids=lambda v: getattr(v, "__name__", ""))
def test_the_orders_arrive_on_aarch64(arm: Any, function: Callable[..., Any], wanted: dict[str, int]) -> None:
    def counts(operations: dict[Any, Any] | None) -> dict[str, int]:
        found = assembly(arm, compiled(function, operations), function.__name__)
        return {kind: sum(one in _MNEMONICS[kind] for one in found) for kind in wanted}

    sound, mutated = counts(None), counts(mutant())
    assert all(sound[kind] >= number for kind, number in wanted.items()), sound
    assert all(number == 0 for kind, number in mutated.items()), mutated  # the same check, without the orders


def test_offsets_are_found_through_every_form_of_address() -> None:
    """The reader itself: an offset of a doorbell, through `add` and through `getelementptr`."""
    code = compiled(doorbell.ring_doorbell).named("ring_doorbell").instructions()
    assert loads(code, DOORBELL.state, "monotonic")
    assert loads(code, DOORBELL.parker_address, "monotonic")
    assert not loads(code, 4096, "monotonic")


def all_orders(code: Code) -> Iterator[str]:
    yield from re.findall(r"(?:load|store) atomic .*? (monotonic|acquire|release|seq_cst), align", code.text)


def test_ordered_accesses_are_not_stronger_than_the_design_says(worker: Code) -> None:
    """seq_cst loads and stores would cost a full barrier each; only fences and read-modify-writes are that strong."""
    assert set(all_orders(worker)) == {"monotonic", "acquire", "release"}
