"""The commit of the stages of a fused chain: all are where they would be had each run by itself. Compiled.

The rings between the stages are empty before and after. Their cursors, and the stages' ledgers, move on by what has
passed: so whoever looks at a stage, waits for its cursor or takes it apart from the others need not know. When a stage
has failed, the message lies in the ring before it, that stage's block says so, and the chain is one no more: its first
stage goes on by itself.
"""

from __future__ import annotations

from ringkernel.codegen.operations import copy_bytes, load, store, store_release
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import BLOCK, EDGE, RING, STATUS_FAILED
from ringkernel.memory.span_layout import LANE
from ringkernel.ring.block.ledger import follow, keep_ledger, note_ledger
from ringkernel.ring.block.stages import lane_of, record_of
from ringkernel.ring.block.token import LEFT, WORKED, give_back
from ringkernel.ring.protocol.cursors import notify_producer, set_tail, slot_address


def begin_writing(block: int, chain: int) -> None:
    """Make the versions of the states odd, before the handlers write to them."""
    if chain == 0:
        begin_writing_of(block)
        return
    for i in range(load(chain + CHAIN.n_stages)):
        begin_writing_of(chain + load(chain + CHAIN.blocks + 8 * i))


def begin_writing_of(block: int) -> None:
    """Make the version of one kernel's state odd."""
    store_release(block + BLOCK.state_version, load(block + BLOCK.state_version) + 1)


def end_writing(block: int, chain: int) -> None:
    """Make the versions of the states even: they are whole again."""
    if chain == 0:
        end_writing_of(block)
        return
    for i in range(load(chain + CHAIN.n_stages)):
        end_writing_of(chain + load(chain + CHAIN.blocks + 8 * i))


def end_writing_of(block: int) -> None:
    """Make the version of one kernel's state even."""
    version = load(block + BLOCK.state_version)
    store_release(block + BLOCK.state_version, version + (version & 1))


def note_before(block: int, chain: int) -> None:
    """Note the ledgers, and the cursors between the stages, as they are before a span is committed."""
    if chain == 0:
        note_ledger(block)
    else:
        note_stages(chain)


def note_stages(chain: int) -> None:
    """Note the same of all stages of a chain."""
    for i in range(load(chain + CHAIN.n_stages)):
        stage = chain + load(chain + CHAIN.blocks + 8 * i)
        note_ledger(stage)
        if i > 0:
            ring = ring_before(chain, i)
            store(lane_of(record_of(stage), 0) + LANE.head, load(ring + RING.next))


def ring_before(chain: int, stage: int) -> int:
    """The ring that a stage, not the first, reads from."""
    edge = chain + load(chain + CHAIN.edges + 8 * stage)
    return edge + load(edge + EDGE.ring)


def keep_failed(chain: int) -> None:
    """Note in its block what a stage has failed on; `move_tails` will publish it in the ring before that stage."""
    stage = load(chain + CHAIN.fault_stage)
    block = chain + load(chain + CHAIN.blocks + 8 * stage)
    store(block + BLOCK.fault_index, load(chain + CHAIN.fault_index))
    store(block + BLOCK.fault_info_address, load(chain + CHAIN.fault_info_address))
    store(block + BLOCK.fault_count, 1)
    if stage > 0:
        store(block + BLOCK.fault_edge, chain + load(chain + CHAIN.edges + 8 * stage) - block)


def n_stages(chain: int) -> int:
    """How many stages a chain has; 0 if there is no chain."""
    return 0 if chain == 0 else load(chain + CHAIN.n_stages)


def emitted_by_timer(chain: int, stage: int) -> int:
    """How many messages a stage has emitted that came of none: the first may have a timer."""
    return load(chain + CHAIN.by_timer) if stage == 0 else 0


def arrived_before(chain: int, stage: int) -> int:
    """How many messages had come to a stage before the span."""
    return load(lane_of(record_of(chain + load(chain + CHAIN.blocks + 8 * stage)), 0) + LANE.head)


def move_tails(chain: int, taken: int, failing: int) -> None:
    """Move the cursors of the rings between the stages on: all tails, and then all heads, so that a stage's output is
    final when its input is consumed. What the failing stage has not processed lies in the last slot before it."""
    arriving = taken
    for i in range(1, n_stages(chain)):
        arriving += emitted_by_timer(chain, i - 1) - load(chain + CHAIN.dropped + 8 * (i - 1))
        if i - 1 == failing:
            arriving -= 1
        ring = ring_before(chain, i)
        tail = arrived_before(chain, i) + arriving
        if i == failing:
            slot, message = slot_address(ring, tail - 1), load(chain + CHAIN.failed_address)
            if slot != message:
                copy_bytes(slot, message, load(ring + RING.itemsize))
        set_tail(ring, tail)
    for i in range(1, n_stages(chain)):
        edge = chain + load(chain + CHAIN.edges + 8 * i)
        tail = load(edge + load(edge + EDGE.ring) + RING.next)
        store_release(edge + EDGE.head, tail - 1 if i == failing else tail)  # release: after all tails


def keep_ledgers(block: int, chain: int, taken: int, failing: int, elapsed: int) -> None:
    """Count the span for each stage that something came to, with its part of the time. What a message costs is for the
    first stage, whose `block` this is, what all of them take: its turns run them. What its timer does is about no
    message."""
    cost = load(block + BLOCK.cost)
    count = load(chain + CHAIN.n_stages)
    total, arriving = 0, taken
    for i in range(count):
        total += (arriving + emitted_by_timer(chain, i)) * load(chain + CHAIN.parts + 8 * i)
        arriving += emitted_by_timer(chain, i) - load(chain + CHAIN.dropped + 8 * i) - (1 if i == failing else 0)
    arriving = taken
    for i in range(count):
        by_timer = emitted_by_timer(chain, i)
        if arriving + by_timer > 0:
            processed = arriving - 1 if i == failing else arriving
            emitted = processed - load(chain + CHAIN.dropped + 8 * i)
            part = elapsed * ((arriving + by_timer) * load(chain + CHAIN.parts + 8 * i)) // total
            stage = chain + load(chain + CHAIN.blocks + 8 * i)
            writes = load(stage + BLOCK.output) != 0
            if i > 0:
                store(chain + CHAIN.other_ticks, load(chain + CHAIN.other_ticks) + part)
            keep_ledger(stage, arriving, processed, (emitted + by_timer) if writes else 0, by_timer, part)
            arriving = emitted + by_timer
    store(block + BLOCK.cost, follow(cost, (elapsed << 6) // max(taken, 1)))


def notify_watchers(chain: int, here: int) -> None:
    """Ring who waits for the cursor of a stage."""
    for i in range(1, n_stages(chain)):
        edge = chain + load(chain + CHAIN.edges + 8 * i)
        notify_producer(edge, load(edge + EDGE.head), here)


def end_chain(block: int, chain: int, failing: int, here: int) -> int:
    """Let the first stage go on by itself, and give back the token of the one that has failed."""
    store(block + BLOCK.chain, 0)
    failed = chain + load(chain + CHAIN.blocks + 8 * failing)
    give_back(failed, STATUS_FAILED, load(failed + BLOCK.echo), here)
    return LEFT if failing == 0 else WORKED
