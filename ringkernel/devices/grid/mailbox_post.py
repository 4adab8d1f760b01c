"""What a grid posts from its mailbox: what a turn has done, and answers to commands. Compiled.

All that a word tells the host or a neighbour is written, and released, before the word: the outputs before the cursors
of the inputs they came from, the state before the echo. Cursors that lie in device memory (`device_rings.py`) are
posted there first, for the neighbours; those in host memory are then mirrors for the host.
"""

from __future__ import annotations

from ringkernel.codegen.operations import fence_device, fence_release, peek, poke, store, store_device, store_release
from ringkernel.memory.keys_layout import KEYS
from ringkernel.memory.layout import BLOCK, COUNTS, COUNTS_DTYPE, EDGE, HISTOGRAM_BUCKETS, NO_KEYS, RING
from ringkernel.memory.mailbox_layout import INPUT_NBYTES, INPUT_ON_HOST, INPUT_RING, MAILBOX, MAILBOX_BLOCK
from ringkernel.memory.record import within
from ringkernel.memory.span_layout import LANE, SPAN, TIME_AT
from ringkernel.ring.block.stages import lane_of

from .mailbox_fetch import by_time

UNKNOWN = -1
"""A tail that no ring has."""
COUNTS_AT, N_COUNTS = within(BLOCK, COUNTS), COUNTS_DTYPE.itemsize // 8


def post(mailbox: int) -> None:
    """Publish what a turn has done."""
    unpost_known(mailbox)
    post_to_device(mailbox)  # first: neighbours wait for it, and it takes less time
    post_to_host(mailbox)


def post_to_device(mailbox: int) -> None:
    """Publish to the neighbours on this device. They look at nothing but the slots and these cursors."""
    if peek(mailbox + MAILBOX.n_device_cursors) == 0:
        return
    fence_device()  # release: the slots below the tail are written, those below the heads have been read
    output = peek(mailbox + MAILBOX.output)
    if output != 0:
        put_on_device(peek(output + RING.device_cursor_address), peek(output + RING.tail))
    at = peek(mailbox + MAILBOX.inputs)
    for _ in range(peek(mailbox + MAILBOX.n_inputs)):
        put_on_device(peek(at + EDGE.device_cursor_address), peek(at + EDGE.head))
        at += INPUT_NBYTES


def put_on_device(there: int, cursor: int) -> None:
    """Publish a cursor, if it lies in device memory."""
    if there != 0:
        store_device(there, cursor)


