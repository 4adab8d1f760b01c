"""The rings of a compiled kernel: its own, and those that a map lends it.

A ring is the kernel's from the write of the block that names it to the write that names another; both are made with the
token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from ringkernel.memory.arenas import Arena
    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.ring.host.record_ring import RecordRing

    from .control_block import ControlBlock

Waits = tuple[tuple[int, ...], tuple[int, ...]]


class KernelRings:
    """What a kernel reads from and writes to. `edges` and `output` are its own; `reading` and `writing` are what its
    block names. What changes these is for who holds the token."""

    __slots__ = (
        "_arena",
        "_block",
        "_doorbell_address",
        "_lent",
        "_mapped_in",
        "_mapped_out",
        "_one_feed",
        "_room_doorbell",
        "edges",
        "output",
        "reading",
        "writing",
    )

    def __init__(self, block: ControlBlock, arena: Arena, doorbell_address: int, *, one_feed: bool) -> None:
        """With `one_feed` the kernel reads from one edge of each input: the last that was added."""
        self._block, self._arena, self._doorbell_address = block, arena, doorbell_address
        self._one_feed = one_feed
        self.edges: list[RecordEdge] = []
        self.output: RecordRing | None = None
        self.reading: list[RecordEdge] = []
        self.writing: RecordRing | None = None
        self._lent: Mapping[int, RecordEdge] = {}  # by the number of the input
        self._mapped_in = self._mapped_out = 0
        self._room_doorbell = doorbell_address

    def add_input(self, edge: RecordEdge, number: int, span_address: int) -> None:
        """Read from a further edge, of the input of this number. `span_address`: what handles its messages, or 0."""
        edge.input = number
        edge.set_span(span_address)
        self.edges.append(edge)
        edge.set_doorbell(self._doorbell_address)
        self._read_from(self._feeds())

    def _feeds(self) -> list[RecordEdge]:
        """What it reads from, but for a map. The host's edges come first, in the order of the inputs."""
        if self._one_feed:
            return list({**{edge.input: edge for edge in self.edges}, **self._lent}.values())
        if not self._lent:
            return self.edges
        return [self._lent.get(i, edge) for i, edge in enumerate(self.edges)]

    def remove_inputs(self, edges: list[RecordEdge]) -> None:
        """Read no more from these, of which all that was published has been taken."""
        is_own, gone = self.reading is self.edges, set(edges)
        self.edges[:] = [edge for edge in self.edges if edge not in gone]
        self._mapped_in += sum(edge.position() - edge.start for edge in edges)
        if is_own:
            self._read_from(self.edges)

    def run(self, span_of: Callable[[int], int]) -> None:
        """The messages of each input are handled by this from now on."""
        for edge in {*self.edges, *self._lent.values()}:
            edge.set_span(span_of(edge.input))

    def set_output(self, ring: RecordRing) -> None:
        """Write to this ring."""
        self.output = ring
        self._write_to(ring)

    def _read_from(self, edges: list[RecordEdge]) -> None:
        self._block.read_from(edges)
        self.reading = edges  # only now are the rings before let go of

    def _write_to(self, ring: RecordRing | None) -> None:
        if ring is not None:
            ring.set_doorbell(self._room_doorbell)
            self._block.write_to(ring)
        self.writing = ring  # likewise

    def ring_for_room(self, doorbell_address: int | None) -> None:
        """Ring there when there is room to write, or, with None, the kernel itself."""
        self._room_doorbell = self._doorbell_address if doorbell_address is None else doorbell_address
        if self.writing is not None:
            self.writing.set_doorbell(self._room_doorbell)

    # --- maps ------------------------------------------------------------------------------------------------

    def lend(self, source: RecordRing | None, result: RecordRing | None) -> None:
        """Read from `source`, and write to `result`, where they are given. They are the kernel's until `take_back`, and
        who runs it may reach their arrays until then."""
        if source is not None:
            edge = source.edges[0]
            edge.set_doorbell(self._doorbell_address)
            self._arena.lend(source.slots)
            self._read_from([edge])
        if result is not None:
            self._arena.lend(result.slots)
            self._write_to(result)

    def lend_inputs(self, sources: Mapping[int, RecordRing], span_of: Callable[[int], int]) -> None:
        """Read these inputs from there, and the others as ever. They are the kernel's until `take_back`, as above."""
        for number, source in sources.items():
            edge = source.edges[0]
            edge.input = number
            edge.set_span(span_of(number))
            edge.set_doorbell(self._doorbell_address)
            self._arena.lend(source.slots)
        self._lent = {number: source.edges[0] for number, source in sources.items()}
        self._read_from(self._feeds())

    def take_back_result(self, *, is_reached: bool) -> None:
        """Write to its own ring again, and go on reading what is lent."""
        result = self.writing
        if result is None or result is self.output:
            return
        self._mapped_out = self.mapped_out()
        self._write_to(self.output)
        self._let_go_of(result, is_reached=is_reached)

    def _let_go_of(self, ring: RecordRing, *, is_reached: bool) -> None:
        if is_reached:
            ring.quarantine()
        else:
            self._arena.take_back(ring.slots)

    def take_back(self, *, is_reached: bool) -> None:
        """Read from, and write to, the kernel's own rings again. The lent arrays are given back, unless a handler that
        does not return may reach them."""
        lent: set[Any] = {edge.ring for edge in self._lent_edges()}
        self._mapped_in += sum(edge.position() for edge in self._lent_edges())
        self._lent = {}
        self._read_from(self._feeds())
        self.take_back_result(is_reached=is_reached)
        for ring in lent:
            self._let_go_of(ring, is_reached=is_reached)

    def note_map(self, taken: int, emitted: int) -> None:
        """So many messages were taken from lent rings, and written to some, that were lent and taken back by others."""
        self._mapped_in += taken
        self._mapped_out += emitted

    def _lent_edges(self) -> list[RecordEdge]:
        return [edge for edge in self.reading if edge not in self.edges]

    def mapped_in(self) -> int:
        """Messages taken from lent rings."""
        return self._mapped_in + sum(edge.position() for edge in self._lent_edges())

    def mapped_out(self) -> int:
        """Messages written to lent rings."""
        lent = self.writing if self.writing is not self.output else None
        return self._mapped_out + (0 if lent is None else lent.position())

    # --- waits -----------------------------------------------------------------------------------------------

    def let_in(self) -> None:
        """Producers wait for half a ring of room, and a paused kernel makes no more: let them use what there is."""
        for edge in self.edges:
            edge.ring.putting.notify()
            edge.ring.api.ring_doorbell_at(edge.ring.doorbell_address)

    def waits(self) -> Waits:
        """For how many ticks the kernel has waited for each of its inputs, and for each consumer of its output."""
        output = self.output
        consumers = () if output is None else tuple(map(output.ticks_waited_for, range(len(output.edges))))
        return tuple(edge.starved_ticks() for edge in self.edges), consumers

    # --- the end ---------------------------------------------------------------------------------------------

    def limit_to_what_is_there(self) -> None:
        """Take nothing that comes later."""
        for edge in self.reading:
            edge.limit = edge.published()

    def edge_at(self, offset: int) -> RecordEdge:
        """The edge that lies so far from the block."""
        address = self._block.address + offset
        return next(edge for edge in self.reading if edge.address == address)

    def stop(self) -> None:
        """Take nothing more, and let producers go on. The token is the host's."""
        for edge in self.edges:
            edge.limit = edge.position()
            edge.close()

    def take_failed(self, edge_offset: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """The messages that the handler failed on, at the head of the edge that lies so far from the block."""
        return self.edge_at(edge_offset).take_failed(count)

    def all_reachable(self) -> tuple[object, ...]:
        """Whatever the kernel may reach."""
        return {edge.ring for edge in (*self.edges, *self.reading)}, self.output, self.writing

    def quarantine_span(self, counts: Mapping[RecordEdge, int]) -> None:
        """A span that does not end reads so many messages there, and writes outputs: never reuse their memory."""
        for edge, count in counts.items():
            edge.quarantine(count)
        if self.output is not None:
            self.output.quarantine()

    def quarantine(self) -> None:
        """Who ran the kernel goes on, and may move any cursor: never reuse the memory, and let nobody take what comes
        late."""
        for edge in self.edges:
            edge.ring.quarantine()
        if self.output is not None:
            end = self.output.position()
            for consumer in self.output.edges:
                consumer.limit = min(consumer.limit, end)
            self.output.quarantine()
