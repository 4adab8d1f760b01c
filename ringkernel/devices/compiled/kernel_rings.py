"""The rings of a compiled kernel: its own, and those over arrays that are attached in their place.

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
    """The rings that a kernel reads from and writes to. `edges` and `output` are its own; `reading` and `writing` are
    those that its block names. Only the holder of the token may change these."""

    __slots__ = (
        "_arena",
        "_attached",
        "_block",
        "_doorbell_address",
        "_is_alone",
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
        self._attached: Mapping[int, RecordEdge] = {}  # by the number of the input
        self._is_alone = False
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
        """Return what it reads from. The host's edges come first, in the order of the inputs."""
        attached = self._attached
        if self._is_alone:
            return list(attached.values())
        if self._one_feed:
            return list({**{edge.input: edge for edge in self.edges}, **attached}.values())
        return [attached.get(i, edge) for i, edge in enumerate(self.edges)] if attached else self.edges

    def remove_inputs(self, edges: list[RecordEdge]) -> None:
        """Read no more from these, of which all that was published has been taken."""
        is_own, gone = self.reading is self.edges, set(edges)
        self.edges[:] = [edge for edge in self.edges if edge not in gone]
        self._mapped_in += sum(edge.position() - edge.start for edge in edges)
        if is_own:
            self._read_from(self.edges)

    def run(self, span_of: Callable[[int], int]) -> None:
        """Have this handle the messages of each input from now on."""
        for edge in {*self.edges, *self._attached.values()}:
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

    # --- arrays in the place of its own rings ------------------------------------------------------------------

    def attach(
        self,
        inputs: Mapping[int, RecordRing],
        output: RecordRing | None,
        span_of: Callable[[int], int],
        *,
        alone: bool,
    ) -> None:
        """Read the inputs of these numbers from there, and with `alone` no others; write to `output`, if it is given.
        The rings are the kernel's until `detach`, and who runs it may reach their arrays until then."""
        for number, ring in inputs.items():
            edge = ring.edges[0]
            edge.input = number
            edge.set_span(span_of(number))
            edge.set_doorbell(self._doorbell_address)
            self._arena.lend(ring.slots)
        if inputs:
            self._attached, self._is_alone = {number: ring.edges[0] for number, ring in inputs.items()}, alone
            self._read_from(self._feeds())
        if output is not None:
            self._arena.lend(output.slots)
            self._write_to(output)

    def detach(self, *, is_reached: bool) -> None:
        """Read from, and write to, its own rings again. The arrays are given back, unless a handler that does not
        return may reach them (`is_reached`)."""
        edges = self._attached.values()
        self._mapped_in = self.mapped_in()
        self._attached, self._is_alone = {}, False
        self._read_from(self._feeds())
        for edge in edges:
            self._let_go_of(edge.ring, is_reached=is_reached)
        self.detach_output(is_reached=is_reached)

    def detach_output(self, *, is_reached: bool) -> None:
        """Write to its own ring again, and go on reading what is attached."""
        ring = self.writing
        if ring is not None and ring is not self.output:
            self._mapped_out = self.mapped_out()
            self._write_to(self.output)
            self._let_go_of(ring, is_reached=is_reached)

    def _let_go_of(self, ring: Any, *, is_reached: bool) -> None:
        if is_reached:
            ring.quarantine()
        else:
            self._arena.take_back(ring.slots)

    def note_map(self, taken: int, emitted: int) -> None:
        """Count messages of a map that `map_here` has attached and detached."""
        self._mapped_in += taken
        self._mapped_out += emitted

    def mapped_in(self) -> int:
        """Return how many messages were taken from arrays."""
        return self._mapped_in + sum(edge.position() for edge in self._attached.values())

    def mapped_out(self) -> int:
        """Return how many were written to arrays."""
        ring = self.writing
        return self._mapped_out + (0 if ring is None or ring is self.output else ring.position())

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
        """Return the edge that lies so far from the block."""
        address = self._block.address + offset
        return next(edge for edge in self.reading if edge.address == address)

    def stop(self) -> None:
        """Take nothing more, and let producers go on. The token is the host's."""
        for edge in self.edges:
            edge.limit = edge.position()
            edge.close()

    def take_failed(self, edge_offset: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """Return the messages that the handler failed on, at the head of the edge that lies so far from the block."""
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
        """Give up memory in which a lost thread may still move any cursor: never reuse it, and let nobody take what
        comes late."""
        for edge in self.edges:
            edge.ring.quarantine()
        if self.output is not None:
            end = self.output.position()
            for consumer in self.output.edges:
                consumer.limit = min(consumer.limit, end)
            self.output.quarantine()
