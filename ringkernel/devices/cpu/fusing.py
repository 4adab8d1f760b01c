"""Which connected kernels of a pool run as one, and when: those through which much goes, on one worker, as long as
nobody looks in between.

A chain is fused when it has been busy for a few looks of the pool's monitor, which looks only while a worker is awake;
its span is compiled in a thread meanwhile. What comes apart soon is fused again later and later.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringkernel.devices.compiled.chain import ALONE
from ringkernel.devices.compiled.chain_record import edge_between
from ringkernel.devices.compiled.compiling import chain_of
from ringkernel.devices.compiled.engine import CompiledEngine
from ringkernel.devices.compiled.fused_chain import FusedChain
from ringkernel.devices.event_loop.background import in_thread, is_exiting
from ringkernel.memory.chain_layout import MAX_STAGES
from ringkernel.memory.layout import BLOCK, COMMAND_RUN, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ringkernel.codegen.span_types import Span
    from ringkernel.devices.event_loop.loop_parker import LoopParker

logger = logging.getLogger("ringkernel")

BUSY_MESSAGES = 1_000
"""So many since the last look, 10 ms ago, are many."""
BUSY_LOOKS, BUSY_LOOKS_OF_MANY = 3, 150
"""So often in a row it has to be so. Where there are several workers, a chain is first cut into pieces for them, see
`balancing.py`, and then each piece becomes one: on one worker all of it would have but one core."""
MAX_MESSAGE_NS = 20_000
"""Beyond this the rings do not matter: a message through the whole chain, on average."""
MOST_LINKS = 32
"""Connections that are looked at in one look, so that thousands of kernels cost no more."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0

_spans: dict[Any, Span | None] = {}
"""The fused spans of this process; None while one is being compiled, or if it cannot be."""


@dataclass(slots=True)
class _Seen:
    """The record of a chain's first kernel."""

    processed: int = 0
    looks: int = 0
    wait_s: float = FIRST_WAIT_S
    not_before: float = 0.0
    fused_at: float = 0.0


