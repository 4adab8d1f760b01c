"""The states of a keyed kernel, one for each key: read, written, and given more room while the token is the host's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringkernel.codegen.key_table import LOWER
from ringkernel.declaration.keys import MAX_KEYS, STATE_COLUMN
from ringkernel.errors import ConfigurationError, MessageTypeError
from ringkernel.memory.keys_layout import (
    KEYS,
    NO_KEY,
    NUMBER,
    TEXT,
    UNSIGNED,
    UNUSED,
    capacity_of,
    n_slots_for,
    slot_layout,
)

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.memory.arenas import Arena, Region
    from ringkernel.ring.host_api import HostApi

Array = npt.NDArray[Any]

NEARLY_FULL = 0.75
"""A table with more of its capacity in use than this grows, unless as many keys were asked for."""

logger = logging.getLogger("ringkernel")
_I8 = np.dtype(np.int64)


class NewTable(NamedTuple):
    """Room for so many keys: records as they are `given`, and their order; then the slots where they belong, and their
    order there, and how many those are."""

    n_keys: int
    given: Region
    given_order: Region
    slots: Region
    order: Region
    n_slots: int


class KeyTable:
    """The table whose header is at an address, with the state of a new key behind it, and its slots.

    A key comes as an array without dimensions, of its dtype; a state as an array like the declared one. All methods but
    the counts are for who has the token.
    """

    __slots__ = (
        "_api",
        "_arena",
        "_asked_for",
        "_field",
        "_kernel_id",
        "_layout",
        "_order",
        "_slots",
        "_state",
        "address",
    )

    def __init__(self, declaration: Declaration, address: int, arena: Arena, api: HostApi) -> None:
        assert declaration.keys is not None
        assert declaration.input_type is not None
        assert declaration.state is not None
        self.address = address
        self._api, self._arena, self._kernel_id = api, arena, declaration.kernel_id
        self._field, self._state = declaration.keys.field, declaration.state
        shape = None if declaration.state_type is not None else declaration.state.shape
        key, key_at = declaration.input_type.field(self._field)
        self._layout = slot_layout(self._field, key, (declaration.state.dtype, shape))
        self._describe(key_at)
        self._asked_for = declaration.keys.capacity
        self._use(*self._new_slots(n_slots_for(self._asked_for)))

    def _describe(self, key_at: int) -> None:
        """Write down where things are, for who finds keys without having been compiled for them."""
        layout, write = self._layout, self._api.write_word
        write(self.address + KEYS.nbytes, layout.nbytes)
        write(self.address + KEYS.state_at, layout.state_at)
        write(self.address + KEYS.state_nbytes, layout.state_nbytes)
        write(self.address + KEYS.own_at, layout.own_at)
        write(self.address + KEYS.key_words, layout.key_words)
        write(self.address + KEYS.key_nbytes, layout.key.itemsize)
        write(self.address + KEYS.key_at, key_at)
        write(self.address + KEYS.key_kind, {"i": NUMBER, "u": UNSIGNED, "S": TEXT}[layout.key.kind])

    # --- how many ----------------------------------------------------------------------------------------------------

    def _word(self, offset: int) -> int:
        return self._api.read_word(self.address + offset)

    @property
    def field(self) -> str:
        """The field with the key."""
        return self._field

    @property
    def count(self) -> int:
        """The number of keys; also while the kernel runs."""
        return self._word(KEYS.count)

    @property
    def capacity(self) -> int:
        """For how many there is room."""
        return self._word(KEYS.capacity)

    @property
    def nbytes(self) -> int:
        """The bytes of the slots."""
        return self._slots.nbytes + self._order.nbytes

    # --- room --------------------------------------------------------------------------------------------------------

    def _new_slots(self, n_slots: int) -> tuple[Region, Region, int]:
        """Empty ones, and room for their order."""
        slots = self._arena.allocate(n_slots * self._layout.nbytes)
        slots.view(self._layout.dtype, 1)["tag"] = UNUSED
        return slots, self._arena.allocate(8 * (capacity_of(n_slots) + 1)), n_slots

    def _use(self, slots: Region, order: Region, n_slots: int) -> None:
        """Let these be the table's slots."""
        self._slots, self._order = slots, order
        self._api.write_word(self.address + KEYS.slots_address, slots.address)
        self._api.write_word(self.address + KEYS.order_address, order.address)
        self._api.write_word(self.address + KEYS.mask, n_slots - 1)
        self._api.write_word(self.address + KEYS.shift, _shift(n_slots))
        self._api.write_word(self.address + KEYS.capacity, capacity_of(n_slots))

    def make_room(self) -> None:
        """Grow if it is nearly full, with more keys than were asked for, or full; and if there is memory."""
        count, capacity = self.count, self.capacity
        is_nearly_full = count > max(self._asked_for, NEARLY_FULL * capacity)
        if capacity > MAX_KEYS or not (is_nearly_full or count >= capacity):
            return
        try:
            self._grow()
        except MemoryError:
            logger.warning(
                "kernel %r: there is no memory for more than %d keys, of which %d are in use",
                self._kernel_id,
                self.capacity,
                self.count,
            )

    def _grow(self) -> None:
        larger, order, n_slots = self._new_slots(2 * (self._word(KEYS.mask) + 1))
        where = larger.address, order.address, n_slots - 1
        self._api.move_records(self._slots.address, self._order.address, self.count, *where, self._layout.nbytes)
        self._use(larger, order, n_slots)

    def quarantine(self) -> None:
        """Never reuse this memory: a thread that does not return may still touch it."""
        self._slots.quarantine()
        self._order.quarantine()

    # --- one key -----------------------------------------------------------------------------------------------------

    def _find(self, key: Array) -> tuple[int, int, Array]:
        """The address of a key's slot, or of the empty one where it goes; its tag; its words."""
        words, layout = self._words_of(key.reshape(1)), self._layout
        address = int(words.ctypes.data)
        tag = self._api.tag_of_words(address, layout.key_words) if layout.key_words else int(self._tags_of(words)[0])
        return self._api.slot_of(self.address, layout.nbytes, tag, address, layout.key_words), tag, words

    def _tags_of(self, words: Array) -> Array:
        """The tags of keys of one word each."""
        return _folded(words[:, 0] ^ NO_KEY) if self._layout.key.kind == "S" else words[:, 0] ^ NO_KEY

    def _words_of(self, keys: Array) -> Array:
        """Keys as words: a row for each."""
        if keys.dtype.kind == "S":
            return (
                keys.astype(f"S{8 * max(1, self._layout.key_words)}")
                .view("i8")
                .reshape(len(keys), max(1, self._layout.key_words))
            )
        return keys.astype("i8" if keys.dtype.kind == "i" else "u8").view("i8").reshape(len(keys), 1)

    def _state_at(self, slot: int) -> Array:
        """The state in a slot, in place."""
        number = (slot - self._slots.address) // self._layout.nbytes
        states = self._all_slots()["state"]
        return states[number : number + 1] if self._is_record else states[number]

    @property
    def _is_record(self) -> bool:
        return self._layout.dtype["state"].shape == ()

    def _all_slots(self) -> Array:
        return self._slots.view(self._layout.dtype, self._word(KEYS.mask) + 1)

    def read(self, key: Array) -> Array | None:
        """A copy of the state of a key; None if it is not there."""
        slot, _, _ = self._find(key)
        return self._state_at(slot).copy() if self._api.is_taken(self.address, slot) else None

    def write(self, key: Array, state: Array) -> None:
        """Replace the state of a key, which may be new."""
        slot, tag, words = self._find(key)
        if not self._api.is_taken(self.address, slot):
            if self.count >= self.capacity:
                self._grow()
                slot, tag, words = self._find(key)
            layout = self._layout
            where = self.address, slot, tag, int(words.ctypes.data)
            self._api.take_slot(*where, layout.key_words, layout.state_at, layout.state_nbytes)
        self._state_at(slot)[...] = state

    # --- all of them -------------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of `records`: the key, then the other fields of the state, or the state if that is an array."""
        fields: list[Any] = [(self._field, self._layout.key)]
        if self._is_record:
            state = self._state.dtype
            fields += [(name, state[name]) for name in state.names or () if name != self._field]
        else:
            fields.append((STATE_COLUMN, self._layout.dtype["state"]))
        return np.dtype(fields, align=True)

    def records(self) -> Array:
        """Copies of all keys and their states, in the order in which they came."""
        slots = self._all_slots()
        used = self._order.view(_I8, self.count) // self._layout.nbytes
        result = np.empty(len(used), self.dtype)
        if self._layout.key_words:
            result[self._field] = slots["key"][used]
        else:
            tags = slots["tag"][used]
            is_text = self._layout.key.kind == "S"
            result[self._field] = (_folded(tags) ^ NO_KEY).view("S8") if is_text else tags ^ NO_KEY
        states = slots["state"]
        if not self._is_record:
            result[STATE_COLUMN] = states[used]
        for name in self._state.dtype.names or () if self._is_record else ():
            if name != self._field:
                result[name] = states[name][used]
        return result

    def in_order(self, records: Array) -> Array:
        """Records by their keys."""
        ordered: Array = records[records[self._field].argsort()]
        return ordered

    def room_for(self, count: int) -> NewTable:
        """Room for other keys and states in the place of all that there are. Raises `ConfigurationError`."""
        if count > MAX_KEYS:
            raise ConfigurationError(f"kernel {self._kernel_id!r}: {count} keys are more than {MAX_KEYS}")
        given = self._arena.allocate((count + 1) * self._layout.nbytes)
        order = self._arena.allocate(8 * count)
        return NewTable(count, given, order, *self._new_slots(max(self._word(KEYS.mask) + 1, n_slots_for(count))))

    def lay_out(self, new: NewTable, records: Array) -> None:
        """Write keys and states, of `dtype`, to where there is room for them; in any thread. Raises `MessageTypeError`
        for a key that is there twice."""
        keys = records[self._field]
        first = np.unique(keys, return_index=True)[1]
        if len(first) < new.n_keys:
            again = np.setdiff1d(np.arange(new.n_keys), first)[0]
            raise MessageTypeError(
                f"kernel {self._kernel_id!r}: {self._field}={keys[again]!r} is there twice, the second time in row "
                f"{again}; give each key one state"
            )
        slots = new.given.view(self._layout.dtype, new.n_keys + 1)
        new.given_order.view(_I8, new.n_keys)[:] = self._fill(slots, records)
        where = new.slots.address, new.order.address, new.n_slots - 1
        self._api.move_records(new.given.address, new.given_order.address, new.n_keys, *where, self._layout.nbytes)

    def use(self, new: NewTable) -> None:
        """Let these be all keys and states."""
        self._use(new.slots, new.order, new.n_slots)
        self._api.write_word(self.address + KEYS.count, new.n_keys)

    def nth(self, number: int) -> Array:
        """A copy of the state of a key, by the number of keys that came before it."""
        return self._state_at(self._slots.address + int(self._order.view(_I8, number + 1)[number])).copy()

    def _fill(self, slots: Array, records: Array) -> Array:
        """Write records to slots, from the second one on, and that of the tag 0 to the first. Their order."""
        offsets = self._layout.nbytes * np.arange(1, len(records) + 1)
        layout, words, (first, others) = self._layout, self._words_of(records[self._field]), (slots[:1], slots[1:])
        states = others["state"]
        if self._is_record:
            for name in self._state.dtype.names or ():
                states[name] = records[name]
        else:
            states[...] = records[STATE_COLUMN]
        if layout.key_words:
            others["key"] = records[self._field]
            self._api.write_tags(int(others.ctypes.data), len(others), layout.nbytes, layout.key_words)
            return offsets
        others["tag"] = self._tags_of(words)
        first_of_all = np.flatnonzero(others["tag"] == 0)
        if len(first_of_all):
            first[...] = others[first_of_all]
            offsets[first_of_all] = 0
        return offsets


def _shift(n_slots: int) -> int:
    return 64 - (n_slots - 1).bit_length()


def _folded(words: Array) -> Array:
    """The upper halves of words over the lower ones, and back: see `tag_of_text`."""
    folded: Array = words ^ ((words >> 32) & LOWER)
    return folded
