"""Mutations that nothing catches, and why that is so. A pattern may stand for several, of which some may be caught."""

from __future__ import annotations

from fnmatch import fnmatchcase

ENDS = "no system here has inputs that end, by time or not: tests/streams plays them"
LOOP = "no system here has the event loop's thread take turns: test_turn_orders.py plays that, without reordering"
ALONE = "the systems have one poller, so that nobody else contends for this word: test_turn_orders.py plays two"
HINT = "a word that is watched, or read as a hint: that it is late costs time, and nothing else"
ONCE = "written before the kernel is handed over, and never changed in these systems"
FENCED = "a full fence stands beside it, which does the same"
BELL = "who finds the doorbell rung has the message by its cursor, an acquire; a wake-up too many does nothing"

UNCAUGHT: dict[str, str] = {
    "ring.turns.ends: *": ENDS,
    "ring.spans.fill: look_at_inputs: *": ENDS,
    "ring.protocol.cursors: publish_progress: *": ENDS,
    "ring.protocol.cursors: publish_end: *": ENDS,
    "ring.block.token: claim_again: *": ENDS,
    "ring.turns.loop_turns: *": LOOP,
    "ring.protocol.doorbell: rests_at: *": LOOP,
    "devices.compiled.worker_loop: is_fed_by*": LOOP,
    "ring.protocol.doorbell: quiet_doorbell: *": "nobody stops listening in these systems",
    "ring.turns.turn: rest: compare_exchange *": ALONE,
    "ring.turns.turn: rest: store_release 1 -> store": ALONE,
    "ring.turns.turn: without the look, rest: who rang has it": ALONE,
    "ring.turns.turn: turn: compare_exchange *": ALONE,
    "devices.compiled.worker_loop: should_rest: *": ALONE,
    "devices.compiled.worker_loop: move: *": HINT,
    "devices.compiled.worker_loop: back_off: *": HINT,
    "devices.compiled.worker_loop: run_worker: *": HINT,
    "devices.compiled.worker_loop: adapt: *": HINT,
    "devices.compiled.worker_loop: make_way: *": HINT,
    "devices.compiled.worker_loop: sweep: *": HINT,
    "devices.compiled.helping: help_with: *": HINT,
    "devices.compiled.helping: linger: *": HINT,
    "devices.compiled.helping: take_offer: *": "not searched: the gate, in share.pml, orders what is in a job",
    "devices.compiled.helping: is_free: *": HINT,
    "ring.block.waits: *": HINT,
    "ring.host_api: read_word: *": "the host reads what it then asks for in another way",
    "ring.host_api: write_word: *": "each write is followed by a full fence, so the order of several is kept",
    "ring.turns.turn: let_producers_in: *": "a look that rings too often, or once more later",
    "ring.turns.turn: can_work: *": FENCED,
    "ring.turns.turn: obey: *": "for a kernel that goes on; where one stops, `give_back` has the same, caught",
    "ring.protocol.cursors: waiting_of: *": FENCED,
    "ring.spans.further_stages: begin_writing: *": FENCED,
    "ring.protocol.cursors: room_of: load_acquire 1 -> load": ONCE,
    "ring.protocol.cursors: bound_of: load_acquire 2 -> load": ONCE,
    "ring.protocol.cursors: slowest_head: load_acquire 1 -> load": ONCE,
    "ring.protocol.cursors: slowest_head: load_acquire 2 -> load": ONCE,
    "ring.protocol.cursors: notify_consumers: *": ONCE,
    "ring.protocol.doorbell: ring_doorbell_at: *": ONCE,
    "ring.protocol.doorbell: arm_doorbell: compare_exchange *": BELL,
    "ring.protocol.doorbell: ring_doorbell: compare_exchange *": BELL,
    "ring.protocol.doorbell: unpark: compare_exchange *": BELL,
    "ring.protocol.doorbell: put_in_inbox: compare_exchange *": BELL,
    "ring.protocol.doorbell: take_inbox: exchange *": BELL,
    "ring.protocol.doorbell: without the look, ring_doorbell: *": BELL,
    "ring.protocol.doorbell: collect_tags: store_release 1 -> store": FENCED,
    "ring.protocol.doorbell: collect_tags: store_release 2 -> store": FENCED,
    "ring.protocol.doorbell: collect_tags: fence 1 taken away": (
        "the exchange of the inbox does the same; not where a loop was woken and its inbox is empty, which takes three "
        "rings, and more states"
    ),
    "ring.block.token: release: *": "after a commit the fence before the doorbells has released all",
    "ring.block.token: dismiss: *": "as above, and who was revoked has done nothing that others read",
    "ring.block.token: revoke: compare_exchange 2 -> relaxed_compare_exchange": (
        "nobody reads what a revoked turn has done before it is dismissed"
    ),
    "ring.block.token: revoke: compare_exchange 3 -> torn_compare_exchange": (
        "the two turns of the system are over when the supervisor comes so far; the first is the same, and caught"
    ),
    "ring.spans.commit: commit: compare_exchange 1 -> relaxed_compare_exchange": (
        "nobody goes by this word to see what was written; who finds a poller dead has that from the system"
    ),
    "ring.block.ledger: without the look, keep_ledger: counted before": (
        "messages are counted right without it; turns would be counted twice, which test_commit_orders.py sees"
    ),
    "ring.protocol.feeding: look: *": "a feeder that waits for room is not searched: it waits as a loop does",
    "ring.protocol.feeding: wait: *": "a feeder that waits for room is not searched: it waits as a loop does",
    "ring.protocol.feeding: enter: load_acquire 1 -> load": FENCED,
    "ring.protocol.feeding: enter: compare_exchange 1 -> relaxed_compare_exchange": FENCED,
    "ring.protocol.feeding: close: compare_exchange *": FENCED,
    "ring.protocol.feeding: leave: store_release 1 -> store": FENCED,
}


def reason_of(key: str) -> str | None:
    """Why a mutation is not caught; None if it is to be."""
    return next((reason for pattern, reason in UNCAUGHT.items() if fnmatchcase(key, pattern)), None)


def is_exact(key: str) -> bool:
    """Whether this very mutation is listed, and not a group of which some may be caught."""
    return key in UNCAUGHT
