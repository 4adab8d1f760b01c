"""The handlers that a turn runs: the kernel's own, or those of the chain that it is the first stage of. Compiled.

What a turn goes by are the words of `STAGES_WORDS`, which every block has, and a chain, too: a kernel by itself is one
stage.
"""

from __future__ import annotations

from ringkernel.codegen.operations import call_span, load
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import BLOCK, EDGE, STAGES
from ringkernel.memory.span_layout import LANE_NBYTES, LANES, RUN


def record_of(block: int) -> int:
    """Return the record of what a kernel's turns run."""
    return block + load(block + BLOCK.span)


def lane_of(span: int, number: int) -> int:
    """Return one of the lanes of a span."""
    return int(span + LANES + LANE_NBYTES * number)


def stages_of(block: int) -> int:
    """Return what a kernel's turns run: the words of its own block, or the chain that it begins."""
    return block + load(block + BLOCK.stages)


def stage_at(block: int, stages: int, number: int) -> int:
    """Return the block of a stage: the first is the kernel itself, whose block is given."""
    return block if number == 0 else further_stage(stages, number)


def further_stage(stages: int, number: int) -> int:
    """Return the block of a stage of a chain."""
    return stages + load(stages + CHAIN.blocks + 8 * number)


def last_stage(block: int) -> int:
    """Return the block whose output a turn writes to: the kernel's own, or that of the last stage of its chain."""
    stages = stages_of(block)
    return stages + load(stages + STAGES.last)


def call_handlers(run: int) -> int:
    """Call the function of what is run, a span or a part of one. Return what it returns."""
    return call_span(load(run + RUN.address), run)


def function_of(block: int, edge: int) -> int:
    """Return the address of the function that handles the messages of an input."""
    own = load(edge + EDGE.span_address)
    return load(stages_of(block) + STAGES.span_address) if own == 0 else own


def max_threads(block: int) -> int:
    """Return how many threads may share a span of a kernel, or of its chain."""
    return load(stages_of(block) + STAGES.max_threads)
