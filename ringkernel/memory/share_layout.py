"""The words of a shared span: the copies of its record that threads run, the job that they share, and the team."""

from __future__ import annotations

from .record import array, line, record, within
from .span_layout import RUN, RUN_WORDS

MAX_PARTS, MAX_SHARDS = 1024, 64
MAX_TEAM = 255

PART_DTYPE, PART = record(
    "Part",
    line(
        "who takes a part",
        RUN_WORDS,
        first="of a shard: its first entry",
        next="of a shard: the entry that the leader writes next",
    ),
)
PART_NBYTES = PART_DTYPE.itemsize
assert within(PART, RUN) == 0

SHARED_DTYPE, SHARED = record(
    "Shared",
    # written while nobody is inside
    line("leader", whole=array(1, "copy of the span's record, which parts are copies of", of=PART_DTYPE)),
    line(
        "leader",
        message_nbytes="how far apart messages are",
        slot_nbytes="how far apart outputs are",
        room_nbytes="what one message may emit",
        length="messages in a chunk; of a span in shards: in all of them",
        n_parts="number of chunks, or shards",
        span_ticks="how long a span of one thread should take",
        deadline="from this time on the span is to end",
        block_address="the kernel's block",
        leader_cpu="the CPU that the leader is on",
        # of a span in shards, see `shards.py`
        table="the table of keys; 0: the span is in chunks",
        places="per message: the number of its entry",
        entries="shard by shard, per message: its number, its record, and what became of it",
        log="per entry: the state before the message",
        outputs="per entry: room for the output",
    ),
    line(
        "host",
        space_address="room for what is written down of a span in shards",
        space_nbytes="bytes of that",
    ),
    line("shared", is_led="1 from when somebody leads until the parts have been gathered"),
    line("shared", gate="how many helpers are inside; below 0: nobody may come in"),
    line("shared", next_part="next part to take"),
    line("shared", stop="1: no further part is to be taken"),
    line("who takes a part", parts=array(MAX_PARTS, "the chunks, or shards", of=PART_DTYPE)),
)

TEAM_DTYPE, TEAM = record(
    "Team",
    line(
        "host",
        n_cores="how many threads may be busy",
        n_workers="number of workers",
        lay_out_shards_address="the function of `shards.py`",
    ),
    line("host", workers=array(MAX_TEAM + 1, "the parkers of a pool's workers, which may help each other")),
    line("leaders", missing="how many more helpers would have been of use"),
)
