"""The table of a keyed kernel: a header, then, elsewhere, slots of one size with a key and its state side by side.

The header lies where other kernels have their state, and the state of a key that is new, as it begins, right behind it.
Slots are found by open addressing. The first word of each is its **tag**: 0 if it is empty, else made from the key. A
key of at most eight bytes can be told from its tag; of a longer one the tag is a hash, and the key itself is next.

One key of eight bytes has the tag 0. The first slot is for it alone: there 0 says that it is in use. A tag of 0 leads
there, and `UNUSED` elsewhere, so that who looks where a tag leads need only compare.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .record import line, record

KEYS_DTYPE, KEYS = record(
    "Keys",
    line(
        "host",
        slots_address="where the slots are",
        mask="number of slots, less one",
        shift="how many bits of a 64-bit product are not the number of a slot",
        capacity="how many slots may be in use",
        order_address="per slot in use, in the order in which keys came: how far it is from the first",
    ),
    line(
        "host",  # of `SlotLayout`, and of the messages of the first input
        nbytes="bytes of a slot",
        state_at="where in a slot the state is",
        state_nbytes="bytes of a state",
        own_at="where in the state the field for the key is; -1: there is none",
        key_words="words of a key that is not its tag, else 0",
        key_nbytes="bytes of the key in a message",
        key_kind="`NUMBER`, `UNSIGNED` or `TEXT`",
        key_at="where in a message the key is",
    ),
    line("poller", count="how many slots are in use"),  # the host's, too, while it holds the token
)

# header.key_kind
NUMBER, UNSIGNED, TEXT = 0, 1, 2
INITIAL = KEYS_DTYPE.itemsize
"""Where the state of a new key is, from the header on."""
NO_KEY = -0x2D358DCCAA6C78A5
"""The word of the key whose tag is 0: one that nobody chooses."""
UNUSED = 1
"""What is in the first slot instead of a tag as long as there is no such key."""
LINE_NBYTES = 64
"""Of a cache line of most CPUs: a small slot never lies in two."""
SHARE = 3, 4
"""So much of the slots may be in use: more of them, and finding one takes long."""

State = tuple[np.dtype[Any], tuple[int, ...] | None]


class SlotLayout(NamedTuple):
    """Where things are in a slot: the key itself, in so many words, if it is not the tag; and the state.

    `own_at`: where in the state there is a field for the key, or -1; `dtype`: that of slots, with the fields "tag",
    "key" if it is not the tag, and "state".
    """

    key: np.dtype[Any]
    dtype: np.dtype[Any]
    key_words: int
    state_at: int
    state_nbytes: int
    nbytes: int
    own_at: int


@functools.lru_cache(maxsize=256)
def slot_layout(field: str, key: np.dtype[Any], state: State) -> SlotLayout:
    """The slots for keys of this dtype, from a field of this name, and such a state: its dtype, and its shape, or None
    for one record."""
    dtype, shape = state
    key_words = 0 if key.itemsize <= 8 else -(-key.itemsize // 8)
    state_at = 8 + 8 * key_words
    state_at += -state_at % dtype.alignment
    state_nbytes = dtype.itemsize * math.prod(shape or ())
    nbytes = state_at + state_nbytes
    nbytes = 1 << (nbytes - 1).bit_length() if nbytes <= LINE_NBYTES else nbytes + -nbytes % 16
    own_at = -1
    if shape is None and dtype.fields is not None and field in dtype.fields:
        own_at = dtype.fields[field][1]
    parts = {"tag": (np.dtype("i8"), 0), "state": (np.dtype((dtype, shape or ())), state_at)}
    if key_words:
        parts["key"] = np.dtype(f"S{8 * key_words}"), 8
    formats, offsets = zip(*parts.values(), strict=True)
    slot = np.dtype({"names": [*parts], "formats": [*formats], "offsets": [*offsets], "itemsize": nbytes})
    return SlotLayout(key, slot, key_words, state_at, state_nbytes, nbytes, own_at)


def n_slots_for(count: int) -> int:
    """How many slots, a power of two, are enough for so many keys. From 8 on one stays empty besides the first, which
    is for one key alone: so a search for a key that is not there comes to an end."""
    used, of = SHARE
    return 1 << max(3, (-(-count * of // used) - 1).bit_length())


def capacity_of(n_slots: int) -> int:
    """How many of the slots may be in use."""
    used, of = SHARE
    return n_slots * used // of
