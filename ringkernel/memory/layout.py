"""Where the shared words of kernels, rings and threads live; see `record.py` for how they are declared.

A reference from one record to another is an offset relative to the record that holds it, so that rings, edges and
blocks can live in memory that another process or a GPU maps elsewhere. The exceptions are named `*_address`: doorbells
and doorbell addresses, machine code, and what parkers keep. They mean something in this process only.
"""

from __future__ import annotations

from .record import LINE as LINE  # noqa: PLC0414 (others have it from here)
from .record import array, group, line, record, within

NEVER = 2**62
"""A sequence number that no cursor reaches: `limit`, `watch`, `wanted` and `end` when they are off."""

NO_TIME, ENDED = -(2**63), 2**63 - 1
"""No time: nothing is known yet. After all times: nothing more comes."""

MAGIC = 0x52494E474B524E4C
LAYOUT_VERSION = 8
HISTOGRAM_BUCKETS = 64

RING_DTYPE, RING = record(
    "Ring",
    line(
        "producer",  # the host, once the producer has ended
        tail="next sequence to publish",
        wanted="wake a producer that waits for room when the slowest consumer reaches this sequence",
        progress="nothing with a time below this is published any more; written after `tail` and read before it",
        ended="1: nothing more is published; written after `tail` and `progress`",
    ),
    # Reading the line that it publishes on would cost the producer a miss per message: consumers poll that line away
    # (1.5 against 1.07 of a bare ping-pong)
    line(
        "producer",
        next="the producer's own copy of `tail`",
        low="the slowest head as the producer saw it last",
    ),
    line(
        "host",  # while the producer does not run, except for `n_open`
        slots="where the slots are, from here",
        capacity="number of slots, a power of two",
        itemsize="bytes of a slot",
        edges="where the table of edges is, from here: of each its offset from here",
        n_edges="number of edges in the table",
        doorbell_address="doorbell address of the producer",
        n_open="number of open consumers",
        device_cursor_address="where `tail` lies if grids keep it in device memory, else 0",
        end="nothing is published from this sequence on: a lent array has no slot for it",
        waits="where the producer counts, per edge, its ticks without room because of it; from here",
    ),
)

EDGE_DTYPE, EDGE = record(
    "Edge",
    line(
        "consumer",
        head="next sequence to take",
        starved_ticks="how long the consumer has had nothing to do while nothing was here",
    ),
    line(
        "host",
        limit="take only below this sequence",
        closed="1: the producer ignores this consumer",
        watch="ring when `head` reaches this sequence",
        watch_doorbell_address="the doorbell to ring then",
    ),
    line(
        "host",  # while the consumer does not run
        ring="where the ring is, from here",
        doorbell_address="doorbell address of the consumer",
        device_cursor_address="where `head` lies if grids keep it in device memory, else 0",
        span_address="what handles these messages; 0: what the block says",
        key_at="with a span of their own: where in these messages the key is",
    ),
)

FAULT_WORDS = {
    "fault_index": "which message of the span has failed; -1: none",
    "fault_info_address": "numba's description of the exception, or a code of `codegen/faults.py`",
    "fault_count": "how many messages have failed with it",
}
"""What a span says about a failure: in its record, in a grid's mark, and, once committed, in the kernel's block."""

FAULT_DTYPE, FAULT = group("Fault", "who runs the span", FAULT_WORDS)

STAGES_WORDS = {
    "n_stages": "how many kernels a message goes through",
    "span_address": "the function that handles messages",
    "context": "where the context is that it is called with, from here",
    "longest_span": "messages in a span that is not shared, at most",
    "max_threads": "how many threads may share a span",
    "last": "the block whose output is written to, from here",
    "held_up_address": "the doorbell address to ring, too, when there is no room; 0: none",
}
"""What a kernel's turns run: the kernel by itself, by the words of its block, or the fused chain that it begins."""

STAGES_DTYPE, STAGES = group("Stages", "host", STAGES_WORDS)

COUNT_WORDS = {
    "processed": "messages handled",
    "failed": "messages that a handler has failed on",
    "in_flight": "messages of the span that runs now",
    "emitted": "outputs",
    "dropped": "messages without output, of a kernel that emits at most one for each",
    "busy_ticks": "time in the handler",
    "turns": "spans run",
    "peak_input_depth": "most messages that have waited in an input",
    "peak_output_depth": "most messages that have waited in the output",
}
"""What statistics read, and what a grid posts for them."""

