"""What the compiler makes of the protocol: the orders that the design relies on are there, and nothing is hoisted.

Each check reads LLVM IR after optimisation, or the assembly of a cross compilation. For each kind of check a mutated
version shows that it can fail.
"""

from __future__ import annotations

import ctypes
import platform
import re
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from ringkernel.codegen import operations as ops
from ringkernel.codegen.operations import load, load_acquire
from ringkernel.codegen.span import compile_span
from ringkernel.codegen.span_types import SpanTypes
from ringkernel.codegen.specialise import Specializer
from ringkernel.codegen.targets.cpu import compile_entry, specializer
from ringkernel.devices.cpu import worker_loop
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, DOORBELL, EDGE, PARKER, RING, RUN_ENTRY
from ringkernel.ring import doorbell, protocol, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# --- reading IR --------------------------------------------------------------------------------------------------


class Instruction:
    """One line of IR, and the lines that define what it uses."""

    def __init__(self, text: str, scope: dict[str, str]) -> None:
        self.text = text.strip()
        self._scope = scope
        name, equals, rest = self.text.partition(" = ")
        if equals and name.startswith("%"):
            scope[name] = rest
        else:
            rest = self.text
        self.opcode = re.sub(r"^(tail|musttail|notail) ", "", rest).split(" ")[0]

    def _pointer(self) -> str:
        found = re.findall(r"ptr (%[^\s,)]+)", self.text)
        return str(found[-1]) if found else ""

    def offset(self) -> int:
        """Of the address of a load or store: the sum of its constants, the field's offset in its record."""
        pointer = self._pointer()
        return self._constants(pointer) if pointer else -1

    def address(self) -> str:
        """How the address of a load or store is defined, all the way."""
        text, seen = "", set[str]()
        todo = [self._pointer()]
        while todo:
            name = todo.pop()
            definition = self._scope.get(name, name)
            text += f"{definition}; "
            if re.match(r"add |inttoptr |getelementptr ", definition) and name not in seen:
                seen.add(name)
                todo += re.findall(r"%[^\s,)]+", definition)
        return text

    def is_private(self) -> bool:
        """Whether this is an access to the stack: a local, or where numba returns a value or an exception."""
        return bool(re.search(r"alloca|%retptr|%excinfo", self.address()))

    def _constants(self, name: str) -> int:
        definition = self._scope.get(name, "")
        if not re.match(r"add |inttoptr |getelementptr ", definition):
            return 0
        names = re.findall(r"%[^\s,)]+", definition)
        numbers = re.findall(r"(?<=, )(?:i64 )?(-?\d+)\b", definition)
        return sum(map(int, numbers)) + sum(self._constants(one) for one in names)


class Function:
    """A compiled function: its instructions block by block, and which blocks lie on a cycle."""

    def __init__(self, value: Any) -> None:
        self.name = value.name
        self.blocks: dict[str, list[Instruction]] = {}
        scope: dict[str, str] = {}
        body = re.sub(r"\[\n(.*?)\n\s*\]", lambda m: m[0].replace("\n", " "), str(value), flags=re.DOTALL)  # switch
        block: list[Instruction] = self.blocks.setdefault("", [])
        for line in body.split("{", 1)[1].splitlines():
            if label := re.match(r'("[^"]+"|[\w.$-]+):', line):
                block = self.blocks.setdefault(label[1].strip('"'), [])
            elif line.startswith("  "):
                block.append(Instruction(line, scope))
        self._after = {name: _targets(code[-1]) for name, code in self.blocks.items() if code}
        self.cyclic = {name for name in self._after if self._leads_to(name, name)}

    def _leads_to(self, start: str, end: str) -> bool:
        seen: set[str] = set()
        todo = list(self._after[start])
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self._after[name]
        return end in seen

    def in_order(self, first: Instruction, second: Instruction) -> bool:
        """Whether the second can run after the first, and never before it."""
        (a, b) = (next(name for name, code in self.blocks.items() if one in code) for one in (first, second))
        if a == b:
            return self.blocks[a].index(first) < self.blocks[a].index(second) and not self._leads_to(a, a)
        return self._leads_to(a, b) and not self._leads_to(b, a)

    def instructions(self) -> list[Instruction]:
        return [one for code in self.blocks.values() for one in code]

    def in_cycles(self) -> list[Instruction]:
        return [one for name, code in self.blocks.items() if name in self.cyclic for one in code]


