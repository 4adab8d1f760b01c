"""Ordered loads and stores of one int64 array element, for the floors.

A floor must not depend on what it is the floor of, so these few lines do not come from the product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE_BYTES = 128  # two 64-byte lines: the adjacent-line prefetcher pulls pairs
LINE_WORDS = LINE_BYTES // 8
POOL_BYTES = 1 << 26
GAP_BYTES = 5 * 4096 + LINE_BYTES  # another page, and another line in it


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    view = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, view, [index], wraparound=False)


@intrinsic
def load_acquire(typingctx: Any, array: Any, index: Any) -> Any:
    """Read `array[index]`; later accesses stay behind it, and no loop hoists it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _element(context, builder, sig.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def store_release(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `array[index]`; whoever acquires it sees everything written before it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _element(context, builder, sig.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


_pool = np.zeros(POOL_BYTES, np.uint8)  # touched where it is used
_used = 0


def fresh_words(lines: int) -> npt.NDArray[np.int64]:
    """`lines` zeroed lines as one int64 array that starts on a line; word of line i: `i * LINE_WORDS`.

    Every call answers with another place: how long a line takes from core to core depends on where it lies in
    physical memory (on a large server CPU 240 to 320 ns for a ping-pong, and 600 ns in one place out of ten).
    What an earlier call returned is reused only after a whole turn through the pool.
    """
    global _used  # noqa: PLW0603 - one pool per process
    size = lines * LINE_BYTES
    start = _used + -(_pool.ctypes.data + _used) % LINE_BYTES
    if start + size > POOL_BYTES:
        start = -_pool.ctypes.data % LINE_BYTES
    _used = start + size + GAP_BYTES
    place = _pool[start : start + size]
    place[:] = 0
    return place.view(np.int64)
