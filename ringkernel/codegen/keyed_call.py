"""The call of a handler whose state is the record of its message's key: the record is found first.

Loops around handlers call this instead of `handler_call.py`, with the address of the table for that of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils

from ringkernel.memory.keys_layout import KEYS, slot_layout
from ringkernel.words.compiler import seldom

from .faults import KEYS_FULL
from .key_table import (
    MULTIPLIER,
    are_same,
    first_place,
    is_taken,
    slot_of,
    tag_of_number,
    tag_of_text,
    tag_of_words,
    take_slot,
)
from .operations import copy_bytes, peek, peek_fixed, poke
from .span_body import FAILED, FAULT_INFO
from .targets.cpu_memory import operation

if TYPE_CHECKING:
    from .span_types import SpanTypes

Function = Callable[..., int]

PIECE = 32
"""Messages whose slots are fetched at once."""
FAR_NBYTES = 1 << 18
"""Slots of a table of this size are seldom in a fast cache: fetching them ahead takes 36 to 9 ns a message at a million
keys, and is not worth it at a thousand."""


class KeyedCalls:
    """Makes the calls of a handler with a state for each key, and what fetches slots for their messages before."""

    def __init__(self, types: SpanTypes) -> None:
        assert types.key is not None
        assert types.state is not None
        assert types.input is not None
        assert types.input.fields is not None
        self._key, self._at = types.input[types.key], types.input.fields[types.key][1]
        self._layout, self._itemsize = slot_layout(types.key, self._key, types.state), types.input.itemsize
        self._output_nbytes = 0 if types.output is None else types.output.itemsize
        self._word_of = self._copy_of_key() if self._layout.key_words else self._key_as_word()
        self._tag_of, self._first_slot = self._tag_of_key(), self._first_slot_of()

    def around(self, call: Any) -> Function:
        """Return a `call` with the record of the message's key for the state. If that is new, and there is no room for
        it, the message fails."""
        word_of, tag_of, first_slot, search = self._word_of, self._tag_of, self._first_slot, self._search()
        state_at, key_words = self._layout.state_at, self._layout.key_words

        def keyed(source: int, index: int, target: int, emitted: int, table: int, fault: int) -> int:
            key = word_of(source, index)
            tag = tag_of(key)
            slot = first_slot(table, tag)
            if peek(slot) != tag or are_same(slot + 8, key, key_words) == 0:
                slot = search(source, index, table, tag, key)
                if slot == 0:
                    poke(fault + FAULT_INFO, KEYS_FULL)
                    return FAILED
            return call(source, index, target, emitted, table, fault, slot + state_at)  # type: ignore[no-any-return]

        return keyed

    def in_pieces(self, loop: Function) -> Function:
        """Return the loop over messages, some of them at a time, after the slots of their keys have been asked for,
        where the table is large."""
        word_of, tag_of, first_slot, nbytes = self._word_of, self._tag_of, self._first_slot, self._layout.nbytes
        itemsize, output_nbytes = self._itemsize, self._output_nbytes

        def fetch(source: int, count: int, table: int) -> None:
            for i in range(count):
                prefetch(first_slot(table, tag_of(word_of(source, i))))

        def pieces(source: int, count: int, target: int, table: int, fault: int) -> int:
            is_far = (peek(table + KEYS.mask) + 1) * nbytes >= FAR_NBYTES
            emitted = done = 0
            while done < count:
                some = min(PIECE, count - done) if is_far else count
                if is_far:
                    fetch(source + done * itemsize, some, table)
                emitted += loop(source + done * itemsize, some, target + emitted * output_nbytes, table, fault)
                if peek(fault) >= 0:
                    poke(fault, peek(fault) + done)
                    return emitted
                done += some
            return emitted

        return pieces

    # --- slots -------------------------------------------------------------------------------------------------------

    def _first_slot_of(self) -> Function:
        """The slot of a table where a tag leads."""
        nbytes = self._layout.nbytes
        bits = nbytes.bit_length() - 1

        def any_size(table: int, tag: int) -> int:
            place = first_place(tag, peek_fixed(table + KEYS.mask), peek_fixed(table + KEYS.shift))
            return peek_fixed(table + KEYS.slots_address) + place * nbytes

        def power_of_two(table: int, tag: int) -> int:  # what does not depend on the tag is computed before the loop
            mask, shift = peek_fixed(table + KEYS.mask) << bits, peek_fixed(table + KEYS.shift) - bits
            return peek_fixed(table + KEYS.slots_address) + (((tag * MULTIPLIER) >> shift) & mask)

        return power_of_two if nbytes == 1 << bits else any_size

    # --- keys --------------------------------------------------------------------------------------------------------

    def _tag_of_key(self) -> Function:
        """The tag of a key, from its word."""
        key_words = self._layout.key_words

        def tag_of_copy(key: int) -> int:
            return tag_of_words(key, key_words)

        if key_words:
            return tag_of_copy
        return tag_of_text if self._key.kind == "S" else tag_of_number

    def _key_as_word(self) -> Any:
        """An operation, `(source, index)`: the key of a message as a word."""
        dtype, at, itemsize = self._key, self._at, self._itemsize
        kind = ir.IntType(8 * dtype.itemsize)

        @operation
        def word_of(builder: Any, source: Any, index: Any) -> Any:
            pointer = builder.bitcast(_field(builder, source, index, at, itemsize), kind.as_pointer())
            key = builder.load(pointer, align=1)
            if kind.width == _I64.width:
                return key
            return builder.sext(key, _I64) if dtype.kind == "i" else builder.zext(key, _I64)

        return word_of

    def _copy_of_key(self) -> Any:
        """An operation, `(source, index)`: the address of a copy of a message's key, with zeros up to whole words."""
        nbytes, n_words, at, itemsize = self._key.itemsize, self._layout.key_words, self._at, self._itemsize

        @operation
        def copy_of(builder: Any, source: Any, index: Any) -> Any:
            words = cgutils.alloca_once(builder, ir.ArrayType(_I64, n_words))
            builder.store(_I64(0), builder.gep(words, [_I64(0), _I64(n_words - 1)]))
            field = _field(builder, source, index, at, itemsize)
            cgutils.raw_memcpy(builder, builder.bitcast(words, _BYTES), field, _I64(nbytes), 1)
            return builder.ptrtoint(words, _I64)

        return copy_of

    def _search(self) -> Function:
        """A function that finds a key that is not where its tag leads, or makes a record for it. It returns the slot,
        or 0 if the table is full."""
        layout, at, itemsize = self._layout, self._at, self._itemsize
        nbytes, key_words = layout.nbytes, layout.key_words
        state_at, state_nbytes = layout.state_at, layout.state_nbytes
        own_at, own_nbytes = max(0, layout.own_at), layout.key.itemsize if layout.own_at >= 0 else 0

        @seldom
        def search(source: int, index: int, table: int, tag: int, key: int) -> int:
            slot = slot_of(table, nbytes, tag, key, key_words)
            if is_taken(table, slot) == 1:
                return slot
            if take_slot(table, slot, tag, key, key_words, state_at, state_nbytes) == 0:
                return 0
            copy_bytes(slot + state_at + own_at, source + index * itemsize + at, own_nbytes)
            return slot

        return search


def _field(builder: Any, source: Any, index: Any, at: int, itemsize: int) -> Any:
    """A pointer to a field of a message. As in `handler_call.py`, an element of one array."""
    messages = builder.inttoptr(source, ir.ArrayType(ir.IntType(8), itemsize).as_pointer())
    return builder.gep(builder.bitcast(builder.gep(messages, [index]), _BYTES), [_I64(at)])


@operation
def prefetch(builder: Any, address: Any) -> None:
    """Ask for what is at an address, which will be read and written."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, number, number, number])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(fetch, [builder.inttoptr(address, _BYTES), number(1), number(3), number(1)])


_I64, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
