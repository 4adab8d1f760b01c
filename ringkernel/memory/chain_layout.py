"""The record of a fused chain of kernels: what the first stage's turns run, who the other stages are, and what the last
span has come to, stage by stage.

It lies in the arena beside the blocks of its stages. The first stage's block names it in place of its own words while
its turns run the fused span; see `codegen/steps.py` and `ring/spans/further_stages.py`.
"""

from __future__ import annotations

from .layout import STAGES, STAGES_WORDS
from .record import array, line, record, within

MAX_STAGES = 16
"""Longer chains are fused in pieces."""
SMALL_NBYTES = 256
"""A message of up to so many bytes passes from stage to stage in registers, or on the stack."""

CHAIN_DTYPE, CHAIN = record(
    "Chain",
    line("host", STAGES_WORDS),  # while it holds the tokens of all stages
    line("host", blocks=array(MAX_STAGES, "per stage: its block, from here")),
    line("host", edges=array(MAX_STAGES, "per stage: the edge that it reads from, from here")),
    line("host", state_address=array(MAX_STAGES, "per stage: its state")),
    line("host", message_address=array(MAX_STAGES, "per stage: where the next one's message lies if it is not small")),
    line("host", parts=array(MAX_STAGES, "per stage: its part of the chain's time, of 1,024")),
    line(
        "poller",
        failed_address="where the message lies that it has failed on, if it is not the first stage",
        by_timer="messages that the first stage's timer has emitted, which came of none that it has taken",
    ),
    line("poller", dropped=array(MAX_STAGES, "per stage: messages that it has dropped in the last span")),
    line("poller", failed=array(SMALL_NBYTES // 8, "copy of the message that has failed, if it is small")),
)
assert within(CHAIN, STAGES) == 0
