"""The record of a fused chain, see `memory/chain_layout.py`, and who is rung for its stages while they are one."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ringkernel.memory.chain_layout import CHAIN_DTYPE, SMALL_NBYTES
from ringkernel.memory.layout import BLOCK, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ringkernel.codegen.span_types import Span
    from ringkernel.devices.event_loop.loop_parker import LoopParker
    from ringkernel.ring.host.record_edge import RecordEdge

    from .chain import Stage

FUSED_SPAN_LIMIT = 65_536
"""Messages in a fused span, at most. Its handlers provably end soon, so that one may hold more than others: with 1,024
of 4 bytes the turns would take longer than the work."""
WHOLE = 1024
"""The sum of the parts of all stages."""


def edge_between(before: Stage, stage: Stage) -> RecordEdge:
    """The input of a stage that the one before feeds."""
    return next(edge for edge in stage.rings.edges if edge.ring is before.output)


class ChainRecord:
    """The record that the turns of a chain go by. What changes it is for who holds the tokens of all stages.

    `on_foreign`: somebody has sent to a stage that is not the first; `on_held_up`: there is no room, which `ask` asks
    for.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        span: Span,
        parker: LoopParker,
        on_foreign: Callable[[], None],
        on_held_up: Callable[[], None],
    ) -> None:
        self._stages, self._span, self._parker = stages, span, parker
        self._region = parker.arena.allocate(CHAIN_DTYPE.itemsize)
        self._foreign = parker.doorbell(on_foreign, standing=True)
        self._held_up = parker.doorbell(on_held_up)
        self._fill(self._region.view(CHAIN_DTYPE)[0])

    def _fill(self, record: Any) -> None:
        stages, here = self._stages, self._region.address
        record["n_stages"], record["span_address"] = len(stages), self._span.address
        record["last"] = stages[-1].block.address - here
        record["longest_span"], record["max_threads"] = FUSED_SPAN_LIMIT, threads_for(stages)
        record["held_up_address"] = self._held_up.doorbell_address
        for i, (stage, part) in enumerate(zip(stages, parts_of(stages), strict=True)):
            block = stage.block
            record["blocks"][i] = block.address - here
            record["state_address"][i] = block.address + block.read(BLOCK.state)
            record["parts"][i] = part
            if stage is not stages[-1]:
                assert stage.output is not None
                record["message_address"][i] = stage.output.storage.address
        for i, (before, stage) in enumerate(pairwise(stages), 1):
            record["edges"][i] = edge_between(before, stage).address - here

    def install(self) -> None:
        """Let the first stage's turns run the chain. Who sends to another one is noticed, and who makes room behind the
        last one rings the first."""
        first, *others = self._stages
        write = self._parker.api.write_word
        for stage in others:  # whose tokens stay with the host
            stage.block.make_room()
        for before, stage in pairwise(self._stages):
            assert before.output is not None
            before.output.want(NEVER)
            write(stage.doorbell_address, self._foreign.address)
        others[-1].rings.ring_for_room(first.doorbell_address)
        first.block.run_chain(self._region.address)
        self.ask()

    def is_fed(self) -> bool:
        """Return whether something waits in a stage that is not the first."""
        edges = [edge for stage in self._stages[1:] for edge in stage.rings.edges]
        return any(edge.published() > edge.position() for edge in edges)

    def ask(self) -> None:
        """Ask to be told once when there is no room."""
        self._held_up.arm()

    def remove(self) -> None:
        """Let each stage run by itself."""
        first, *others = self._stages
        if not first.executor.has_token:  # otherwise its poller has ended the chain, since a stage has failed
            first.block.run_chain(0)
        for stage in others:
            if not stage.has_ended:
                self._parker.api.write_word(stage.doorbell_address, 0)
        others[-1].rings.ring_for_room(None)
        self.discard()

    def discard(self) -> None:
        """It was not installed, or was removed."""
        self._foreign.release()
        self._held_up.release()

    def quarantine(self) -> None:
        """A thread that does not return may still touch it."""
        self._region.quarantine()


def threads_for(stages: Sequence[Stage]) -> int:
    """Return how many threads may share a span: one, unless what comes out is the same whoever runs which messages, and
    lies where one thread would have put it. Only a kernel by itself is run in shards."""
    *before, last = stages
    is_told_apart = last.output is not None and all(stage.executor.never_drops for stage in stages)
    are_small = all(
        stage.output is not None and stage.output.message_type.dtype.itemsize <= SMALL_NBYTES for stage in before
    )
    has_keys = any(stage.block.keys is not None for stage in stages)
    if has_keys or not (is_told_apart and are_small):
        return 1
    return min(stage.executor.max_threads for stage in stages)


def parts_of(stages: Sequence[Stage]) -> list[int]:
    """Return the part of each stage in the time of a message, of `WHOLE`."""
    means = []
    for stage in stages:
        counters = stage.snapshot()
        means.append(int(counters["busy_ticks"]) / max(1, int(counters["processed"]) + int(counters["failed"])))
    total = sum(means) or 1.0
    return [max(1, round(WHOLE * mean / total)) for mean in means]