COUNTS_DTYPE, COUNTS = group("Counts", "poller", COUNT_WORDS)

BLOCK_DTYPE, BLOCK = record(
    "Block",
    line(
        "host",  # while it holds the token
        magic="`MAGIC`",
        version="`LAYOUT_VERSION`",
        size="bytes of this record",
        inputs="where the table of inputs is, from here: of each edge its offset from here",
        n_inputs="number of inputs",
        output="the output ring, from here; 0: none",
        state="where the context begins, from here: state, parameters, random numbers",
        state_nbytes="bytes of the state",
        max_outputs="outputs per message, at most",
        status_doorbell_address="the doorbell to ring with a new status",
        stages="what its turns run, from here, see `STAGES_WORDS`; its poller ends a chain when a stage fails",
        end_span_address="the function that is called at the end; 0: none",
        span="the record of what its turns run, from here, see `span_layout.py`",
        keyed="whether the state is a table of keys, see `KEYS_IN_ORDER`",
    ),
    line("host", STAGES_WORDS),  # of the kernel by itself
    line(
        "host",  # at any time
        command="what to do, see `COMMAND_RUN`",
        epoch="number of the command, written after it",
        closing="1: the kernel ends once all inputs have ended and are consumed",
    ),
    line(
        "poller",
        status="what it does, see `STATUS_IDLE`",
        echo="epoch of the command that `status` answers",
        blocked="1: there is input and no room",
        state_version="odd while a span may be changing the state",
        answers="number of answers, for whoever watches where nobody can ring",
        blocked_since="when it began to be blocked; 0: it is not",
        blocked_ticks="how long it was blocked before that",
        blocked_by="the output's edge that it is blocked by, from 1 on",
        idle_since="when the last span ended",
        starved_since="since when there is no input; 0: there is",
        end_phase="how far the call at the end has come, see `NOT_BEGUN`",
        end_record="number of the key that it is called for next",
        other_ticks="time of the other stages of chains, which its turns have run",
    ),
    line(
        "poller",
        {"ledger_version": "odd while the counts, or the histogram, are being changed"},
        COUNT_WORDS,
        cost="what a message takes, in 64ths of a tick, with more weight on the last ones",
    ),
    line(
        "poller",
        FAULT_WORDS,
        fault_edge="the edge that the messages under way, or those that failed, came from; 0: none",
    ),
    line("poller", histogram=array(HISTOGRAM_BUCKETS, "messages by log2 of their time in ticks")),
)

OWN_STAGES = within(BLOCK, STAGES)
"""Where a block says what its turns run if they run the kernel by itself."""

BELL_WORDS = {
    "state": "whether to ring it: `ARMED`, `RUNG` or `QUIET`",
    "next_address": "the next one in a list of what was rung",
    "parker_address": "the parker that wants to know",
}
"""What it takes to be rung."""

_, BELL = group("Bell", "shared", BELL_WORDS)

DOORBELL_DTYPE, DOORBELL = record(
    "Doorbell",
    line(
        "shared",
        BELL_WORDS,
        tag="what its parker knows it by",
        target_address="serves as a doorbell address; that of an event loop's doorbell leads to the doorbell itself",
        standing="1: armed again as soon as it has been collected",
    ),
)

RUN_ENTRY_DTYPE, RUN_ENTRY = record(
    "RunEntry",
    line(
        "shared",  # the words besides those of a bell by the host, before it hands the run entry over
        BELL_WORDS,
        block_address="the kernel's block",
        is_bounded="1: an event loop's thread may take the kernel's turns",
    ),
    line(
        "worker",
        owner="whose the kernel is, see `FREE`; by compare-and-swap, once per turn, and seldom by the host",
        run_queue_address="the next run entry in the worker's queue",
        idle_since="since when there was nothing to do; 0: there is something",
        next_edge="the input that is looked at first",
        span_limit="messages in a span, at most",
        span_ticks="how long a span should take",
        quick_spans="number of quick spans in a row",
        pace="64ths of a tick per message, of the last span that was long enough to tell",
        fruitless="spans of a source since the last one that has emitted something",
    ),
)

