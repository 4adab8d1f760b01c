"""What a fused chain of kernels shares: who its stages are, and what the last span has come to, stage by stage.

The chain lies in the arena beside the blocks of its stages. The first stage's block names it while its turns run the
fused span; see `codegen/fused_span.py` and `ring/fused_commit.py`.
"""

from __future__ import annotations

from .layout import record

MAX_STAGES = 16
"""Longer chains are fused in pieces."""
SMALL_NBYTES = 256
"""A message of up to so many bytes passes from stage to stage in registers, or on the stack."""

CHAIN_DTYPE, CHAIN = record(
    "Chain",
    # host, while it holds the tokens of all stages. `span_limit`: messages in a span that is not split, at most;
    # `last`: the block of the last stage, as an offset from here; `held_up_address`: the doorbell address to ring when
    # there is no room; `max_threads`: how many may share a span
    ("n_stages", "span_address", "span_limit", "last", "held_up_address", "max_threads"),
    # for each stage: its block and the edge that it reads from, as offsets from here; its state; where the message for
    # the next stage lies, if it is not small; its part of the chain's time, of 1,024
    (f"blocks:{MAX_STAGES}",),
    (f"edges:{MAX_STAGES}",),
    (f"state_address:{MAX_STAGES}",),
    (f"message_address:{MAX_STAGES}",),
    (f"parts:{MAX_STAGES}",),
    # poller: what the fused span says. The first words as in a block; `fault_stage` is the stage that has failed, and
    # `failed_address` where the message lies that it has failed on, if it is not the first; what each stage has
    # dropped. `other_ticks` is the time of all stages but the first, so far; `by_timer`: how many messages the first
    # one's timer has emitted, which are of none that it has taken
    (
        "fault_index",
        "fault_info_address",
        "fault_edge",
        "fault_count",
        "fault_stage",
        "failed_address",
        "other_ticks",
        "by_timer",
    ),
    (f"dropped:{MAX_STAGES}",),
    # poller: a copy of the message that failed, if it is small
    (f"failed:{SMALL_NBYTES // 8}",),
)
