"""A grid's mailbox, brought up to date before each turn with what others have written. Compiled.

Two looks come one after the other, with a fence where something was new: whether inputs have ended, and how far they
have come, and then the cursors. So whatever an end, or a time, stands for is seen with it. Only a kernel that goes by
time always takes both; another one looks at ends once it may end by them.
"""

from __future__ import annotations

from ringkernel.codegen.operations import fence_acquire, fence_device, load, load_device, peek, poke
from ringkernel.memory.layout import BLOCK
from ringkernel.memory.mailbox_layout import FETCH_UNROLL, MAILBOX, MAILBOX_BLOCK
from ringkernel.memory.span_layout import SPAN


def fetch(mailbox: int) -> int:
    """Look at what others write. 1 if anything is new."""
    return fetch_times(mailbox) | fetch_from_device(mailbox) | fetch_from_host(mailbox)


def fetch_times(mailbox: int) -> int:
    """Look whether inputs have ended, and how far they have come, if the kernel asks for that. 1 if anything is new;
    then what they stand for is seen from here on."""
    if by_time(mailbox) == 0 and peek(mailbox + MAILBOX_BLOCK + BLOCK.closing) == 0:
        return 0
    times, count = peek(mailbox + MAILBOX.times), peek(mailbox + MAILBOX.n_times)
    if fetch_words(times, count) == 0:
        return 0
    fence_acquire()
    fetch_words(times, count)  # once more: an end may have been seen without the time that it stands for
    fence_acquire()
    return 1


def fetch_words(pairs: int, count: int) -> int:
    """Look at so many words in host memory. 1 if any is new.

    Four loads at a time are on their way together: each takes a microsecond where host memory is far.
    """
    pair, news = pairs, 0
    for _ in range(count // FETCH_UNROLL):
        first, second = load(peek(pair)), load(peek(pair + 16))
        third, fourth = load(peek(pair + 32)), load(peek(pair + 48))
        news |= note(peek(pair + 8), first) | note(peek(pair + 24), second)
        news |= note(peek(pair + 40), third) | note(peek(pair + 56), fourth)
        pair += 16 * FETCH_UNROLL
    return news


def fetch_closing(mailbox: int) -> int:
    """With nothing to do, look whether the kernel is to end once its inputs have. 1 if that is new."""
    closing = mailbox + MAILBOX_BLOCK + BLOCK.closing
    return note(closing, load(peek(mailbox + MAILBOX.host_block) + BLOCK.closing))


def fetch_from_device(mailbox: int) -> int:
    """Look at the cursors of neighbours on this device. 1 if any is new."""
    pair = peek(mailbox + MAILBOX.device_cursors)
    news = 0
    for _ in range(peek(mailbox + MAILBOX.n_device_cursors)):
        news |= note(peek(pair + 8), load_device(peek(pair)))
        pair += 16
    if news == 1:
        fence_device()  # acquire: the slots below a tail are written, those below a head have been read
    return news


def fetch_from_host(mailbox: int) -> int:
    """Look in host memory: commands, cursors, limits, the heartbeat. 1 if anything is new."""
    news = fetch_words(peek(mailbox + MAILBOX.fetches), peek(mailbox + MAILBOX.n_fetches))
    if news == 1:
        fence_acquire()  # acquire: the slots below the cursors are written, the command belongs to its epoch
        poke(mailbox + MAILBOX_BLOCK + BLOCK.command, load(peek(mailbox + MAILBOX.host_block) + BLOCK.command))
    return news


def note(here: int, value: int) -> int:
    """Note a word in the mailbox. 1 if it is new."""
    if peek(here) == value:
        return 0
    poke(here, value)
    return 1


def by_time(mailbox: int) -> int:
    """1 if the kernel goes by time."""
    return peek(peek(mailbox + MAILBOX.record) + SPAN.by_time)
