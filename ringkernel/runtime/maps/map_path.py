"""Maps over one path: what they need is found out once, and most of them need nobody but this thread.

Where all kernels of a path rest, and nobody else feeds or reads one of them, nobody has to be asked before their rings
are exchanged for a map's arrays: `map_here` does that, runs what the event loop's thread may run, and exchanges them
again. A map that takes longer goes on on a worker; it is a `Map` then, as if it had been begun by asking the kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ringkernel.devices.engine import LendingEngine
from ringkernel.lifecycle import KernelState
from ringkernel.memory.call_layout import MAX_TURNS, PATH_DTYPE
from ringkernel.memory.layout import NEVER
from ringkernel.messages.arrays import as_array
from ringkernel.ring.host.waiting import NOTHING
from ringkernel.runtime.attach.results import ring_over

from .given_array import batch_of, check_result_array
from .map import Map
from .path import feeds_nobody_else, most_outputs

if TYPE_CHECKING:
    from ringkernel.memory.arenas import Region
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.record_ring import RecordRing
    from ringkernel.runtime.kernels.kernel import RingKernel

POOLED_NBYTES = 1 << 16
"""Results of so many bytes come out of the pool; of smaller ones malloc has warm memory as well."""


class MapPath:
    """The maps over one path, which are made at most one at a time."""

    __slots__ = (
        "_api",
        "_engines",
        "_first",
        "_inlet",
        "_input_type",
        "_is_possible",
        "_last",
        "_locks",
        "_output_type",
        "_per_message",
        "_record",
        "_rings",
        "_turns",
        "kernels",
    )

    def __init__(self, kernels: list[RingKernel]) -> None:
        self.kernels = kernels
        engines = [engine for kernel in kernels if isinstance(engine := kernel.engine, LendingEngine)]
        self._is_possible = len(engines) == len(kernels) <= MAX_TURNS and feeds_nobody_else(kernels)
        self._locks = [(kernel, kernel.lock, kernel.leasing, kernel.engine.outlet.line) for kernel in kernels]
        self._inlet = kernels[-1].engine.inlet
        self._input_type: Any = kernels[0].engine.declaration.input_type
        self._output_type = kernels[-1].engine.declaration.output_type
        self._per_message = most_outputs(kernels, 1)
        self._turns: list[LendingEngine] = []
        self._rings: tuple[RecordRing, RecordRing | None] | None = None
        self._record: Region | None = None
        if self._is_possible:
            self._engines, self._first, self._last = engines, engines[0], engines[-1]
            ring: Any = engines[0].outlet.ring
            self._api = ring.api

    def begin(self, values: Any, out: Any) -> Any:
        """Begin a map. Return its result, if it is through; else the `Map` that goes on; `NOTHING`, and nothing was
        done, if somebody has to be asked first. Raises what `batch_of` and `check_result_array` raise."""
        if not self._is_at_hand():
            return NOTHING
        messages = values if self._input_type.is_batch(values) else batch_of(self.kernels, values)
        count = len(messages)
        most = count * self._per_message
        if out is None:
            room = None if self._output_type is None else self._new_result(most, self._output_type)
        else:
            room = out
            if not self._is_apart(messages, out, most):
                check_result_array(self.kernels, messages, out)
        emitted = self._run(messages, count, room, most) if count else NEVER
        if emitted == NEVER:
            return NOTHING
        if emitted < 0:
            return self._go_on(messages, room, out, -1 - emitted)
        self._first.note_map(count, 0)
        self._last.note_map(0, emitted)
        return room if room is None or emitted == len(room) else room[:emitted]

    def _is_at_hand(self) -> bool:
        """Return True if nobody else uses the kernels just now. `map_here` looks whether they rest."""
        if not self._is_possible:
            return False
        for kernel, lock, leasing, line in self._locks:
            if kernel.state is not KernelState.ACTIVE or lock.locked() or leasing.wanted or line.waiters:
                return False
            if kernel.engine.closing is not None:
                return False
        inlet = self._inlet
        if inlet.line.waiters or inlet.kept:
            return False
        if self._rings is None or len(self._engines) > 1:
            turns = [engine.turns_by for engine in self._engines]
            if None in turns:
                return False
            self._describe([engine for engine, first in zip(self._engines, turns, strict=True) if engine is first])
        return True

    def _is_apart(self, messages: Any, out: Any, most: int) -> bool:
        """Return True if the results can be written to `out`. If not, `check_result_array` says why."""
        if self._output_type is None or not self._output_type.is_batch(out) or len(out) < most:
            return False
        flags, address_of = out.flags, self._api.address_of
        if not (flags.writeable and flags.aligned):
            return False
        begin, other = address_of(messages), address_of(out)
        return bool(begin + messages.nbytes <= other or other + out.nbytes <= begin)

    def _describe(self, turns: list[LendingEngine]) -> None:
        """Write the record that `map_here` goes by, if it is not the same: these engines have turns."""
        if turns == self._turns and self._rings is not None:
            return
        self._turns = turns
        if self._record is None:
            self._record = self._first.arena.allocate(PATH_DTYPE.itemsize)
        first, output_type, own = self._first, self._output_type, cast("RecordRing", self._first.outlet.ring)
        source = ring_over(first, np.empty(0, self._input_type.dtype), self._input_type, own.woke if own.here else None)
        output = None if output_type is None else ring_over(first, np.empty(0, output_type.dtype), output_type)
        self._rings = source, output
        record, here = self._record.view(PATH_DTYPE)[0], self._record.address
        record["n_turns"] = len(turns)
        record["doorbell_addresses"][: len(turns)] = [engine.doorbell_address for engine in turns]
        record["last"] = self._last.block_address - here
        record["source"] = source.edges[0].address - here
        record["output"] = 0 if output is None else output.address - here

    def _new_result(self, most: int, output_type: MessageType) -> Any:
        dtype = output_type.array_dtype
        nbytes = most * dtype.itemsize
        return np.empty(most, dtype) if nbytes < POOLED_NBYTES else self._first.results.allocate(nbytes).view(dtype)

    def _run(self, messages: Any, count: int, room: Any, most: int) -> int:
        """Call `map_here` and return its answer. The arrays stay alive whatever happens: a worker may have them."""
        api, arena, record = self._api, self._first.arena, self._record
        assert record is not None
        held = arena.chunks
        held += (messages, messages if room is None else room)
        target = 0 if room is None else api.address_of(room)
        said = api.map_here(record.address, api.address_of(messages), count, target, most, arena.loop_address)
        if said >= 0:
            del held[-2:]
        return int(said)

    def _go_on(self, messages: Any, room: Any, out: Any, said: int) -> Map:
        """Return the map that goes on on a worker, or has failed."""
        assert self._rings is not None
        (source, output), self._rings = self._rings, None
        held = self._first.arena.chunks
        end = len(held)
        source.lie_over(as_array(self._input_type, messages), len(messages))
        if output is not None:
            output.lie_over(room[: len(messages) * self._per_message].view(output.message_type.dtype), 0)
        begun = Map.begun(self.kernels, source, output, out)
        del held[end - 2 : end]
        source.woke(said)
        return begun
