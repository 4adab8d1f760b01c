"""The words that the threads of a split span share: the job, its chunks, and the team that may help."""

from __future__ import annotations

from .layout import FAULT_WORDS
from .record import array, line, record

MAX_CHUNKS, MAX_SHARDS = 1024, 64
MAX_TEAM = 255

CHUNK_DTYPE, CHUNK = record(
    "Chunk",
    line(
        "who takes a chunk",
        FAULT_WORDS,
        done="messages handled",
        emitted="outputs",
        busy_ticks="time it took",
    ),
    nbytes=64,
)

SPLIT_JOB_DTYPE, SPLIT_JOB = record(
    "SplitJob",
    line(
        "leader",  # while nobody is inside
        source="where the messages are",
        count="how many there are",
        target="where outputs go",
        state="what the span is called with for the state",
        span_address="the function that handles messages",
        message_nbytes="how far apart messages are",
        slot_nbytes="how far apart outputs are",
        room_nbytes="what one message may emit",
        chunk="messages in a chunk",
        n_chunks="number of chunks, or shards",
        chunk_ticks="how long a chunk should take",
        deadline="no further chunk is taken after this time",
        block_address="the kernel's block",
        leader_cpu="the CPU that the leader is on",
    ),
    # of a span with keys, see `shards.py`
    line(
        "leader",
        table="the table of keys; 0: the span has none",
        places="per message: its shard, and its record",
        in_shards="per message, shard by shard: twice its number, and whether it has emitted",
        log="states before each message, shard by shard",
        outputs="outputs, shard by shard",
        key_at="where in a message the key is",
        n_keys="how many keys there were before",
        n_kept="how many messages keep the keys that came with them",
    ),
    line("leader", first_of=array(MAX_SHARDS + 1, "per shard: number of its first entry in `in_shards`")),
    line("leader", next_of=array(MAX_SHARDS, "per shard: the next entry")),
    line("leader", next_output_of=array(MAX_SHARDS, "per shard: the next output")),
    line(
        "host",
        space_address="room for what is laid out of a span with keys",
        space_nbytes="bytes of that",
    ),
    line("shared", is_led="1 from when somebody leads until the outputs have been gathered"),
    line("shared", gate="how many helpers are inside; below 0: nobody may come in"),
    line("shared", next_chunk="next chunk to take"),
    line("shared", stop="1: no further chunk is to be taken"),
    line("who takes a chunk", chunks=array(MAX_CHUNKS, "the chunks, or shards", of=CHUNK_DTYPE)),
)

TEAM_DTYPE, TEAM = record(
    "Team",
    line(
        "host",
        n_cores="how many threads may be busy",
        n_workers="number of workers",
        find_records_address="a function of `shard_keys.py`",
        take_keys_back_address="a function of `shard_keys.py`",
    ),
    line("host", workers=array(MAX_TEAM + 1, "the parkers of a pool's workers, which may help each other")),
    line("leaders", missing="how many more helpers would have been of use"),
)
