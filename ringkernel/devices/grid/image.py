"""Writing a grid's mailbox before it starts: copies of the kernel's records, and tables of what to fetch and to post.

Only the host knows where the records are; the grid goes by the tables. A neighbour's cursor is fetched from device
memory, and posted there, if it lies there (`device_rings.py`). A word of a table says where in the mailbox something is
as an offset, since a grid may copy the mailbox to memory of its own.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ringkernel.memory.layout import (
    BLOCK,
    BLOCK_DTYPE,
    COUNTS,
    EDGE,
    EDGE_DTYPE,
    FAULT,
    FREE,
    HISTOGRAM_BUCKETS,
    NEVER,
    OWN_STAGES,
    RING,
    RING_DTYPE,
    RUN_ENTRY,
    RUNG,
    STATUS_DESERTED,
)
from ringkernel.memory.mailbox_layout import (
    FETCH_NBYTES,
    FETCH_UNROLL,
    HEART,
    HISTOGRAM,
    INPUT_NBYTES,
    INPUT_ON_HOST,
    INPUT_RING,
    INPUTS,
    JOB,
    KNOWN,
    MAILBOX,
    MAILBOX_BLOCK,
    MAILBOX_JOB,
    MAILBOX_RUN_ENTRY,
    MAILBOX_SPAN,
    MARK,
    MOVE_NBYTES,
    OUTPUTS,
    POST_NBYTES,
    UNDER_WAY,
    places,
)
from ringkernel.memory.record import within
from ringkernel.memory.span_layout import LANE, SPAN, TIME_AT, lane_at, span_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ringkernel.devices.compiled.kernel import Kernel
    from ringkernel.memory.mailbox_layout import Places
    from ringkernel.ring.host.record_edge import RecordEdge

    from .hardware import Code, Hardware

BEAT_TIMEOUT_NS = 3_000_000_000


class RunsAsGrid(Protocol):
    """A kernel's executor, as the pool sees it. Addresses are 0 for what the kernel has not."""

    kernel: Kernel
    code: Code
    hardware: Hardware
    context_address: int
    context_nbytes: int
    staging_address: int

    def take_answer(self, before: int) -> bool:
        """A grid is over that has begun when there were `before` answers: take what it said. Return False if it said
        nothing."""

    def lose(self, reason: str) -> None:
        """The device has ended the grid, or is gone."""


def places_of(executor: RunsAsGrid) -> Places:
    """Return where the parts of the kernel's mailbox are."""
    rings, by_time = executor.kernel.rings, executor.kernel.declaration.order is not None
    n_consumers = 0 if rings.writing is None else len(rings.writing.edges)
    return places(len(rings.reading), n_consumers, executor.code.n_threads, by_time=by_time)