assert within(DOORBELL, BELL) == within(RUN_ENTRY, BELL) == 0  # a run entry is rung as a doorbell

PARKER_DTYPE, PARKER = record(
    "Parker",
    line("anyone", inbox_address="doorbells that were rung, newest first"),
    line(
        "shared",  # the sleeper sets `parked`, a waker takes it back
        parked="1: it sleeps, or is about to",
        fd="what wakes it",
        read_fd="what it sleeps on",
        waker_cpu="the CPU on which its last waker was",
        worker_moves="1: a worker is leaving this CPU to the sleeper",
    ),
    line(
        "host",
        stop="1: the worker is to end",
        min_patience="shortest time in ticks that it polls without work",
        max_patience="longest time in ticks that it polls without work",
        loop_address="the parker of the event loop",
        stat_fd="what tells whether its thread waits for a CPU",
        job_address="the job that it leads, if it leads",
        team_address="the team of its pool",
        scratch_address="memory for its calls of the system",
    ),
    line(
        "worker",
        run_queue_address="the last run entry of a circular list",
        n_queued="length of that list",
        turns="turns begun",
        current_address="the run entry that has its turn now; 0: none",
        parks="how often it has slept",
        patience="how many ticks it polls without work now",
        idle_since="since when it has nothing to do, or 0, `LONG_AGO`, `LOOKED`",
        crowded="1: it shares its CPU with the event loop, and should sleep at once",
        left_at="when it moved to another CPU last",
        stay="for how many ticks it stays on a CPU, at least",
        helping_address="the job that it helps with; 0: none",
    ),
    line(
        "loop",
        kept_address="the first run entry that the loop has rung and kept for itself",
        last_kept_address="the last of these",
        rang="1: the loop has rung a doorbell of its own",
        credit="how many ticks of turns it may take",
        max_credit="the most that `credit` grows to",
        map_credit="how many ticks of turns it may take for a map",
        earned_at="when `credit` was last added to",
        known_after="after how many messages it is known what one costs",
        take_turns_address="the function that takes the turns",
    ),
    line(
        "shared",
        offer_address="a job that waits for this worker's help; the worker takes it out",
        is_at_hand="1: the worker waits for an offer, awake",
    ),
)

FEEDER_DTYPE, FEEDER = record(
    "Feeder",
    line(
        "who pushes",
        busy="1 from before the look at `state` until the messages are published; by compare-and-swap",
        dropped="messages that there was no room for",
    ),
    line("shared", state="whether one may push, see `OPEN`; by compare-and-swap"),
    line(
        "host",  # before anybody pushes
        ring="the ring, from here",
        when_full="what happens to messages without room, see `WAIT`",
        doorbell_address="the doorbell that asks for room",
        parker_address="the parker that sleeps until there is room",
        woken_address="a doorbell to ring when a worker was woken; 0: none",
    ),
)

# doorbell.state: ring it; it is in an inbox or looked at anyway; nobody wants to know
ARMED, RUNG, QUIET = 0, 1, 2
# run_entry.owner
FREE, CLAIMED, COMMIT, REVOKED, GONE = 0, 1, 2, 3, 4
# feeder.state
OPEN, CLOSED, TAKES_NO_MORE, FORKED = 0, 1, 2, 3
# feeder.when_full
WAIT, RAISE, DROP = 0, 1, 2
# block.status; a coroutine kernel has no block, so these are the states that a poller can be in
STATUS_IDLE, STATUS_ACTIVE, STATUS_DEACTIVATED, STATUS_TERMINATING, STATUS_TERMINATED, STATUS_FAILED = range(6)
STATUS_DESERTED = 6  # a grid has ended by itself, since its host gave no sign of life
LAST_WORDS = (STATUS_DEACTIVATED, STATUS_TERMINATED, STATUS_FAILED, STATUS_DESERTED)
"""What a poller says when it gives the token back."""
# block.keyed
NO_KEYS, KEYS_IN_ORDER, KEYS_UNORDERED = 0, 1, 2
# block.end_phase
NOT_BEGUN, BEGUN, OVER = range(3)
# block.command
COMMAND_NONE, COMMAND_RUN, COMMAND_PAUSE, COMMAND_DRAIN, COMMAND_STOP = range(5)