def _targets(terminator: Instruction) -> list[str]:
    return [name.strip('"') for name in re.findall(r'label %("[^"]+"|[\w.$-]+)', terminator.text)]


class Code:
    """An optimised module."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._module = llvm.parse_assembly(text)
        self.functions = {f.name: Function(f) for f in self._module.functions if not f.is_declaration}

    def named(self, part: str) -> Function:
        """The function of this Python name (numba mangles it with its length)."""
        found = [f for name, f in self.functions.items() if f"{len(part)}{part}B" in name and name.startswith("_ZN")]
        assert len(found) == 1, (part, list(self.functions))
        return found[0]

    def repeated(self, root: str) -> list[Instruction]:
        """The instructions that run again and again: on a cycle of `root`, or in what is called from there."""
        code, called, found = self.named(root).in_cycles(), set[str](), list[Instruction]()
        while code:
            found += code
            names = {callee for one in code if (callee := _callee(one)) in self.functions} - called
            called |= names
            code = [one for name in names for one in self.functions[name].instructions()]
        return found


def _callee(instruction: Instruction) -> str:
    match = re.search(r'\bcall\b[^@]*@"?([\w.$]+)', instruction.text)
    return match[1] if match else ""


def loads(code: list[Instruction], offset: int, order: str | None = "acquire") -> list[Instruction]:
    """The loads from this offset that are atomic with this order; `order=None`: not atomic at all."""
    found = [one for one in code if one.opcode == "load" and one.offset() == offset]
    if order is None:
        return [one for one in found if "load atomic" not in one.text and not one.is_private()]
    return [one for one in found if re.search(rf"load atomic i64, ptr .* {order}, align 8", one.text)]


def stores(code: list[Instruction], offset: int, order: str) -> list[Instruction]:
    found = [one for one in code if one.opcode == "store" and one.offset() == offset]
    return [one for one in found if re.search(rf"store atomic .* {order}, align 8", one.text)]


def position(code: list[Instruction], part: str) -> int:
    """Where the first instruction with this text stands."""
    return next(i for i, one in enumerate(code) if part in one.text)


# --- compiling ---------------------------------------------------------------------------------------------------


def compiled(function: Callable[..., Any], n_arguments: int, with_: Specializer | None = None) -> Code:
    bound = (with_ or specializer(False)).rebind(function)
    jit = njit((types.int64,) * n_arguments, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    dispatcher = jit(bound)
    return Code(dispatcher.overloads[dispatcher.signatures[0]].library.get_llvm_str())


@intrinsic
def plain_load(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def plain_store(typingctx: Any, address: Any, value: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], ir.IntType(64).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def no_fence(typingctx: Any) -> Any:
    return types.void(), lambda context, *_: context.get_dummy_value()


def mutant() -> Specializer:
    """The CPU's operations without their atomics: what the checks have to catch."""
    sound = specializer(False)
    kept = (ops.compare_exchange, ops.exchange, ops.spin_hint, ops.ticks, ops.call_span, ops.copy_bytes, ops.this_cpu)
    replacements = {name: sound(name) for name in (*kept, ops.sleep_on, ops.wake, ops.leave_cpu, ops.waits_for_cpu)}
    replacements |= {ops.load: plain_load, ops.load_acquire: plain_load}
    replacements |= {ops.store: plain_store, ops.store_release: plain_store}
    replacements |= {ops.fence: no_fence, ops.fence_release: no_fence}
    jit = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
    return Specializer(jit, replacements)


def watch(flag: int) -> int:
    """The smallest polling loop."""
    passes = 0
    while load_acquire(flag + 128) == 0:
        passes += 1
    return passes


