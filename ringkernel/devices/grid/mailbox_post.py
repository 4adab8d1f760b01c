"""What a grid posts from its mailbox: what a turn has done, and answers to commands. Compiled.

All that a word tells the host or a neighbour is written, and released, before the word: the outputs before the cursors
of the inputs they came from, the state before the echo. Cursors that lie in device memory (`device_rings.py`) are
posted there first, for the neighbours; those in host memory are then mirrors for the host.
"""

from __future__ import annotations

from ringkernel.codegen.operations import fence_device, fence_release, peek, poke, store, store_device, store_release
from ringkernel.memory.layout import BLOCK, EDGE, HISTOGRAM_BUCKETS, RING
from ringkernel.memory.mailbox_layout import INPUT_NBYTES, INPUT_ON_HOST, MAILBOX, MAILBOX_BLOCK

LEDGER_WORDS = (BLOCK.started_ticks - BLOCK.ledger_version) // 8


def post(mailbox: int) -> None:
    """Publish what a turn has done."""
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
        store(output_on_host + RING.tail, peek(peek(mailbox + MAILBOX.output) + RING.tail))
    for i in range(1, LEDGER_WORDS):
        store(host_block + BLOCK.ledger_version + 8 * i, peek(block + BLOCK.ledger_version + 8 * i))
    fence_release()  # release: after the output's cursor, so that `head` implies it; the counts before the even version
    at = peek(mailbox + MAILBOX.inputs)
    for _ in range(peek(mailbox + MAILBOX.n_inputs)):
        store(peek(at + INPUT_ON_HOST) + EDGE.head, peek(at + EDGE.head))
        at += INPUT_NBYTES
    store(host_block + BLOCK.ledger_version, version)
    poke(mailbox + MAILBOX.histogram_is_posted, 0)


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
    """What went wrong; on which edge, `call_span` has said."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    store(host_block + BLOCK.fault_index, peek(block + BLOCK.fault_index))
    store(host_block + BLOCK.fault_info_address, peek(block + BLOCK.fault_info_address))
    store(host_block + BLOCK.fault_count, peek(block + BLOCK.fault_count))


def return_state(mailbox: int) -> None:
    """Copy the state back, before the token goes back."""
    block = mailbox + MAILBOX_BLOCK
    on_host = peek(mailbox + MAILBOX.state_on_host)
    state = block + peek(block + BLOCK.state)
    for i in range((peek(block + BLOCK.state_nbytes) + 7) // 8):
        store(on_host + 8 * i, peek(state + 8 * i))
