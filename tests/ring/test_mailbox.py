"""A grid publishes outputs before input cursors, and to neighbours before the host: its mailbox in plain Python."""

from __future__ import annotations

import ctypes
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from inside import write_control

from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.codegen import operations as ops
from ringkernel.codegen.specialise import Specializer
from ringkernel.devices.grid.image import places_of
from ringkernel.devices.grid.mailbox import fetch, post, take_over
from ringkernel.memory.arenas import Arena
from ringkernel.memory.layout import BLOCK, EDGE, RING
from ringkernel.memory.mailbox_layout import FETCH_NBYTES, INPUT_NBYTES, INPUT_RING, MAILBOX, MAILBOX_BLOCK

if TYPE_CHECKING:
    from thread_device import ThreadDevice


@ring_kernel("de_copy", input_type=int, output_type=int)
def copy(msg: Any, out: Any) -> None:
    out.value = msg.value


def word(address: int) -> Any:
    return ctypes.c_int64.from_address(address)


class Bench:
    """A kernel's mailbox, and notes of what its functions do outside of it: ordered stores and fences."""

    def __init__(self, engine: Any) -> None:
        self.notes: list[Any] = []
        self.engine = engine
        load, fence = (lambda address: word(address).value), self._fence
        table: dict[Any, Any] = {
            **dict.fromkeys((ops.load, ops.load_device, ops.peek), load),
            **dict.fromkeys((ops.store, ops.store_release, ops.store_device), self._store),
            ops.poke: self._poke,
            ops.fence_device: lambda: fence("device"),
            ops.fence_release: lambda: fence("release"),
            ops.fence_acquire: lambda: fence("acquire"),
            ops.ticks: lambda: 0,
            ops.copy_bytes: ctypes.memmove,
        }
        specializer = Specializer(lambda function: function, table)
        self.take_over, self.fetch, self.post = (specializer(one) for one in (take_over, fetch, post))
        self.control = write_control(engine)
        self.places = places_of(engine.executor)
        self.memory = Arena().allocate(self.places.nbytes)
        self.mailbox = self.memory.address
        self.take_over(self.mailbox, self.control.address)

    def _poke(self, address: int, value: int) -> None:
        word(address).value = value

    def _store(self, address: int, value: int) -> None:
        word(address).value = value
        self.notes.append(address)

    def _fence(self, kind: str) -> None:
        self.notes.append(kind)

    @property
    def input(self) -> int:
        return self.mailbox + self.places.inputs

    @property
    def output(self) -> int:
        return self.mailbox + self.places.output


@pytest.fixture
async def benches(device: ThreadDevice, loop_errors: list[dict[str, Any]]) -> AsyncIterator[Any]:
    """The mailboxes of the middle and the last of three kernels whose rings are in device memory."""
    async with RingKernelRuntime(workers=1) as runtime:
        for name in "abc":
            await runtime.launch(name, copy, device="cuda")
        runtime.connect("a", "b")
        runtime.connect("b", "c")
        for name in "abc":
            await runtime.activate(name)
        await runtime.send_batch("a", np.arange(5))
        assert (await runtime.receive_batch("c", 5)) is not None
        for name in "abc":
            await runtime.deactivate(name)
        yield [Bench(runtime.kernels[name].engine) for name in "bc"]


async def test_cursors_in_device_memory_and_then_their_mirrors_outputs_first(benches: list[Bench]) -> None:
    bench, _ = benches
    source, target = bench.engine.edges[0], bench.engine.output
    (reads,) = (edge for edge in bench.engine.edges[1:])
    storage = reads.ring.storage
    word(bench.output + RING.tail).value += 3
    word(bench.mailbox + MAILBOX_BLOCK + BLOCK.processed).value += 3
    at = bench.input
    for _ in bench.engine.edges:
        word(at + EDGE.head).value += 3
        at += INPUT_NBYTES
    bench.notes.clear()
    bench.post(bench.mailbox)
    device_tail, device_head = target.storage.tail_address, storage.head_address(reads)
    host_tail = target.address + RING.tail
    host_heads = [edge.address + EDGE.head for edge in (source, reads)]
    order = bench.notes
    assert order[:3] == ["device", device_tail, device_head]
    assert "device" not in order[3:]
    counts = bench.engine.block.address + BLOCK.processed
    first = order.index(host_tail)
    assert order.index("release") < first  # the slots, before the mirror of the tail
    for head in host_heads:
        between = order[max(first, order.index(counts)) : order.index(head)]
        assert "release" in between  # outputs and counts, before the mirror of a head
    assert word(device_tail).value == word(host_tail).value == target.position()
    assert word(device_head).value == word(host_heads[1]).value == reads.position()


async def test_neighbours_look_at_cursors_in_device_memory_only(benches: list[Bench]) -> None:
    middle, last = benches
    source = last.engine.edges[1]
    seen = last.input + INPUT_NBYTES + INPUT_RING + RING.tail
    room = word(middle.output + RING.edges).value + middle.output
    head = middle.output + word(room).value + EDGE.head
    before = word(seen).value
    assert before == word(head).value == source.position()
    word(source.ring.address + RING.tail).value += 2  # mirrors, for the host
    word(source.address + EDGE.head).value += 2
    for bench in benches:
        bench.notes.clear()
        bench.fetch(bench.mailbox)
    assert (word(seen).value, word(head).value) == (before, before)
    word(source.ring.storage.tail_address).value += 2
    word(source.ring.storage.head_address(source)).value += 2
    for bench in benches:
        bench.notes.clear()
        bench.fetch(bench.mailbox)
        assert bench.notes[0] == "device"
    assert (word(seen).value, word(head).value) == (before + 2, before + 2)
    for address in (source.ring.address + RING.tail, source.address + EDGE.head, source.ring.storage.tail_address):
        word(address).value -= 2
    word(source.ring.storage.head_address(source)).value -= 2


async def test_a_mailbox_is_complete_when_it_is_fenced(benches: list[Bench]) -> None:
    bench, _ = benches
    bench.notes.clear()
    bench.take_over(bench.mailbox, bench.control.address)
    assert bench.notes == ["acquire"]
    assert word(bench.mailbox + MAILBOX.n_near_fetches).value == 2
    assert word(bench.mailbox + MAILBOX.n_fetches).value % 4 == 0
    assert word(bench.mailbox + MAILBOX_BLOCK + BLOCK.n_inputs).value == 2


async def test_with_the_times_nothing_but_times_is_fetched(device: ThreadDevice) -> None:
    """A command's epoch among them would be taken for seen, and its command with the next look only."""
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("a", copy, device="cuda")
        await runtime.activate("a")
        await runtime.deactivate("a")
        bench = Bench(runtime.kernels["a"].engine)
        table = bench.mailbox + MAILBOX.times
        first = bench.mailbox + word(table).value
        fetched = {word(first + FETCH_NBYTES * i).value for i in range(word(table + 8).value)}
        ring = bench.engine.edges[0].ring.address
        assert fetched == {ring + RING.ended, ring + RING.progress}