@pytest.fixture(scope="module")
def worker() -> Code:
    return compiled(worker_loop.run_worker, 2)


@pytest.fixture(scope="module")
def mutated_worker() -> Code:
    return compiled(worker_loop.run_worker, 2, mutant())


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
    sound, mutated = compiled(watch, 1).named("watch"), compiled(watch, 1, mutant()).named("watch")
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
    sound = compiled(protocol.wait_bound, 3).repeated("wait_bound")
    mutated = compiled(protocol.wait_bound, 3, mutant()).repeated("wait_bound")
    assert loads(sound, RING.tail)
    assert loads(sound, EDGE.limit)
    assert not loads(mutated, RING.tail)
    assert not loads(mutated, EDGE.limit)


# --- the orders that the protocol relies on ----------------------------------------------------------------------


def test_set_tail_publishes_with_release() -> None:
    code = compiled(protocol.set_tail, 2).named("set_tail").instructions()
    assert stores(code, RING.tail, "release")
    assert not stores(compiled(protocol.set_tail, 2, mutant()).named("set_tail").instructions(), RING.tail, "release")


def test_consume_gives_back_with_release() -> None:
    code = compiled(protocol.consume, 2).named("consume").instructions()
    assert stores(code, EDGE.head, "release")
    assert not stores(compiled(protocol.consume, 2, mutant()).named("consume").instructions(), EDGE.head, "release")


def test_bound_of_acquires_the_cursor_and_the_limit() -> None:
    code = compiled(protocol.bound_of, 2).named("bound_of").instructions()
    assert loads(code, RING.tail)
    assert loads(code, EDGE.limit)


def test_slowest_head_acquires_the_heads() -> None:
    code = compiled(protocol.slowest_head, 1).named("slowest_head").instructions()
    assert len([one for one in code if "load atomic" in one.text and " acquire" in one.text]) >= 2


@pytest.mark.parametrize("function", [protocol.push, protocol.pop], ids=lambda f: f.__name__)
def test_the_copy_of_a_message_stands_before_the_release_of_its_cursor(function: Callable[..., Any]) -> None:
    code = compiled(function, 2).named(function.__name__).instructions()
    look = next(i for i, one in enumerate(code) if " acquire, align 8" in one.text or "room_of" in one.text)
    assert look < position(code, "llvm.memcpy") < position(code, " release, align 8")


