"""A kernel and its host: commands, its state, an input that is appended, a handler that is given up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kernels import (
    BELL_AT,
    BLOCK_AT,
    ENTRY_AT,
    HANDLED_AT,
    INPUT_AT,
    INPUT_EDGE,
    INPUT_TABLE,
    LOOP_AT,
    OUTPUT_AT,
    PLAYED,
    STATE,
    WORKER_AT,
    handler,
    kernel,
    ring,
    slot,
)
from played import copying, load_all, namespace, noted
from search import System, step

from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    CLAIMED,
    COMMAND_PAUSE,
    EDGE,
    FREE,
    GONE,
    REVOKED,
    RING,
    RUN_ENTRY,
    RUNG,
    STATUS_DEACTIVATED,
)
from ringkernel.ring.block.token import LEFT

if TYPE_CHECKING:
    from search import End, Program

EPOCH = 7
LATE_AT, LOOKED_AT, COPY_AT, TAGS_AT = (i << 40 for i in range(60, 64))
LEDGER = (BLOCK.processed, BLOCK.emitted)
WATCHED = (BLOCK_AT + BLOCK.processed, BLOCK_AT + BLOCK.emitted, BLOCK_AT + STATE, INPUT_EDGE + EDGE.head)


def pauses(source: str) -> System:
    """A kernel in the middle of two messages is paused, and afterwards its state is written to. From when the worker
    has seen the command no handler runs, and of what it has done nothing is missing once it has answered."""
    words = kernel()
    words[ENTRY_AT + RUN_ENTRY.span_limit] = 1
    words.update({INPUT_AT + RING.tail: 2, slot(INPUT_AT, 0, 4): 0, slot(INPUT_AT, 1, 4): 1})

    def call_span(*arguments: int) -> Any:
        assert (yield from step("load", LATE_AT)) == 0, "a handler runs after its kernel was seen to be paused"
        looks = yield from step("load", LOOKED_AT)
        assert looks == 1, "two spans run between two looks at the command"
        yield from step("store", LOOKED_AT, 0)
        return (yield from handler(*arguments))

    code = namespace("turn", source, **{**PLAYED, "call_span": call_span})

    def noting(name: str, *arguments: int) -> Any:
        told = yield from step(name, *arguments)
        if name == "load_acquire" and arguments[0] == BLOCK_AT + BLOCK.epoch:
            yield from step("store", LOOKED_AT, 1)
            yield from step("store", LATE_AT, int(told == EPOCH))
        return told

    code["step"] = noting

    def host() -> Any:
        yield from hosts_code["give_command"](BLOCK_AT, COMMAND_PAUSE, EPOCH, ENTRY_AT + 4096, 0)
        while (yield from step("load_acquire", BLOCK_AT + BLOCK.echo)) != EPOCH:  # as `Handshake.ask` does
            yield from hosts_code["arm_doorbell"](BELL_AT)
            if (yield from step("load_acquire", BLOCK_AT + BLOCK.echo)) == EPOCH:
                break
            yield from step("sleep_on", LOOP_AT + 4096)
            yield from hosts_code["collect_tags"](LOOP_AT, TAGS_AT, 8)
        assert (yield from step("load", BLOCK_AT + BLOCK.status)) == STATUS_DEACTIVATED, "an answer without its status"
        seen = []
        for word in WATCHED:
            seen.append((yield from step("load", word)))
        yield from step("store", BLOCK_AT + STATE, 99)
        return seen

    hosts_code = namespace("turn", source, **PLAYED)

    def check(end: End) -> None:
        assert "host" not in end.waiting, "a pause is never answered"
        n = len(noted(end.word, HANDLED_AT))
        assert end.results["host"] == [n] * len(WATCHED), "after the answer something of a span is still to come"
        assert end.word(BLOCK_AT + STATE) == 99, "a handler ran after the answer"
        assert [end.word(word) for word in WATCHED[:2]] == [n, n]

    agents = {"worker": lambda: code["run_worker"](WORKER_AT, 0), "host": host}
    return System("a kernel is paused", words, agents, check)


def reads_state(source: str) -> System:
    """The host copies the state of a kernel, and its ledger, while a turn runs."""
    words = kernel(state=ARMED)
    words.update({INPUT_AT + RING.tail: 1, slot(INPUT_AT, 0, 4): 0})
    code = namespace("turn", source, **{**PLAYED, "copy_bytes": copying({BLOCK_AT: LEDGER})})

    def host() -> Any:
        for _ in range(2):
            if (yield from code["copy_state"](BLOCK_AT, COPY_AT)) == 1:
                copied = yield from load_all((COPY_AT, COPY_AT + 8))
                assert copied[0] == copied[1], "a state was read in the middle of a span"
        if (yield from code["copy_ledger"](BLOCK_AT, COPY_AT)) == 1:
            copied = yield from load_all(COPY_AT + word for word in LEDGER)
            assert copied[0] == copied[1], "a ledger was read while it was changed"

    def check(end: End) -> None:
        assert not end.waiting
        assert end.word(BLOCK_AT + BLOCK.state_version) == 2, "the version is even once the span is over"

    return System("a state is read", words, {"worker": lambda: code["turn"](ENTRY_AT, 0), "host": host}, check)


def appends_an_input(source: str, *, sleeps: bool) -> System:
    """The host appends an input to a kernel that runs, as `ControlBlock.read_from` does, and sends there. Behind the
    first table lies what would be an input with a message, if it was one."""
    words = kernel(state=RUNG if sleeps else ARMED)
    other, edge, table = INPUT_AT + (1 << 32), INPUT_EDGE + (1 << 16), INPUT_TABLE + 4096
    ring(words, other, 4, [edge])
    wrong, nobodys = INPUT_AT + (2 << 32), INPUT_EDGE + (2 << 16)
    ring(words, wrong, 4, [nobodys])
    words.update({BLOCK_AT + INPUT_TABLE + 8: nobodys - BLOCK_AT, wrong + RING.tail: 1, slot(wrong, 0, 4): 99})
    words[edge + EDGE.ring] = 0  # until the host has said so
    words[edge + EDGE.doorbell_address] = ENTRY_AT + 4096
    code = namespace("turn", source, **PLAYED)

    def host() -> Any:
        write = code["write_word"]
        yield from step("store", edge + EDGE.ring, other - edge)
        yield from write(BLOCK_AT + table, INPUT_EDGE - BLOCK_AT)
        yield from write(BLOCK_AT + table + 8, edge - BLOCK_AT)
        yield from write(BLOCK_AT + BLOCK.inputs, table)
        yield from write(BLOCK_AT + BLOCK.n_inputs, 2)
        yield from step("store", slot(other, 0, 4), 5)
        yield from code["publish"](other, 1, 0)

    def check(end: End) -> None:
        handled = noted(end.word, HANDLED_AT)
        assert 99 not in handled, "the number of inputs was seen before their table"
        assert not sleeps or handled == [5], "a message to a new input waits for ever"

    def turns() -> Any:
        for _ in range(2):
            yield from code["turn"](ENTRY_AT, 0)

    agents: dict[str, Program] = {"worker": turns, "host": host}
    if sleeps:
        agents["worker"] = lambda: code["run_worker"](WORKER_AT, 0)
    return System("an input is appended", words, agents, check)


def gives_up(source: str) -> System:
    """The supervisor takes a kernel in the middle of a span, or between two turns."""
    words = kernel(state=ARMED)
    words.update({INPUT_AT + RING.tail: 1, slot(INPUT_AT, 0, 4): 5})
    code = namespace("turn", source, **PLAYED)

    def worker() -> Any:
        for _ in range(2):
            came = yield from code["turn"](ENTRY_AT, 0)
            if came == LEFT:
                yield from code["dismiss"](ENTRY_AT)
                break
        return came

    def supervisor() -> Any:
        seen = yield from code["revoke"](ENTRY_AT, 1)
        if seen == CLAIMED:  # what it can reach serves others once it is dismissed
            while (yield from step("load_acquire", ENTRY_AT + RUN_ENTRY.owner)) != GONE:
                yield from step("poll")
        if seen in (FREE, CLAIMED):
            found = []
            for word in (*WATCHED, slot(OUTPUT_AT, 0, 4)):
                found.append((yield from step("load", word)))
            return seen, found
        return seen, []

    def check(end: End) -> None:
        assert not end.waiting, "what was revoked is never dismissed"
        came, (seen, found) = end.results["worker"], end.results["supervisor"]
        head, tail = (end.word(word) for word in (INPUT_EDGE + EDGE.head, OUTPUT_AT + RING.tail))
        assert head == tail == end.word(BLOCK_AT + BLOCK.processed), "a span has happened in part"
        if seen in (FREE, CLAIMED):
            left = end.word(ENTRY_AT + RUN_ENTRY.owner)
            assert left == (GONE if came == LEFT else REVOKED), "it was revoked, and goes on"
            assert came == LEFT or seen == FREE, "it was revoked in a turn, which does not say so"
            now = [end.word(word) for word in (*WATCHED, slot(OUTPUT_AT, 0, 4))]
            assert found == now, "somebody else has a kernel, and does not see all that was done"

    return System("a kernel is given up", words, {"worker": worker, "supervisor": supervisor}, check)


SYSTEMS = {
    "kernel: a pause": ("turn", pauses),
    "kernel: its state": ("turn", reads_state),
    "kernel: a new input": ("turn", partial(appends_an_input, sleeps=True)),
    "kernel: a new input, two turns": ("turn", partial(appends_an_input, sleeps=False)),
    "kernel: given up": ("turn", gives_up),
}
