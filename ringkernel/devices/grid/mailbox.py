"""A grid's desk: laid out once, then fetched to before a turn and posted from after it. Compiled.

All order towards the host and towards other kernels is in `fetch`, `post` and `answer`. On the desk itself nothing is
shared, so there a turn runs with plain loads and stores (`private.py`), and its compare-and-swaps are private, too:
a grid cannot be revoked, it is told to stop and answers.

Between grids of one device the cursors of a ring can be near (`place.py`), and then the host's are mirrors of them:
neighbours look at the near ones only, the host at the mirrors only.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    fence_acquire,
    fence_near,
    fence_release,
    load,
    load_near,
    peek,
    poke,
    store,
    store_near,
    store_release,
    ticks,
)
from ringkernel.memory.layout import (
    BELL,
    BLOCK,
    BLOCK_DTYPE,
    EDGE,
    EDGE_DTYPE,
    FREE,
    HISTOGRAM_BUCKETS,
    NEVER,
    QUIET,
    RING,
    RING_DTYPE,
    RUNG,
    SEAT,
    SEAT_DTYPE,
    STATUS_DESERTED,
)
from ringkernel.memory.mailbox_layout import (
    BOOK,
    CONSUMER_NBYTES,
    DESK,
    DESK_BELL,
    DESK_BLOCK,
    DESK_DTYPE,
    DESK_JOB,
    DESK_REST,
    DESK_SEAT,
    FETCH_UNROLL,
    HEART,
    INPUT_HOME,
    INPUT_NBYTES,
    INPUT_RING,
    JOB,
    MARK,
    max_fetches,
    max_nears,
)

DESK_NBYTES, SEAT_NBYTES, BLOCK_NBYTES = DESK_DTYPE.itemsize, SEAT_DTYPE.itemsize, BLOCK_DTYPE.itemsize
EDGE_NBYTES, RING_NBYTES = EDGE_DTYPE.itemsize, RING_DTYPE.itemsize
LEDGER_WORDS = (BLOCK.started_ticks - BLOCK.ledger_version) // 8


def copy_home(target: int, source: int, n_words: int) -> None:
    """Copy words of a record at home that does not change at the moment."""
    for i in range(n_words):
        poke(target + 8 * i, load(source + 8 * i))


def lay_out(desk: int, book: int) -> None:
    """Copy to the desk what the grid needs. The token is the grid's."""
    home = load(book + BOOK.block_address)
    block, seat = desk + DESK_BLOCK, desk + DESK_SEAT
    for i in range(DESK_NBYTES // 8):
        poke(desk + 8 * i, 0)
    for i in range(SEAT_NBYTES // 8):
        poke(seat + 8 * i, 0)
    copy_home(block, home, BLOCK_NBYTES // 8)
    poke(desk + DESK.home, home)
    poke(seat + SEAT.owner, FREE)
    poke(seat + SEAT.state, RUNG)
    poke(seat + SEAT.block_address, block)
    poke(seat + SEAT.span_limit, 1)
    poke(seat + SEAT.span_ticks, load(book + BOOK.span_ticks))
    poke(desk + DESK_BELL + BELL.state, QUIET)  # on the desk nobody is rung
    poke(block + BLOCK.status_bell_address, desk + DESK_BELL)
    poke(desk + DESK.span_address, peek(block + BLOCK.span_address))
    poke(block + BLOCK.span_address, desk)
    poke(desk + DESK.told_status, peek(block + BLOCK.status))
    poke(desk + DESK.told_echo, peek(block + BLOCK.echo))
    poke(desk + DESK.told_blocked, peek(block + BLOCK.blocked))
    if peek(block + BLOCK.status) == STATUS_DESERTED:
        poke(block + BLOCK.echo, -1)  # the command that held then is to be carried out anew
    poke(desk + DESK.is_settled, 1)
    poke(desk + DESK.patience, load(book + BOOK.patience_ticks))
    poke(desk + DESK.beat_timeout, load(book + BOOK.beat_timeout_ticks))
    poke(desk + DESK.max_nap, load(book + BOOK.max_nap_ns))
    poke(desk + DESK.seen_at, ticks())
    bring_state(desk, load(book + BOOK.state_address))
    at = lay_out_rings(desk, desk + DESK_REST, load(book + BOOK.heart_address))
    lay_out_job(desk + DESK_JOB, at, book)
    fence_acquire()  # acquire: the slots below the cursors are written, also those that the first fetch finds unchanged


def bring_state(desk: int, state: int) -> None:
    """Copy the state to where the grid works on it."""
    block = desk + DESK_BLOCK
    at_home = peek(desk + DESK.home) + peek(block + BLOCK.state)
    n_words = (peek(block + BLOCK.state_nbytes) + 7) // 8
    copy_home(state, at_home, n_words)
    poke(desk + DESK.state_home, at_home)
    poke(block + BLOCK.state, state - block)


def return_state(desk: int) -> None:
    """Copy the state back, before the token goes back."""
    block = desk + DESK_BLOCK
    at_home = peek(desk + DESK.state_home)
    state = block + peek(block + BLOCK.state)
    for i in range((peek(block + BLOCK.state_nbytes) + 7) // 8):
        store(at_home + 8 * i, peek(state + 8 * i))


def lay_out_rings(desk: int, at: int, heart: int) -> int:
    """Inputs, output and the tables of what to fetch, from `at` on. Where the rest of the desk begins."""
    block, home = desk + DESK_BLOCK, peek(desk + DESK.home)
    n_inputs = peek(block + BLOCK.n_inputs)
    output_home = 0
    n_consumers = 0
    if peek(block + BLOCK.output) != 0:
        output_home = home + peek(block + BLOCK.output)
        n_consumers = load(output_home + RING.n_edges)
    poke(desk + DESK.n_inputs, n_inputs)
    poke(desk + DESK.n_consumers, n_consumers)
    poke(desk + DESK.output_home, output_home)
    poke(desk + DESK.fetches, at)
    at += 16 * max_fetches(n_inputs, n_consumers)
    poke(desk + DESK.nears, at)
    at += 16 * max_nears(n_inputs, n_consumers)
    fetch_from(desk, home + BLOCK.epoch, block + BLOCK.epoch)
    fetch_from(desk, heart + HEART.beat, desk + DESK.beat)
    fetch_from(desk, heart + HEART.leave, desk + DESK.leave)
    inputs = at
    at += 8 * n_inputs
    poke(desk + DESK.inputs, at)
    table = home + peek(block + BLOCK.inputs)
    poke(block + BLOCK.inputs, inputs - block)
    for i in range(n_inputs):
        poke(inputs + 8 * i, at - block)
        lay_out_input(desk, at, home + load(table + 8 * i))
        at += INPUT_NBYTES
    if output_home != 0:
        at = lay_out_output(desk, at, output_home, n_consumers)
    while peek(desk + DESK.n_fetches) % FETCH_UNROLL != 0:
        fetch_from(desk, heart + HEART.beat, desk + DESK.beat)
    return at


def append_pair(pairs: int, count: int, there: int, here: int) -> None:
    """Add to a list, of which `count` is the address of its length, where a word is and where its copy goes."""
    n = peek(count)
    poke(pairs + 16 * n, there)
    poke(pairs + 16 * n + 8, here)
    poke(count, n + 1)


def fetch_from(desk: int, there: int, here: int) -> None:
    """Have a word looked at from now on."""
    append_pair(peek(desk + DESK.fetches), desk + DESK.n_fetches, there, here)
    poke(here, load(there))


def fetch_cursor(desk: int, near: int, home: int, here: int) -> None:
    """Have a neighbour's cursor looked at from now on, where it lies: near, or at home."""
    if near == 0:
        fetch_from(desk, home, here)
        return
    append_pair(peek(desk + DESK.nears), desk + DESK.n_nears, near, here)
    poke(here, load_near(near))


def lay_out_input(desk: int, at: int, edge_home: int) -> None:
    """One input: its edge and its ring."""
    ring, ring_home = at + INPUT_RING, edge_home + load(edge_home + EDGE.ring)
    copy_home(at, edge_home, EDGE_NBYTES // 8)
    copy_home(ring, ring_home, RING_NBYTES // 8)
    poke(at + INPUT_HOME, edge_home)
    poke(at + EDGE.closed, 0)
    poke(at + EDGE.watch, NEVER)  # whoever watches at home is told by the watcher
    poke(at + EDGE.ring, INPUT_RING)
    poke(ring + RING.wanted, NEVER)
    poke(ring + RING.slots, ring_home + peek(ring + RING.slots) - ring)
    fetch_cursor(desk, peek(ring + RING.near_address), ring_home + RING.tail, ring + RING.tail)
    fetch_from(desk, edge_home + EDGE.limit, at + EDGE.limit)


def lay_out_output(desk: int, at: int, home: int, n_consumers: int) -> int:
    """The output ring and its consumers. Where the rest of the desk begins."""
    ring, block = at, desk + DESK_BLOCK
    copy_home(ring, home, RING_NBYTES // 8)
    poke(desk + DESK.output, ring)
    poke(block + BLOCK.output, ring - block)
    poke(ring + RING.next, peek(ring + RING.tail))
    poke(ring + RING.low, NEVER)
    poke(ring + RING.slots, home + peek(ring + RING.slots) - ring)
    table_home, table = home + peek(ring + RING.edges), ring + RING_NBYTES
    poke(ring + RING.edges, RING_NBYTES)
    at = table + 8 * n_consumers
    poke(desk + DESK.consumers, at)
    fetch_from(desk, home + RING.n_open, ring + RING.n_open)
    for i in range(n_consumers):
        edge_home = home + load(table_home + 8 * i)
        poke(table + 8 * i, at - ring)
        poke(at + EDGE.door_address, 0)
        fetch_cursor(desk, load(edge_home + EDGE.near_address), edge_home + EDGE.head, at + EDGE.head)
        fetch_from(desk, edge_home + EDGE.closed, at + EDGE.closed)
        at += CONSUMER_NBYTES
    return at


def lay_out_job(job: int, at: int, book: int) -> None:
    """The words through which the threads of the block work together."""
    n_threads = load(book + BOOK.n_threads)
    poke(job + JOB.n_threads, n_threads)
    poke(job + JOB.staging, load(book + BOOK.staging_address))
    poke(job + JOB.marks, at)
    poke(job + JOB.scan, at + MARK * n_threads)
    poke(job + JOB.is_over, 0)


def fetch(desk: int) -> int:
    """Look at what others write. 1 if anything is new."""
    return fetch_near(desk) | fetch_home(desk)


def fetch_near(desk: int) -> int:
    """Look at the cursors of neighbours on this device. 1 if any is new."""
    pair = peek(desk + DESK.nears)
    news = 0
    for _ in range(peek(desk + DESK.n_nears)):
        news |= note(peek(pair + 8), load_near(peek(pair)))
        pair += 16
    if news == 1:
        fence_near()  # acquire: the slots below a tail are written, those below a head have been read
    return news


def fetch_home(desk: int) -> int:
    """Look at home: commands, cursors, limits, the heartbeat. 1 if anything is new.

    Four loads at a time are on their way together: each takes a microsecond where the host's memory is far.
    """
    pair = peek(desk + DESK.fetches)
    news = 0
    for _ in range(peek(desk + DESK.n_fetches) // 4):
        first, second = load(peek(pair)), load(peek(pair + 16))
        third, fourth = load(peek(pair + 32)), load(peek(pair + 48))
        news |= note(peek(pair + 8), first) | note(peek(pair + 24), second)
        news |= note(peek(pair + 40), third) | note(peek(pair + 56), fourth)
        pair += 64
    if news == 1:
        fence_acquire()  # acquire: the slots below the cursors are written, the command belongs to its epoch
        poke(desk + DESK_BLOCK + BLOCK.command, load(peek(desk + DESK.home) + BLOCK.command))
    return news


def note(here: int, value: int) -> int:
    """Note a word on the desk. 1 if it is new."""
    if peek(here) == value:
        return 0
    poke(here, value)
    return 1


def post(desk: int) -> None:
    """Publish what a turn has done."""
    post_near(desk)  # first: neighbours wait for it, and it takes less time
    post_home(desk)


def post_near(desk: int) -> None:
    """Publish to the neighbours on this device. They look at nothing but the slots and these cursors."""
    if peek(desk + DESK.n_nears) == 0:
        return
    fence_near()  # release: the slots below the tail are written, those below the heads have been read
    output = peek(desk + DESK.output)
    if output != 0:
        put_near(peek(output + RING.near_address), peek(output + RING.tail))
    at = peek(desk + DESK.inputs)
    for _ in range(peek(desk + DESK.n_inputs)):
        put_near(peek(at + EDGE.near_address), peek(at + EDGE.head))
        at += INPUT_NBYTES


def put_near(there: int, cursor: int) -> None:
    """Publish a cursor, if it lies near."""
    if there != 0:
        store_near(there, cursor)


def post_home(desk: int) -> None:
    """Publish at home: outputs, counts, and the input cursors last, also where they are mirrors of near ones, so that
    whoever sees there that a message is done finds what came of it."""
    block, home = desk + DESK_BLOCK, peek(desk + DESK.home)
    version = peek(block + BLOCK.ledger_version)
    store(home + BLOCK.ledger_version, version - 1)
    fence_release()  # release: the slots before the output's cursor, the odd version before the counts
    output_home = peek(desk + DESK.output_home)
    if output_home != 0:
        store(output_home + RING.tail, peek(peek(desk + DESK.output) + RING.tail))
    for i in range(1, LEDGER_WORDS):
        store(home + BLOCK.ledger_version + 8 * i, peek(block + BLOCK.ledger_version + 8 * i))
    fence_release()  # release: after the output's cursor, so that `head` implies it; the counts before the even version
    at = peek(desk + DESK.inputs)
    for _ in range(peek(desk + DESK.n_inputs)):
        store(peek(at + INPUT_HOME) + EDGE.head, peek(at + EDGE.head))
        at += INPUT_NBYTES
    store(home + BLOCK.ledger_version, version)
    poke(desk + DESK.is_settled, 0)


def settle(desk: int) -> None:
    """Post the histogram, which is long and seldom looked at: when the grid has become idle, or leaves."""
    if peek(desk + DESK.is_settled) == 1:
        return
    poke(desk + DESK.is_settled, 1)
    block, home = desk + DESK_BLOCK, peek(desk + DESK.home)
    version = peek(block + BLOCK.ledger_version) + 2
    poke(block + BLOCK.ledger_version, version)
    store(home + BLOCK.ledger_version, version - 1)
    fence_release()  # the odd version before the counts
    for i in range(HISTOGRAM_BUCKETS):
        store(home + BLOCK.histogram + 8 * i, peek(block + BLOCK.histogram + 8 * i))
    store_release(home + BLOCK.ledger_version, version)


def answer(desk: int) -> None:
    """Tell the host a status that is new, and what goes with it."""
    block, home = desk + DESK_BLOCK, peek(desk + DESK.home)
    blocked = peek(block + BLOCK.blocked)
    if blocked != peek(desk + DESK.told_blocked):
        poke(desk + DESK.told_blocked, blocked)
        store(home + BLOCK.blocked, blocked)
    status, echo = peek(block + BLOCK.status), peek(block + BLOCK.echo)
    if status == peek(desk + DESK.told_status) and echo == peek(desk + DESK.told_echo):
        return
    poke(desk + DESK.told_status, status)
    poke(desk + DESK.told_echo, echo)
    answers = peek(block + BLOCK.answers) + 1
    poke(block + BLOCK.answers, answers)
    store(home + BLOCK.status, status)
    store_release(home + BLOCK.echo, echo)  # release: the state, the cursors, the status
    store_release(home + BLOCK.answers, answers)


def post_fault(desk: int) -> None:
    """What went wrong; on which edge, `call_span` has said."""
    block, home = desk + DESK_BLOCK, peek(desk + DESK.home)
    store(home + BLOCK.fault_index, peek(block + BLOCK.fault_index))
    store(home + BLOCK.fault_info_address, peek(block + BLOCK.fault_info_address))
    store(home + BLOCK.fault_count, peek(block + BLOCK.fault_count))