FENCED = [
    # function, arguments, the store before the fence, whether it is a release
    (protocol.publish, 2, RING.tail, "release"),
    (protocol.consume, 2, EDGE.head, "release"),
    (turn.rest, 1, RUN_ENTRY.state, "monotonic"),
    (worker_loop.park, 2, PARKER.parked, "monotonic"),
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


@pytest.mark.parametrize(("function", "n", "offset", "order"), FENCED, ids=lambda v: getattr(v, "__name__", ""))
def test_a_full_fence_separates_what_is_published_from_the_next_look(
    function: Callable[..., Any], n: int, offset: int, order: str
) -> None:
    name = function.__name__
    assert store_fence_load(compiled(function, n).named(name).instructions(), offset, order)
    assert not store_fence_load(compiled(function, n, mutant()).named(name).instructions(), offset, order)


def test_arming_a_doorbell_and_waking_a_parker_are_fenced() -> None:
    arm = compiled(doorbell.arm_doorbell, 1).named("arm_doorbell").instructions()
    assert position(arm, "cmpxchg") < position(arm, "fence seq_cst")
    wake = compiled(doorbell.unpark, 1).named("unpark").instructions()
    assert position(wake, "fence seq_cst") < wake.index(loads(wake, PARKER.parked, "monotonic")[0])


def test_the_outputs_of_a_span_are_released_before_its_input_cursor(worker: Code) -> None:
    function = worker.named("run_span")
    code = function.instructions()
    (call,) = (one for one in code if re.match(r"%\S+ = (tail )?call i64 %", one.text))  # through its address
    commits = [one for one in code if one.opcode == "cmpxchg" and "i64 1, i64 2" in one.text]  # CLAIMED to COMMIT
    assert RING.tail == EDGE.head == 0
    releases = [one for one in stores(code, 0, "release") if function.in_order(call, one)]
    heads = [one for one in releases if "%arg.edge" in one.address()]
    (tail,) = (one for one in releases if one not in heads)
    assert (CLAIMED, COMMIT) == (1, 2)
    (commit,) = commits
    assert function.in_order(call, commit)
    assert function.in_order(commit, tail)
    assert all(function.in_order(commit, head) for head in heads)
    assert any(function.in_order(tail, head) for head in heads)
    assert not any(function.in_order(head, tail) for head in heads)


def test_the_token_is_given_back_with_release(worker: Code) -> None:
    code = compiled(turn.give_back, 3).named("give_back").instructions()
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
    start = lines.index(next(one for one in lines if one.startswith(code.named(name).name + ":")))
    end = next(i for i in range(start, len(lines)) if lines[i].startswith(".Lfunc_end"))
    return [line.split()[0] for line in lines[start:end] if line.startswith("\t") and not line.strip().startswith(".")]


ON_ARM = [
    # function, arguments, at least these instructions
    (protocol.bound_of, 2, {"acquire": 2}),
    (protocol.slowest_head, 1, {"acquire": 2}),
    (protocol.set_tail, 2, {"release": 1}),
    (protocol.publish, 2, {"release": 1, "fence": 1}),
    (protocol.consume, 2, {"release": 1, "fence": 1}),
    (worker_loop.park, 2, {"acquire": 1, "fence": 1}),
    (turn.rest, 1, {"fence": 1}),
    (watch, 1, {"acquire": 1}),
]
_MNEMONICS = {"acquire": ("ldar", "ldapr"), "release": ("stlr",), "fence": ("dmb",)}


@pytest.mark.parametrize(("function", "n", "wanted"), ON_ARM, ids=lambda v: getattr(v, "__name__", ""))
def test_the_orders_arrive_on_aarch64(arm: Any, function: Callable[..., Any], n: int, wanted: dict[str, int]) -> None:
    def counts(with_: Specializer | None) -> dict[str, int]:
        found = assembly(arm, compiled(function, n, with_), function.__name__)
        return {kind: sum(one in _MNEMONICS[kind] for one in found) for kind in wanted}

    sound, mutated = counts(None), counts(mutant())
    assert all(sound[kind] >= number for kind, number in wanted.items()), sound
    assert all(number == 0 for kind, number in mutated.items()), mutated  # the same check, without the orders


# --- spans -------------------------------------------------------------------------------------------------------

VALUE = np.dtype([("value", "f8")], align=True)
TICK = np.dtype([("id", "i8"), ("price", "f8")], align=True)


def scale(msg: Any, out: Any) -> None:
    out.value = 2.0 * msg.value + 1.0


def remember(msg: Any, out: Any, state: Any) -> None:
    state.value = state.value * 0.5 + msg.value
    out.value = state.value


def only_positive(msg: Any, out: Any) -> bool:
    out.value = msg.value
    return msg.value > 0.0


def transform(msg: Any, out: Any) -> None:
    out.value = np.sinh(msg.value)


def span_code(handler: Callable[..., Any], state: Any = None, **options: Any) -> list[Instruction]:
    """What the span runs per message."""
    span = compile_span(handler, SpanTypes(VALUE, VALUE, state, **options))
    code = Code(span.library.get_llvm_str())
    loops = [f for f in code.functions.values() if f.cyclic]
    assert loops, "there is no loop"
    return [one for function in loops for one in function.in_cycles()]


def is_atomic(code: list[Instruction]) -> bool:
    return any(re.search(r"\batomic\b|cmpxchg|atomicrmw|\bfence\b", one.text) for one in code)


def calls(code: list[Instruction]) -> list[str]:
    return [one.text for one in code if one.opcode in ("call", "invoke") and "@llvm." not in one.text]


def is_packed(code: list[Instruction]) -> bool:
    return any(re.search(r"(fmul|fadd|llvm\.f(ma|muladd)).*<\d+ x double>", one.text) for one in code)


def test_a_simple_span_vectorises_and_has_no_atomics_and_no_calls() -> None:
    code = span_code(scale)
    assert is_packed(code)
    assert not is_atomic(code)
    assert not calls(code)


def test_a_dropping_and_a_stateful_span_have_no_atomics_and_no_calls() -> None:
    state = (VALUE, None)
    for code in (span_code(only_positive), span_code(remember, state)):
        assert not is_atomic(code)
        assert not calls(code)


def test_the_checks_of_spans_can_fail() -> None:
    assert not is_packed(span_code(remember, (VALUE, None)))  # each message needs the one before
    assert calls(span_code(transform))
    assert is_atomic(compiled(worker_loop.run_worker, 2).repeated("run_worker"))


def multiply_and_add(msg: Any, out: Any) -> None:
    out.value = msg.value * msg.value + (-1.0 - 2.0**-26)


JOINED = re.compile(r"\b(?:vfn?m(?:add|sub)|fn?m(?:add|sub|la|ls))\w*", re.IGNORECASE)
"""A product and a sum in one instruction, on x86 and on ARM."""


def test_a_span_rounds_the_product_before_it_goes_into_the_sum() -> None:
    """In one step they would give other bits than on a machine, or a device, that takes two."""
    span = compile_span(multiply_and_add, SpanTypes(VALUE, VALUE, None))
    assert not JOINED.findall(span.library.get_asm_str())
    values, results = np.full(64, 1 + 2.0**-27), np.ones(64)  # the square is 1 + 2**-26 + 2**-54
    call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 5)(span.address)
    fault = np.zeros(8, np.int64)
    assert call(values.ctypes.data, 64, results.ctypes.data, 0, fault.ctypes.data) == 64
    assert not results.any()


