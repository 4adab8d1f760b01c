"""Memory that somebody may still reach is not used again; what was let go of is, zeroed."""

from __future__ import annotations

import gc
import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_tools import INT64

from ringkernel.memory.arenas import CHUNK_BYTES, Arena, ResultPool, Slab
from ringkernel.memory.layout import LINE, RING
from ringkernel.ring.host.record_ring import RecordRing


@given(sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_regions_are_aligned_zeroed_and_do_not_overlap(sizes: list[int]) -> None:
    arena = Arena()
    regions = [arena.allocate(size) for size in sizes]
    spans = sorted((region.address, region.address + region.nbytes) for region in regions)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for region, size in zip(regions, sizes, strict=True):
        assert region.address % LINE == 0
        assert region.nbytes >= size
        assert not region.bytes.any()
        region.bytes[:] = 0xFF


def test_a_region_is_reused_when_it_was_dropped_and_zeroed_then() -> None:
    arena = Arena()
    region = arena.allocate(300)
    region.bytes[:] = 7
    address = region.address
    assert arena.allocate(300).address != address  # not while it is in use
    del region
    gc.collect()
    again = arena.allocate(300)
    other = arena.allocate(300)
    assert address in (again.address, other.address)
    assert not again.bytes.any()
    assert not other.bytes.any()


def test_a_region_lives_as_long_as_its_owner_whatever_else_happens() -> None:
    arena = Arena()
    kept = arena.allocate(LINE)
    kept.bytes[:] = 5
    for _ in range(100):
        arena.allocate(LINE).bytes[:] = 9
    gc.collect()
    assert (kept.bytes == 5).all()


def test_quarantined_memory_is_never_reused() -> None:
    arena = Arena()
    region = arena.allocate(LINE)
    address = region.address
    region.quarantine()
    del region
    gc.collect()
    taken = [arena.allocate(LINE) for _ in range(CHUNK_BYTES // LINE + 10)]
    assert address not in {one.address for one in taken}


def test_a_quarantined_ring_and_its_edges_are_never_reused() -> None:
    arena = Arena()
    ring = RecordRing(arena, INT64, 4)
    edges = [ring.add_edge() for _ in range(12)]  # outgrows the first table
    addresses = {ring.address, *(edge.address for edge in edges)}
    table = ring.address + ring.api.read_word(ring.address + RING.edges)
    ring.quarantine()
    ring.dispose()
    del ring, edges
    gc.collect()
    taken = {arena.allocate(nbytes).address for nbytes in (LINE, 2 * LINE, 3 * LINE, 5 * LINE) for _ in range(50)}
    assert not taken & (addresses | {table})


def test_a_chunk_outlives_its_arena_in_the_hands_of_a_thread() -> None:
    arena = Arena()
    region = arena.allocate(LINE)
    chunks, address = arena.chunks, region.address
    del arena, region
    gc.collect()
    (chunk,) = chunks
    start = int(chunk.ctypes.data)
    assert start <= address < start + chunk.nbytes


def test_a_large_region_gets_a_chunk_of_its_own() -> None:
    arena = Arena()
    large = arena.allocate(2 * CHUNK_BYTES)
    assert large.nbytes >= 2 * CHUNK_BYTES
    assert large.address % LINE == 0
    assert len(arena.chunks) == 1


def test_a_slab_hands_out_records_of_its_own_only() -> None:
    arena = Arena()
    dtype = np.dtype([("words", "i8", 16)])
    slab = Slab(arena, dtype, per_region=4)
    first = [slab.allocate() for _ in range(9)]
    assert len(set(first)) == 9
    assert all(address % LINE == 0 for address in first)
    slab.release(first[3])
    gc.collect()
    taken = {arena.allocate(dtype.itemsize).address for _ in range(50)}
    assert first[3] not in taken  # never somebody's data
    assert slab.allocate() == first[3]


def test_a_result_is_reused_only_when_all_its_views_are_gone() -> None:
    pool = ResultPool()
    result = pool.allocate(1000)
    address = int(result.ctypes.data)
    view = result.view(np.float64)[3:]
    del result
    gc.collect()
    assert int(pool.allocate(1000).ctypes.data) != address
    view[:] = 1.0
    del view
    gc.collect()
    held = [pool.allocate(1000) for _ in range(3)]
    assert address in {int(one.ctypes.data) for one in held}


def test_a_result_pool_neither_hoards_nor_wastes() -> None:
    pool = ResultPool()
    held = [pool.allocate(1000) for _ in range(6)]
    del held
    gc.collect()
    assert len(pool._spares) <= ResultPool.MAX_SPARES
    small = pool.allocate(10)  # a spare of a hundred times the size is not spent on it
    assert len(pool._spares) == ResultPool.MAX_SPARES
    assert small.nbytes == 10


def test_an_empty_result_is_fine() -> None:
    assert ResultPool().allocate(0).nbytes == 0


def test_results_that_are_alive_do_not_share_memory() -> None:
    pool = ResultPool()
    for _ in range(5):
        held = [pool.allocate(500) for _ in range(4)]
        for i, one in enumerate(held):
            one[:] = i
        assert all((one == i).all() for i, one in enumerate(held))
        del held, one
        gc.collect()
