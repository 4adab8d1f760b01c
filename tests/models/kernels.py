"""Words of a worker, a kernel and its rings, for systems in which the real functions run."""

from __future__ import annotations

from typing import Any

from played import Words, never, note
from search import step

from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    COMMAND_RUN,
    DOORBELL,
    EDGE,
    NEVER,
    NO_TIME,
    OWN_STAGES,
    PARKER,
    QUIET,
    RING,
    RUN_ENTRY,
    RUNG,
    STATUS_ACTIVE,
)
from ringkernel.memory.span_layout import RUN

BLOCK_AT, ENTRY_AT, WORKER_AT, LOOP_AT, BELL_AT, HANDLED_AT, ROOM_BELL_AT = (i << 40 for i in range(1, 8))
INPUT_AT, OUTPUT_AT, TABLES, SLOTS = 16 << 40, 17 << 40, 1 << 12, 1 << 20
INPUT_EDGE, OUTPUT_EDGE = BLOCK_AT + (1 << 20), OUTPUT_AT + (2 << 20)
STATE, SPAN_OFFSET, INPUT_TABLE = 1 << 14, 1 << 16, 1 << 18


def ring(words: Words, at: int, capacity: int, edges: list[int], doorbell_address: int = 0) -> None:
    """An empty ring with these edges."""
    words.update({
        at + RING.capacity: capacity, at + RING.itemsize: 8, at + RING.slots: SLOTS, at + RING.edges: TABLES,
        at + RING.n_edges: len(edges), at + RING.n_open: len(edges), at + RING.end: NEVER, at + RING.wanted: NEVER,
        at + RING.progress: NO_TIME, at + RING.doorbell_address: doorbell_address, at + RING.waits: 2 * TABLES,
    })  # fmt: skip
    for i, edge in enumerate(edges):
        words[at + TABLES + 8 * i] = edge - at
        words.update({edge + EDGE.ring: at - edge, edge + EDGE.limit: NEVER, edge + EDGE.watch: NEVER})


def doorbell(words: Words, at: int, parker: int, state: int) -> int:
    """A doorbell, and the doorbell address that leads to it."""
    words.update({at + DOORBELL.state: state, at + DOORBELL.parker_address: parker, at + DOORBELL.target_address: at})
    return int(at + DOORBELL.target_address)


def kernel(capacity: int = 4, room: int = 4, *, state: int = RUNG) -> Words:
    """A kernel whose run entry is in the inbox of its worker, with an input and an output."""
    words = Words()
    entry_address = ENTRY_AT + 4096
    words.update({
        entry_address: ENTRY_AT, ENTRY_AT + RUN_ENTRY.state: state, ENTRY_AT + RUN_ENTRY.parker_address: WORKER_AT,
        ENTRY_AT + RUN_ENTRY.block_address: BLOCK_AT, ENTRY_AT + RUN_ENTRY.span_limit: 8,
        ENTRY_AT + RUN_ENTRY.span_ticks: 8,
        WORKER_AT + PARKER.inbox_address: ENTRY_AT if state == RUNG else 0, WORKER_AT + PARKER.fd: WORKER_AT + 4096,
        WORKER_AT + PARKER.read_fd: WORKER_AT + 4096, WORKER_AT + PARKER.loop_address: LOOP_AT,
        LOOP_AT + PARKER.parked: 1, LOOP_AT + PARKER.fd: LOOP_AT + 4096, LOOP_AT + PARKER.read_fd: LOOP_AT + 4096,
        BLOCK_AT + BLOCK.span: SPAN_OFFSET, BLOCK_AT + BLOCK.inputs: INPUT_TABLE, BLOCK_AT + BLOCK.n_inputs: 1,
        BLOCK_AT + INPUT_TABLE: INPUT_EDGE - BLOCK_AT, BLOCK_AT + BLOCK.status: STATUS_ACTIVE,
        BLOCK_AT + BLOCK.output: OUTPUT_AT - BLOCK_AT, BLOCK_AT + BLOCK.max_outputs: 1,
        BLOCK_AT + BLOCK.state: STATE, BLOCK_AT + BLOCK.state_nbytes: 16, BLOCK_AT + BLOCK.fault_index: -1,
        BLOCK_AT + BLOCK.command: COMMAND_RUN, BLOCK_AT + BLOCK.max_threads: 1, BLOCK_AT + BLOCK.stages: OWN_STAGES,
        BLOCK_AT + BLOCK.n_stages: 1, BLOCK_AT + BLOCK.last: -OWN_STAGES, BLOCK_AT + BLOCK.longest_span: 1024,
        BLOCK_AT + BLOCK.context: STATE - OWN_STAGES,
        BLOCK_AT + BLOCK.status_doorbell_address: BELL_AT,
    })  # fmt: skip
    ring(words, INPUT_AT, capacity, [INPUT_EDGE], doorbell(words, ROOM_BELL_AT, LOOP_AT, ARMED))
    ring(words, OUTPUT_AT, room, [OUTPUT_EDGE], entry_address)
    words[INPUT_EDGE + EDGE.doorbell_address] = entry_address
    words[OUTPUT_EDGE + EDGE.doorbell_address] = doorbell(words, BELL_AT, LOOP_AT, QUIET)
    return words


def slot(at: int, sequence: int, capacity: int) -> int:
    return at + SLOTS + 8 * (sequence % capacity)


def handler(address: int, run: int) -> Any:
    """The span of a kernel that emits each message, and counts them twice in its state."""
    source = yield from step("load", run + RUN.source)
    count = yield from step("load", run + RUN.count)
    target = yield from step("load", run + RUN.target)
    context = yield from step("load", run + RUN.context)
    for i in range(count):
        value = yield from step("load", source + 8 * i)
        yield from note(HANDLED_AT, value)
        for word in (context, context + 8):
            seen = yield from step("load", word)
            yield from step("store", word, seen + 1)
        if target != 0:
            yield from step("store", target + 8 * i, value)
    return count


def limit_of(block: int, run_entry: int, waiting: int) -> Any:
    return (yield from step("load", run_entry + RUN_ENTRY.span_limit))


PLAYED: dict[str, Any] = {
    "call_span": handler, "lead": never, "span_length": limit_of, "take_part": never,
    "enter": never, "leave": never,
}  # fmt: skip