def post_to_host(mailbox: int) -> None:
    """Publish in host memory: outputs, counts, and the input cursors last, also as mirrors of device memory.
    So whoever sees there that a message is done finds what came of it."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    version = peek(block + BLOCK.ledger_version)
    store(host_block + BLOCK.ledger_version, version - 1)
    fence_release()  # release: the slots before the output's cursor, the odd version before the counts
    output_on_host = peek(mailbox + MAILBOX.output_on_host)
    if output_on_host != 0:
        tail = peek(peek(mailbox + MAILBOX.output) + RING.tail)
        store(output_on_host + RING.next, tail)
        store(output_on_host + RING.tail, tail)
    for i in range(N_COUNTS):
        store(host_block + COUNTS_AT + 8 * i, peek(block + COUNTS_AT + 8 * i))
    fence_release()  # release: after the output's cursor, so that `head` implies it; the counts before the even version
    at = peek(mailbox + MAILBOX.inputs)
    for _ in range(peek(mailbox + MAILBOX.n_inputs)):
        store(peek(at + INPUT_ON_HOST) + EDGE.head, peek(at + EDGE.head))
        at += INPUT_NBYTES
    if peek(block + BLOCK.keyed) != NO_KEYS:
        keys = block + peek(block + BLOCK.state)
        store(peek(mailbox + MAILBOX.context_on_host) + KEYS.count, peek(keys + KEYS.count))
    if by_time(mailbox) == 1:
        post_times(mailbox)
    store(host_block + BLOCK.ledger_version, version)
    poke(mailbox + MAILBOX.histogram_is_posted, 0)
    poke(mailbox + MAILBOX.told_in_flight, 0)  # it is one of the counts


def unpost_known(mailbox: int) -> None:
    """A kernel that goes by time does something: what it knew of its inputs says no more that it does nothing. Told
    before all that comes of it."""
    if by_time(mailbox) == 0:
        return
    lane = lane_of(peek(mailbox + MAILBOX.record), 0)
    if peek(lane + LANE.known_tail) != UNKNOWN:
        poke(lane + LANE.known_tail, UNKNOWN)
        store(lane_of(peek(mailbox + MAILBOX.record_on_host), 0) + LANE.known_tail, UNKNOWN)
        fence_release()  # release: whoever sees what comes of it sees this


def post_times(mailbox: int) -> None:
    """How far a kernel that goes by time has come, after the outputs before that; and how many messages were late."""
    output, span = peek(mailbox + MAILBOX.output_on_host), peek(mailbox + MAILBOX.record)
    if output != 0:
        store(output + RING.progress, peek(peek(mailbox + MAILBOX.output) + RING.progress))
    store(peek(mailbox + MAILBOX.record_on_host) + SPAN.late, peek(span + SPAN.late))


def say_in_flight(mailbox: int, count: int) -> None:
    """Let the host know how much a span has in hand: of one that never ends it learns nothing more."""
    if count == peek(mailbox + MAILBOX.told_in_flight):
        return
    poke(mailbox + MAILBOX.told_in_flight, count)
    block, span = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.record)
    if by_time(mailbox) == 1:
        on_host = peek(mailbox + MAILBOX.record_on_host)
        for number in range(peek(block + BLOCK.n_inputs)):
            lane = lane_of(span, number)
            if peek(lane + LANE.count) != peek(lane + LANE.told_count):
                poke(lane + LANE.told_count, peek(lane + LANE.count))
                store(lane_of(on_host, number) + LANE.count, peek(lane + LANE.count))
    store(peek(mailbox + MAILBOX.host_block) + BLOCK.in_flight, count)


def post_known(mailbox: int) -> None:
    """A kernel that goes by time has nothing to do: what it knows of its inputs, for who watches it."""
    if by_time(mailbox) == 0:
        return
    span, on_host = peek(mailbox + MAILBOX.record), peek(mailbox + MAILBOX.record_on_host)
    at, is_fenced = peek(mailbox + MAILBOX.inputs), 0
    for number in range(peek(mailbox + MAILBOX.n_inputs)):
        ring, lane, told = at + INPUT_RING, lane_of(span, number), lane_of(on_host, number)
        tail, progress, ended = peek(ring + RING.tail), peek(ring + RING.progress), peek(ring + RING.ended)
        is_known = tail == peek(lane + LANE.known_tail) and progress == peek(lane + LANE.known_progress)
        if not is_known or ended != peek(lane + LANE.known_ended):
            poke(lane + LANE.known_tail, tail)
            poke(lane + LANE.known_progress, progress)
            poke(lane + LANE.known_ended, ended)
            if is_fenced == 0:
                fence_release()  # release: all that came of it
                is_fenced = 1
            store(told + LANE.known_tail, tail)
            store(told + LANE.known_progress, progress)
            store(told + LANE.known_ended, ended)
        at += INPUT_NBYTES


def post_histogram(mailbox: int) -> None:
    """Post the histogram, which is long and seldom looked at: when the grid has become idle, or leaves."""
    if peek(mailbox + MAILBOX.histogram_is_posted) == 1:
        return
    poke(mailbox + MAILBOX.histogram_is_posted, 1)
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    version = peek(block + BLOCK.ledger_version) + 2
    poke(block + BLOCK.ledger_version, version)
    store(host_block + BLOCK.ledger_version, version - 1)
    fence_release()  # the odd version before the counts
    for i in range(HISTOGRAM_BUCKETS):
        store(host_block + BLOCK.histogram + 8 * i, peek(block + BLOCK.histogram + 8 * i))
    store_release(host_block + BLOCK.ledger_version, version)


def answer(mailbox: int) -> None:
    """Tell the host a status that is new, and what goes with it."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    blocked = peek(block + BLOCK.blocked)
    if blocked != peek(mailbox + MAILBOX.told_blocked):
        poke(mailbox + MAILBOX.told_blocked, blocked)
        store(host_block + BLOCK.blocked, blocked)
    status, echo = peek(block + BLOCK.status), peek(block + BLOCK.echo)
    if status == peek(mailbox + MAILBOX.told_status) and echo == peek(mailbox + MAILBOX.told_echo):
        return
    poke(mailbox + MAILBOX.told_status, status)
    poke(mailbox + MAILBOX.told_echo, echo)
    answers = peek(block + BLOCK.answers) + 1
    poke(block + BLOCK.answers, answers)
    store(host_block + BLOCK.status, status)
    store_release(host_block + BLOCK.echo, echo)  # release: the state, the cursors, the status
    store_release(host_block + BLOCK.answers, answers)


def post_fault(mailbox: int) -> None:
    """What went wrong, and on which edge."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    store(host_block + BLOCK.fault_edge, edge_on_host(mailbox, peek(block + BLOCK.fault_edge)))
    store(host_block + BLOCK.fault_index, peek(block + BLOCK.fault_index))
    store(host_block + BLOCK.fault_info_address, peek(block + BLOCK.fault_info_address))
    store(host_block + BLOCK.fault_count, peek(block + BLOCK.fault_count))


def edge_on_host(mailbox: int, offset: int) -> int:
    """The offset from the block in host memory, for one from the block here, of an edge; 0 is none."""
    if offset == 0:
        return 0
    return int(peek(mailbox + MAILBOX_BLOCK + offset + INPUT_ON_HOST) - peek(mailbox + MAILBOX.host_block))


def post_end(mailbox: int) -> None:
    """How far the kernel is with what it does at its end."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    store(host_block + BLOCK.end_phase, peek(block + BLOCK.end_phase))
    store(host_block + BLOCK.end_record, peek(block + BLOCK.end_record))


def return_context(mailbox: int) -> None:
    """Copy state, parameters and random numbers back, and what is known of times, before the token goes back."""
    block = mailbox + MAILBOX_BLOCK
    on_host = peek(mailbox + MAILBOX.context_on_host)
    copy_to_host(on_host, block + peek(block + BLOCK.state), (peek(mailbox + MAILBOX.context_nbytes) + 7) // 8)
    if by_time(mailbox) == 1:
        n_words = (lane_of(0, peek(block + BLOCK.n_inputs)) - TIME_AT) // 8
        span, on_host = peek(mailbox + MAILBOX.record), peek(mailbox + MAILBOX.record_on_host)
        copy_to_host(on_host + TIME_AT, span + TIME_AT, n_words)


def copy_to_host(target: int, source: int, n_words: int) -> None:
    """Copy words to a record in host memory that nobody else looks at at the moment."""
    for i in range(n_words):
        store(target + 8 * i, peek(source + 8 * i))
