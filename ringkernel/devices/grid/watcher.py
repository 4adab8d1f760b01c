"""Watching a grid, for those who sleep: a grid cannot ring a doorbell, so a CPU worker does it for it. Compiled.

A look at a grid takes the place of a turn in the worker's loop: its run entry refers to the grid's control lines. The
watcher tells of new cursors and answers by the functions by which a CPU kernel tells of its own. It looks while
something is outstanding, and rests otherwise: whoever then publishes to the grid, or commands it, rings the watcher.
"""

from __future__ import annotations

from ringkernel.codegen.operations import compare_exchange, fence, load, load_acquire, nap, store
from ringkernel.memory.layout import ARMED, BLOCK, CLAIMED, EDGE, FREE, LAST_WORDS, RING, RUN_ENTRY, RUNG
from ringkernel.memory.mailbox_layout import CONTROL, CONTROL_DTYPE, HEART
from ringkernel.memory.span_layout import LANE
from ringkernel.ring.block.stages import lane_of, record_of
from ringkernel.ring.block.token import IDLE, LEFT, WORKED, release
from ringkernel.ring.protocol.cursors import notify_consumers, notify_producer, waiting_of
from ringkernel.ring.protocol.doorbell import ring_doorbell
from ringkernel.ring.spans.fill import edge_of, goes_by_time
from ringkernel.ring.turns.turn import can_end, has_room, let_producers_in

TOLD_HEADS = CONTROL_DTYPE.itemsize
NAP_NS = 20_000


def watch(run_entry: int, _here: int) -> int:
    """Tell what is new about a grid. Return LEFT when it has given the token back, and everybody knows."""
    if compare_exchange(run_entry + RUN_ENTRY.owner, FREE, CLAIMED) != FREE:
        return LEFT
    control = load(run_entry + RUN_ENTRY.block_address)
    beat(control)
    result = WORKED if tell(control) == 1 else IDLE
    if result == IDLE and load(control + CONTROL.is_over) == 1:
        result = LEFT
    if release(run_entry) == 0:
        result = LEFT
    return result


def beat(control: int) -> None:
    """Give a sign of life."""
    address = load(control + CONTROL.heart_address) + HEART.beat
    store(address, load(address) + 1)


def tell(control: int) -> int:
    """Ring whoever waits for what a grid has done since the last look. Return 1 if it has done anything."""
    block = load(control + CONTROL.block_address)
    answers = load_acquire(block + BLOCK.answers)  # acquire, and first: the cursors are then at least as new
    news = tell_output(control, block) | tell_inputs(control, block)
    if answers != load(control + CONTROL.told_answers):
        store(control + CONTROL.told_answers, answers)
        store(control + CONTROL.told_echo, load(block + BLOCK.echo))
        if load(block + BLOCK.status) in LAST_WORDS:
            store(control + CONTROL.is_over, 1)
        fence()
        ring_doorbell(load(block + BLOCK.status_doorbell_address), 0)
        news = 1
    return news


def is_due(control: int, block: int) -> int:
    """Return 1 if an answer is to come, or has come and is not told yet."""
    if load_acquire(block + BLOCK.epoch) != load(control + CONTROL.told_echo):
        return 1
    return 1 if load(block + BLOCK.status) in LAST_WORDS and load(control + CONTROL.is_over) == 0 else 0


def tell_output(control: int, block: int) -> int:
    """Ring the consumers if there is anything new. Return 1 if there is."""
    if load(block + BLOCK.output) == 0:
        return 0
    ring = block + load(block + BLOCK.output)
    progress = load_acquire(ring + RING.progress)
    tail = load_acquire(ring + RING.tail)
    if tail == load(control + CONTROL.told_tail) and progress == load(control + CONTROL.told_progress):
        return 0
    store(control + CONTROL.told_tail, tail)
    store(ring + RING.next, tail)  # for `has_room`: the grid has its own copy
    store(control + CONTROL.told_progress, progress)
    fence()  # the cursor, before the look at the doorbells; a sleeper arms its own before it looks at the cursor
    notify_consumers(ring, 0)
    return 1


def tell_inputs(control: int, block: int) -> int:
    """Ring the producers that wait for room, and the host where it watches. Return 1 if a cursor has moved."""
    news = 0
    table = block + load(block + BLOCK.inputs)
    for i in range(load(block + BLOCK.n_inputs)):
        edge = block + load(table + 8 * i)
        head = load_acquire(edge + EDGE.head)
        told = control + TOLD_HEADS + 8 * i
        if head != load(told):
            store(told, head)
            fence()  # as above
            notify_producer(edge, head, 0)
            news = 1
    return news


def may_work(block: int) -> int:
    """Return 1 if the grid is about to do something. Of a kernel that goes by time only its grid can say what is
    next: it is, as long as there is something in the inputs that it did not know of when it had nothing to do. Another
    one is as long as something waits, until it has said that there is no room: an output that is full may be that of a
    span whose inputs are not posted yet."""
    blocked = load_acquire(block + BLOCK.blocked)  # acquire, and first: if it goes on, what it knew is told no more
    if goes_by_time(block) == 0:
        if waiting_of(block) == 0:
            return can_end(block)
        return 1 if blocked == 0 else has_room(block)
    span = record_of(block)
    for number in range(load(block + BLOCK.n_inputs)):
        edge, lane = edge_of(block, number), lane_of(span, number)
        ring = edge + load(edge + EDGE.ring)
        known = load_acquire(lane + LANE.known_tail)  # acquire: what came of it is seen
        if load_acquire(ring + RING.tail) != known or load(ring + RING.ended) != load(lane + LANE.known_ended):
            return 1
        if load(ring + RING.progress) != load(lane + LANE.known_progress):
            return 1
    if blocked == 1:
        return has_room(block)
    return 0 if waiting_of(block) != 0 else can_end(block)


def rest_watch(run_entry: int, _here: int) -> int:
    """Let a grid with nothing outstanding be. Return 1 if it may be, 0 if it has to be watched on. In no event loop."""
    if compare_exchange(run_entry + RUN_ENTRY.owner, FREE, CLAIMED) != FREE:
        return 0  # revoked; the next look finds out
    control = load(run_entry + RUN_ENTRY.block_address)
    store(run_entry + RUN_ENTRY.state, ARMED)
    fence()  # armed, before the last look
    if load(load(control + CONTROL.block_address) + BLOCK.blocked) == 1:
        let_producers_in(load(control + CONTROL.block_address), 0)
    left = 1
    block = load(control + CONTROL.block_address)
    # in this order: a grid moves its input cursors after its output's, so with no input left all outputs are seen
    outstanding = is_due(control, block) | may_work(block)
    fence()
    outstanding |= tell(control) | load(control + CONTROL.is_over)
    if outstanding == 1 and compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) == ARMED:
        left = 0  # otherwise somebody rang, and the run entry is in the inbox
    release(run_entry)
    if left == 0:
        nap(NAP_NS)  # it takes long: no need to look all the time; unclaimed, or the host could hardly ever revoke it
    return left


def goes_on(_run_entry: int, _loop: int) -> int:
    """A grid is not let be any sooner for being through with a map."""
    return 0