class Fusing:
    """Looks after the connected kernels of one pool. All methods belong to its event loop's thread."""

    def __init__(self, parker: LoopParker, n_workers: int, *, is_on: bool) -> None:
        self._parker, self._loop = parker, parker.loop
        self._fed: list[weakref.ref[CompiledEngine]] = []
        self._next = 0
        self._seen: weakref.WeakKeyDictionary[CompiledEngine, _Seen] = weakref.WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: weakref.WeakSet[CompiledEngine] = weakref.WeakSet()
        self._is_on = is_on
        self._n_workers = n_workers

    def note(self, kernel: Any) -> None:
        """Another compiled kernel feeds this one from now on."""
        if self._is_on:
            self._fed.append(weakref.ref(kernel))

    def look(self) -> None:
        """Fuse what is worth it, and compile what may be."""
        if not self._fed:
            return
        now = self._loop.time()
        for stages in self._chains(self._some_fed()):
            seen = self._seen.setdefault(stages[0], _Seen())
            processed = stages[0].block.read(BLOCK.processed)
            is_busy = processed - seen.processed >= BUSY_MESSAGES
            seen.processed = processed
            seen.looks = seen.looks + 1 if is_busy else 0
            enough = BUSY_LOOKS if self._n_workers == 1 else BUSY_LOOKS_OF_MANY
            if seen.looks >= enough and now >= seen.not_before and mean_ns(stages) <= MAX_MESSAGE_NS:
                self._fuse_when_compiled(stages)

    def _some_fed(self) -> list[CompiledEngine]:
        """Kernels that others feed, some at a time."""
        if self._next >= len(self._fed):
            self._next = 0
            self._fed = [one for one in self._fed if (kernel := one()) is not None and not kernel.has_ended]
        some = self._fed[self._next : self._next + MOST_LINKS]
        self._next += MOST_LINKS
        return [kernel for one in some if (kernel := one()) is not None]

    def _chains(self, fed: Iterable[CompiledEngine]) -> list[list[CompiledEngine]]:
        """The longest chains of kernels that can be one now, but for those that would be longer in a moment: a part of
        a chain is another span to compile, and is in the way of the whole."""
        after, growing = {}, set()
        for kernel in fed:
            source = source_of(kernel)
            if source is None:
                continue
            reason = self._why_apart(source, kernel)
            if reason is None:
                after[source] = kernel
            elif reason.is_momentary:
                growing |= {source, kernel}
        chains = []
        for first in after.keys() - set(after.values()):
            stages = [first]
            while stages[-1] in after and len(stages) < MAX_STAGES:
                stages.append(after[stages[-1]])
            if growing.isdisjoint((first, stages[-1])):
                chains.append(stages)
        return chains

    def _why_apart(self, source: CompiledEngine, kernel: CompiledEngine) -> Reason | None:
        """Return why they cannot be one now. It is said once, if it lasts."""
        reason = why_apart(source, kernel)
        if reason is not None and not reason.is_passing and kernel not in self._told:
            self._told.add(kernel)
            logger.debug("%r and %r do not run as one: %s", source.kernel_id, kernel.kernel_id, reason.words)
        return reason

    def _fuse_when_compiled(self, stages: list[CompiledEngine]) -> None:
        key = chain_of(stage.declaration for stage in stages)
        if key not in _spans:
            _spans[key] = None
            task = self._loop.create_task(_compile(key, ", ".join(repr(stage.kernel_id) for stage in stages)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        span = _spans[key]
        if span is not None:
            self.fuse(stages, span)

    def fuse(self, stages: list[CompiledEngine], span: Span) -> FusedChain:
        """Let these kernels become one, if they can."""
        first = stages[0]
        seen = self._seen.setdefault(first, _Seen())
        seen.looks, seen.fused_at = 0, self._loop.time()
        return FusedChain(stages, span, self._parker, lambda: self._parted(seen))

    def _parted(self, seen: _Seen) -> None:
        now = self._loop.time()
        lasted = now - seen.fused_at
        seen.wait_s = FIRST_WAIT_S if lasted > LONGEST_WAIT_S else min(2 * seen.wait_s, LONGEST_WAIT_S)
        seen.not_before = now + seen.wait_s


async def _compile(key: Any, names: str) -> None:
    try:
        await in_thread(lambda: _find(key))
        logger.debug("the kernels %s can run as one", names)
    except asyncio.CancelledError:
        if _spans.get(key) is None:
            _spans.pop(key, None)  # the thread goes on, and leaves it here all the same
        raise
    except Exception as error:  # noqa: BLE001 (whatever numba says: they run one by one)
        logger.info("the kernels %s cannot run as one: %s", names, error)


def _find(key: Any) -> None:
    from ringkernel.codegen.span_cache import find_span

    if not is_exiting():
        _spans[key] = find_span(key)


def source_of(kernel: CompiledEngine) -> CompiledEngine | None:
    """The one kernel that feeds this one, if it is compiled; None if there are none, or more."""
    edges = [edge for edge in kernel.rings.edges[1:] if not edge.closed and not edge.ring.is_at_end]
    sources = {edge.ring.engine for edge in edges}
    sources = {source for source in sources if source is None or not source.has_ended}
    source = sources.pop() if len(sources) == 1 else None
    return source if isinstance(source, CompiledEngine) else None


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason why kernels run one by one. `is_passing`: it may be over soon; `is_momentary`: it mostly is at once, and
    nothing passes meanwhile."""

    words: str
    is_passing: bool = False
    is_momentary: bool = False


def why_apart(source: CompiledEngine, target: CompiledEngine) -> Reason | None:
    """Return why two kernels, the first of which feeds the second, cannot be one now; None if they can."""
    return why_alone(source) or why_first(target) or why_alone(target) or _who_is_between(source, target)


def _who_is_between(source: CompiledEngine, target: CompiledEngine) -> Reason | None:
    edge = edge_between(source, target)
    if source_of(target) is not source:
        return Reason(f"others feed {target.kernel_id!r}, too")
    if source.inlet.edges or any(other is not edge and not other.closed for other in edge.ring.edges):
        return Reason(f"others read the outputs of {source.kernel_id!r}, too")
    if source.rings.writing is not source.output or target.rings.reading is not target.rings.edges:
        return Reason("a map goes through one of them", is_passing=True)
    if edge.limit != NEVER:
        return Reason(f"{target.kernel_id!r} takes no more", is_passing=True)
    if worker_of(source) is not worker_of(target):
        return Reason("they are on different workers", is_passing=True)
    return None


def why_first(kernel: CompiledEngine) -> Reason | None:
    """Return why a kernel can be the first stage at most; None if it may be any."""
    if kernel.declaration.order is not None:
        return Reason(f"{kernel.kernel_id!r} goes by time, and looks at all that comes")
    return None


def why_alone(kernel: CompiledEngine) -> Reason | None:
    """Return why a kernel cannot be a stage of a chain now; None if it can."""
    declaration, executor = kernel.declaration, kernel.executor
    if declaration.inputs and declaration.order is None:
        return Reason(f"{kernel.kernel_id!r} has several inputs, in no order")
    if declaration.batch or declaration.max_outputs != 1:
        return Reason(f"{kernel.kernel_id!r} takes batches")
    if not executor.is_bounded:
        return Reason(f"nothing shows that the handler of {kernel.kernel_id!r} ends soon")
    if kernel.chain is not ALONE or kernel.is_ending or kernel.closing is not None:
        return Reason(f"{kernel.kernel_id!r} is part of a chain, or ends", is_passing=True)
    if not executor.has_token or kernel.handshake.commanded != COMMAND_RUN or kernel.handshake.is_asking:
        return Reason(f"{kernel.kernel_id!r} is not running", is_passing=True, is_momentary=True)
    return None


def worker_of(kernel: CompiledEngine) -> Any:
    """The worker that runs a kernel now."""
    run_entry = getattr(kernel.executor, "run_entry", None)
    return getattr(run_entry, "worker", kernel)


def mean_ns(stages: Iterable[CompiledEngine]) -> float:
    """Return the mean time of a message through all stages."""
    total = 0.0
    for stage in stages:
        counters = stage.snapshot()
        handled = int(counters["processed"]) + int(counters["failed"])
        total += stage.executor.ns_of(int(counters["busy_ticks"])) / max(1, handled)
    return total
