"""The control block of a compiled kernel, as the supervisor sees it: commands, counters, state, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ringkernel.declaration.rng import seeded
from ringkernel.errors import KernelStateError
from ringkernel.memory.context_layout import context_layout
from ringkernel.memory.keys_layout import INITIAL
from ringkernel.memory.layout import (
    BLOCK,
    BLOCK_DTYPE,
    KEYS_IN_ORDER,
    KEYS_UNORDERED,
    LAYOUT_VERSION,
    LINE,
    MAGIC,
    NO_KEYS,
    OVER,
    OWN_STAGES,
)
from ringkernel.memory.span_layout import span_nbytes
from ringkernel.ring.spans.pace import SPAN_LIMIT

from .key_table import KeyTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.memory.arenas import Arena, Region
    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.ring.host.record_ring import RecordRing
    from ringkernel.ring.host_api import HostApi

_TABLE_AT, _INPUT_TABLE = BLOCK_DTYPE.itemsize, 8
"""The offset of the first table of inputs, and for how many it has room."""
_HEAD = MAGIC, LAYOUT_VERSION, BLOCK_DTYPE.itemsize


class Code(Protocol):
    """The machine code that handles a kernel's messages."""

    span_address: int
    end_span_address: int
    max_threads: int


class ControlBlock:
    """A block, the table of its inputs and the kernel's context, in one piece of the arena.

    `state`, `params` and `rng`, see `context_layout.py`, are views of the last, or None; of a keyed kernel `state` is
    that of a new key, and `keys` has the others. What changes them, or the rings, is for who holds the token.
    """

    __slots__ = ("_api", "_arena", "_region", "_tables", "address", "context_nbytes", "keys", "params", "rng", "state")

    def __init__(self, declaration: Declaration, code: Code, status_doorbell: int, arena: Arena, api: HostApi) -> None:
        self._api = api
        self._arena = arena
        state, params = declaration.state, declaration.params
        span_at = _TABLE_AT + 8 * _INPUT_TABLE
        span_at += -span_at % LINE
        state_at = span_at + span_nbytes(1 if declaration.order is None else len(declaration.input_names))
        state_nbytes = 0 if state is None else state.nbytes
        initial_at = 0 if declaration.keys is None else INITIAL
        params_nbytes = 0 if params is None else params.nbytes
        context = context_layout(initial_at + state_nbytes, params_nbytes, has_rng=declaration.rng is not None)
        self.context_nbytes = context.nbytes
        self._region: Region = arena.allocate(state_at + context.nbytes)
        self.address = self._region.address
        self._tables: tuple[Region, ...] = ()
        record = self._region.view(BLOCK_DTYPE)[0]
        record["magic"], record["version"], record["size"] = _HEAD
        record["inputs"], record["span"] = _TABLE_AT, span_at
        record["state"], record["state_nbytes"] = state_at, state_nbytes
        record["max_outputs"] = declaration.max_outputs
        record["stages"], record["n_stages"], record["longest_span"] = OWN_STAGES, 1, SPAN_LIMIT
        record["context"], record["last"] = state_at - OWN_STAGES, -OWN_STAGES
        record["status_doorbell_address"] = status_doorbell
        record["fault_index"] = -1
        self.state = self._copied(state, state_at + initial_at)
        self.params = self._copied(params, state_at + context.params_at)
        words = None if declaration.rng is None else np.array(2 * seeded(declaration.rng), np.uint64)
        self.rng = self._copied(words, state_at + context.rng_at)
        self.keys = None if declaration.keys is None else KeyTable(declaration, self.address + state_at, arena, api)
        self.run(declaration, code)

    def _copied(self, declared: npt.NDArray[Any] | None, offset: int) -> npt.NDArray[Any] | None:
        """Return the view of a copy of what was declared, at its place."""
        if declared is None:
            return None
        view = self._region.view(declared.dtype, declared.size, offset).reshape(declared.shape)
        view[...] = declared
        return view

    def run(self, declaration: Declaration, code: Code) -> None:
        """Let the kernel's turns run this, which it was declared with."""
        keys, keyed = declaration.keys, NO_KEYS
        if keys is not None:
            keyed = KEYS_IN_ORDER if keys.ordered else KEYS_UNORDERED
        self._api.write_word(self.address + BLOCK.keyed, keyed)
        self._api.write_word(self.address + BLOCK.span_address, code.span_address)
        self._api.write_word(self.address + BLOCK.end_span_address, code.end_span_address)
        self._api.write_word(self.address + BLOCK.max_threads, code.max_threads)

    def read(self, offset: int) -> int:
        """A word that the poller may be writing."""
        return self._api.read_word(self.address + offset)

    def check(self, kernel_id: str) -> None:
        """Whoever takes the block over goes by its offsets. Raises `KernelStateError` if it is none of this layout."""
        head = tuple(self.read(word) for word in (BLOCK.magic, BLOCK.version, BLOCK.size))
        if head != _HEAD:
            raise KernelStateError(
                f"kernel {kernel_id!r} cannot run: its control block is damaged, it begins with magic {head[0]:#x}, "
                f"version {head[1]}, size {head[2]} instead of {_HEAD[0]:#x}, {_HEAD[1]}, {_HEAD[2]}; terminate() and "
                f"remove() it, and launch it anew"
            )

    def command(self, command: int, epoch: int, doorbell_address: int) -> int:
        """Give the kernel a command, and ring the doorbell at this address for it. What that has led to, see `see_to`
        of `loop_turns.py`."""
        return self._api.give_command(self.address, command, epoch, doorbell_address, self._arena.loop_address)

    def look_at_ends(self) -> None:
        """Let the kernel end by itself, once all its inputs are at their end and consumed."""
        self._api.write_word(self.address + BLOCK.closing, 1)

    def pardon(self, count: int, *, drops: bool) -> None:
        """The last fault was none: what it counted as failed was processed. The token is the host's."""
        record = self._region.view(BLOCK_DTYPE)[0]
        record["fault_index"] = -1
        version = self.read(BLOCK.ledger_version)
        self._api.write_word(self.address + BLOCK.ledger_version, version + 1)
        record["failed"] -= count
        record["processed"] += count
        if drops:
            record["dropped"] += count
        self._api.write_word(self.address + BLOCK.ledger_version, version + 2)

    def end_is_over(self) -> None:
        """Note that the kernel is through with its end. The token is the host's."""
        self._api.write_word(self.address + BLOCK.end_phase, OVER)

    def read_from(self, edges: Sequence[RecordEdge]) -> None:
        """Let the kernel take its input there. Edges may be appended while it runs: its poller finds the number of
        edges first, and then a table that has so many. Every table stays."""
        room = self._tables[-1].nbytes // 8 if self._tables else _INPUT_TABLE
        if len(edges) > room:
            self._tables += (self._arena.allocate(16 * room),)
        table = self._tables[-1].address if self._tables else self.address + _TABLE_AT
        for i, edge in enumerate(edges):
            if self.keys is not None:
                edge.set_key(self.keys.field)
            self._api.write_word(table + 8 * i, edge.address - self.address)
        self._api.write_word(self.address + BLOCK.inputs, table - self.address)
        self._api.write_word(self.address + BLOCK.n_inputs, len(edges))

    def write_to(self, ring: RecordRing) -> None:
        """Let the kernel put its output there."""
        self._api.write_word(self.address + BLOCK.output, ring.address - self.address)

    @property
    def span_address(self) -> int:
        """The address of the kernel's span record."""
        return self.address + self.read(BLOCK.span)

    def run_chain(self, address: int) -> None:
        """Let the kernel's turns run a fused chain, or, with 0, the kernel by itself."""
        self._api.write_word(self.address + BLOCK.stages, address - self.address if address else OWN_STAGES)

    @property
    def runs_chain(self) -> bool:
        """True if the kernel's turns run a fused chain."""
        return self.read(BLOCK.stages) != OWN_STAGES

    def counters(self, is_final: Callable[[], bool]) -> Any:
        """A consistent copy of the counters, as a record. A kernel that was ended by force may have left them half
        written: `is_final` says that nobody will write them any more."""
        copy = np.zeros(1, BLOCK_DTYPE)
        while not self._api.copy_ledger(self.address, int(copy.ctypes.data)):
            if self.read(BLOCK.ledger_version) & 1 and is_final():
                break
        return copy[0]

    def copy_state(self, target: npt.NDArray[Any]) -> bool:
        """Copy the state, also while the kernel runs; False if it was in a span."""
        return self._api.copy_state(self.address, int(target.ctypes.data)) == 1

    def make_room(self) -> None:
        """The token is about to be handed over: let a table of keys that is nearly full grow, as far as memory goes."""
        if self.keys is not None:
            self.keys.make_room()

    def quarantine(self) -> None:
        """Never reuse this memory: a thread that does not return may still touch it."""
        for region in (self._region, *self._tables):
            region.quarantine()
        if self.keys is not None:
            self.keys.quarantine()
