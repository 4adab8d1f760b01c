"""The handlers that a turn runs: the kernel's own, or those of the chain that it is the first stage of. Compiled."""

from __future__ import annotations

from ringkernel.codegen.operations import call_span, load
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import BLOCK, EDGE
from ringkernel.memory.span_layout import LANE_NBYTES, LANES, RUN


def record_of(block: int) -> int:
    """The record of what a kernel's turns run."""
    return block + load(block + BLOCK.span)


def lane_of(span: int, number: int) -> int:
    """One of the lanes of a span."""
    return int(span + LANES + LANE_NBYTES * number)


def chain_of(block: int) -> int:
    """The fused chain that a kernel's turns run; 0 if they run the kernel by itself."""
    chain = load(block + BLOCK.chain)
    return 0 if chain == 0 else block + chain


def last_stage(block: int) -> int:
    """The block whose output a turn writes to: the kernel's own, or that of the last stage of its fused chain."""
    chain = chain_of(block)
    return block if chain == 0 else chain + load(chain + CHAIN.last)


def call_handlers(run: int) -> int:
    """Call the function of what is run, a span or a part of one. Return what it returns."""
    return call_span(load(run + RUN.address), run)


def fault_words(block: int, chain: int) -> int:
    """Return the address of the words in which a span says what it has failed on."""
    return int(block + BLOCK.fault_index if chain == 0 else chain + CHAIN.fault_index)


def function_of(block: int, edge: int) -> int:
    """Return the address of the function that handles the messages of an input."""
    own = load(edge + EDGE.span_address)
    return load(block + BLOCK.span_address) if own == 0 else own


def context_of(block: int, chain: int) -> int:
    """Return the context that a span is called with: the kernel's own, or the record of the chain that is run."""
    return block + load(block + BLOCK.state) if chain == 0 else chain


def longest_span(chain: int, own: int) -> int:
    """Return how many messages a span that is not shared has at most: `own`, unless a chain is run."""
    return own if chain == 0 else load(chain + CHAIN.span_limit)


def max_threads(block: int) -> int:
    """Return how many threads may share a span of a kernel, or of its chain."""
    chain = chain_of(block)
    return load(block + BLOCK.max_threads) if chain == 0 else load(chain + CHAIN.max_threads)