def test_that_check_can_fail() -> None:
    if not llvm.get_host_cpu_features().get("fma", platform.machine() in ("aarch64", "arm64")):
        pytest.skip("this CPU has no such instruction")

    def joined(a: float) -> float:
        return a * a + (-1.0 - 2.0**-26)

    dispatcher = njit("float64(float64)", fastmath={"contract"})(joined)
    assert JOINED.findall("".join(dispatcher.inspect_asm().values()))
    assert dispatcher(1 + 2.0**-27) == 2.0**-54


def test_a_record_of_two_fields_stays_free_of_calls_too() -> None:
    def handler(msg: Any, out: Any) -> None:
        out.id = msg.id
        out.price = msg.price * 2.0

    span = compile_span(handler, SpanTypes(TICK, TICK, None))
    code = [one for f in Code(span.library.get_llvm_str()).functions.values() for one in f.in_cycles()]
    assert code
    assert not calls(code)
    assert not is_atomic(code)


def test_an_entry_is_called_with_integers_and_returns_one() -> None:
    words = np.array([0, 7], np.int64)
    assert compile_entry(_second, 1)(int(words.ctypes.data)) == 7


def _second(address: int) -> int:
    return load(address + 8)


def test_offsets_are_found_through_every_form_of_address() -> None:
    """The reader itself: an offset of a doorbell, through `add` and through `getelementptr`."""
    code = compiled(doorbell.ring_doorbell, 1).named("ring_doorbell").instructions()
    assert loads(code, DOORBELL.state, "monotonic")
    assert loads(code, DOORBELL.parker_address, "monotonic")
    assert not loads(code, 4096, "monotonic")


def all_orders(code: Code) -> Iterator[str]:
    yield from re.findall(r"(?:load|store) atomic .*? (monotonic|acquire|release|seq_cst), align", code.text)


def test_ordered_accesses_are_not_stronger_than_the_design_says(worker: Code) -> None:
    """seq_cst loads and stores would cost a full barrier each; only fences and read-modify-writes are that strong."""
    assert set(all_orders(worker)) == {"monotonic", "acquire", "release"}