class Image:
    """The mailbox of one grid, in zeroed memory: `words`, at `address`. The token is the caller's."""

    def __init__(
        self, words: npt.NDArray[np.int64], address: int, executor: RunsAsGrid, heart: int, read: Callable[[int], int]
    ) -> None:
        self._words, self._address, self._executor = words, address, executor
        self._places = places_of(executor)
        self._block = executor.kernel.block
        self._read = read
        self._by_time = executor.kernel.declaration.order is not None
        self._moves: list[int] = []
        self._times: list[int] = []
        self._fetches: list[int] = []
        self._near_fetches: list[int] = []
        self._near_posts: list[int] = []
        self._posts: list[list[int]] = [[] for _ in range(HISTOGRAM + 1)]
        self._write_head()
        self._write_block()
        self._write_span()
        self._fetch(self._fetches, self._block.address + BLOCK.epoch, MAILBOX_BLOCK + BLOCK.epoch)
        self._fetch(self._fetches, heart + HEART.beat, MAILBOX.beat)
        self._fetch(self._fetches, heart + HEART.leave, MAILBOX.leave)
        self._write_output()
        for number, edge in enumerate(executor.kernel.rings.reading):
            self._write_input(number, edge)
        self._write_tables()

    # --- words -------------------------------------------------------------------------------------------------

    def _put(self, at: int, *values: int) -> None:
        self._words[at // 8 : at // 8 + len(values)] = values

    def _copy(self, at: int, address: int, nbytes: int) -> None:
        source = (ctypes.c_int64 * (nbytes // 8)).from_address(address)
        self._words[at // 8 : (at + nbytes) // 8] = np.ctypeslib.as_array(source)

    def _lead_out(self, at: int, origin: int, address: int) -> None:
        """Let a word say how far it is from `origin`, in the mailbox, to an address outside."""
        self._put(at, address - self._address - origin)
        self._moves += [at, 1]

    def _lead_in(self, at: int, target: int) -> None:
        """Let a word be the address of what is at `target` in the mailbox."""
        self._put(at, self._address + target)
        self._moves += [at, -1]

    def _fetch(self, table: list[int], there: int, here: int) -> None:
        """Have a word fetched, and fetch it now."""
        table += [there, here]
        self._put(here, self._read(there))

    def _post(self, table: int, here: int, there: int) -> None:
        self._posts[table] += [here, there, self._read(there)]

    # --- records -----------------------------------------------------------------------------------------------

    def _write_head(self) -> None:
        executor, device = self._executor, self._executor.hardware
        self._put(MAILBOX.nbytes, self._places.marks)
        self._put(MAILBOX.host_block, self._block.address)
        self._put(MAILBOX.context_on_host, self._block.address + self._block.read(BLOCK.state))
        self._put(MAILBOX.context_address, executor.context_address)
        self._put(MAILBOX.context_nbytes, executor.context_nbytes + -executor.context_nbytes % 8)
        self._put(MAILBOX.patience, int(device.patience_ns * device.ticks_per_ns))
        self._put(MAILBOX.beat_timeout, int(BEAT_TIMEOUT_NS * device.ticks_per_ns))
        self._put(MAILBOX.max_nap_ns, device.max_nap_ns)
        self._put(MAILBOX.histogram_is_posted, 1)
        self._put(MAILBOX_RUN_ENTRY + RUN_ENTRY.owner, FREE)
        self._put(MAILBOX_RUN_ENTRY + RUN_ENTRY.state, RUNG)
        self._put(MAILBOX_RUN_ENTRY + RUN_ENTRY.span_limit, 1)
        self._put(MAILBOX_RUN_ENTRY + RUN_ENTRY.span_ticks, int(device.span_ns * device.ticks_per_ns))
        self._lead_in(MAILBOX_RUN_ENTRY + RUN_ENTRY.block_address, MAILBOX_BLOCK)
        n_threads = executor.code.n_threads
        self._put(MAILBOX_JOB + JOB.n_threads, n_threads)
        self._put(MAILBOX_JOB + JOB.staging, executor.staging_address)
        self._lead_in(MAILBOX_JOB + JOB.marks, self._places.marks)
        self._lead_in(MAILBOX_JOB + JOB.scan, self._places.marks + MARK * n_threads)

    def _write_block(self) -> None:
        block, read = self._block.address, self._block.read
        self._copy(MAILBOX_BLOCK, block, BLOCK_DTYPE.itemsize)
        self._put(MAILBOX_BLOCK + BLOCK.inputs, self._places.input_table - MAILBOX_BLOCK)
        self._put(MAILBOX_BLOCK + BLOCK.span, MAILBOX_SPAN - MAILBOX_BLOCK)
        self._put(MAILBOX_BLOCK + BLOCK.fault_edge, 0)  # an edge in host memory
        context = self._executor.context_address
        self._lead_out(MAILBOX_BLOCK + BLOCK.state, MAILBOX_BLOCK, context)
        self._lead_out(MAILBOX_BLOCK + BLOCK.context, MAILBOX_BLOCK + OWN_STAGES, context)
        self._put(MAILBOX.told_status, read(BLOCK.status))
        self._put(MAILBOX.told_echo, read(BLOCK.echo))
        self._put(MAILBOX.told_edge, read(BLOCK.fault_edge))
        if read(BLOCK.status) == STATUS_DESERTED:
            self._put(MAILBOX_BLOCK + BLOCK.echo, -1)  # the command that held then is to be carried out anew
        for word in (BLOCK.in_flight, BLOCK.blocked, BLOCK.end_phase, BLOCK.end_record):
            self._post_of_block(UNDER_WAY, word)
        counts, fault = within(BLOCK, COUNTS), within(BLOCK, FAULT)
        for word in (*(counts + one for one in COUNTS), *(fault + one for one in FAULT)):
            if word != BLOCK.in_flight:
                self._post_of_block(OUTPUTS, word)
        for bucket in range(HISTOGRAM_BUCKETS):
            self._post_of_block(HISTOGRAM, BLOCK.histogram + 8 * bucket)

    def _post_of_block(self, table: int, word: int) -> None:
        self._post(table, MAILBOX_BLOCK + word, self._block.address + word)

    def _write_span(self) -> None:
        on_host = self._block.span_address
        nbytes = span_nbytes(len(self._executor.kernel.rings.reading) if self._by_time else 1)
        self._copy(MAILBOX_SPAN, on_host, nbytes)
        if self._by_time:
            self._put(MAILBOX.times_on_host, on_host + TIME_AT)
            self._put(MAILBOX.times_nbytes, nbytes - TIME_AT)
            self._post(OUTPUTS, MAILBOX_SPAN + SPAN.late, on_host + SPAN.late)

    def _write_input(self, number: int, edge: RecordEdge) -> None:
        at = self._places.inputs + number * INPUT_NBYTES
        ring = at + INPUT_RING
        ring_on_host, device_tail = edge.ring.address, self._read(edge.ring.address + RING.device_cursor_address)
        self._put(self._places.input_table + 8 * number, at - MAILBOX_BLOCK)
        self._put(at + INPUT_ON_HOST, edge.address - self._block.address)
        self._copy(at, edge.address, EDGE_DTYPE.itemsize)
        self._copy(ring, ring_on_host, RING_DTYPE.itemsize)
        self._put(at + EDGE.ring, INPUT_RING)
        self._lead_out(ring + RING.slots, ring, ring_on_host + self._read(ring_on_host + RING.slots))
        self._fetch(self._times, ring_on_host + RING.ended, ring + RING.ended)  # before `progress`, and both before
        self._fetch(self._times, ring_on_host + RING.progress, ring + RING.progress)  # `tail`: what they stand for is
        self._fetch_cursor(device_tail, ring_on_host + RING.tail, ring + RING.tail)  # there
        self._fetch(self._fetches, edge.address + EDGE.limit, at + EDGE.limit)
        self._post_cursor(INPUTS, at + EDGE.head, edge.address + EDGE.head, edge.address + EDGE.device_cursor_address)
        if self._by_time:
            lane = self._block.span_address + lane_at(number)
            self._post(UNDER_WAY, MAILBOX_SPAN + lane_at(number) + LANE.count, lane + LANE.count)
            self._post(KNOWN, ring + RING.tail, lane + LANE.known_tail)
            self._post(KNOWN, ring + RING.progress, lane + LANE.known_progress)
            self._post(KNOWN, ring + RING.ended, lane + LANE.known_ended)

    def _fetch_cursor(self, on_device: int, on_host: int, here: int) -> None:
        """Have a neighbour's cursor fetched from where it lies; `on_device` is 0 if that is host memory."""
        if on_device == 0:
            self._fetch(self._fetches, on_host, here)
        else:
            self._near_fetches += [on_device, here]  # host memory has a mirror of it, which serves until it is fetched
            self._put(here, self._read(on_host))

    def _post_cursor(self, table: int, here: int, there: int, device_cursor_at: int) -> None:
        self._post(table, here, there)
        on_device = self._read(device_cursor_at)
        if on_device != 0:
            self._near_posts += [here, on_device, self._read(there)]

    def _write_output(self) -> None:
        output, at, table = self._executor.kernel.rings.writing, self._places.output, self._places.edge_table
        if output is None:
            return
        self._copy(at, output.address, RING_DTYPE.itemsize)
        self._put(MAILBOX_BLOCK + BLOCK.output, at - MAILBOX_BLOCK)
        self._put(at + RING.next, output.position())
        self._put(at + RING.low, NEVER)
        self._put(at + RING.edges, table - at)
        self._put(at + RING.n_edges, len(output.edges))
        self._lead_out(at + RING.slots, at, output.address + self._read(output.address + RING.slots))
        self._post_cursor(
            OUTPUTS, at + RING.tail, output.address + RING.tail, output.address + RING.device_cursor_address
        )
        if self._by_time:
            self._post(INPUTS, at + RING.progress, output.address + RING.progress)
        self._fetch(self._fetches, output.address + RING.n_open, at + RING.n_open)
        for number, edge in enumerate(output.edges):
            here = self._places.consumers + number * EDGE_DTYPE.itemsize
            self._put(table + 8 * number, here - at)
            on_device = self._read(edge.address + EDGE.device_cursor_address)
            self._fetch_cursor(on_device, edge.address + EDGE.head, here + EDGE.head)
            self._fetch(self._fetches, edge.address + EDGE.closed, here + EDGE.closed)

    # --- tables ------------------------------------------------------------------------------------------------

    def _write_tables(self) -> None:
        at = self._places.tables
        for pairs in (self._times, self._fetches):
            while len(pairs) % (2 * FETCH_UNROLL):
                pairs.extend(pairs[-2:])  # its own: an epoch that is seen among the times would lose its command
        tables: list[tuple[int, list[int], int]] = [
            (MAILBOX.moves, self._moves, MOVE_NBYTES),
            (MAILBOX.fetches, self._fetches, FETCH_NBYTES),
            (MAILBOX.times, self._times, FETCH_NBYTES),
            (MAILBOX.near_fetches, self._near_fetches, FETCH_NBYTES),
            (MAILBOX.near_posts, self._near_posts, POST_NBYTES),
        ]
        tables += [(MAILBOX.posts + 16 * table, words, POST_NBYTES) for table, words in enumerate(self._posts)]
        for head, words, nbytes in tables:
            self._put(head, at, 8 * len(words) // nbytes)
            self._put(at, *words)
            at += 8 * len(words)
        assert at <= self._places.marks, "more words in the tables than there is room for"
