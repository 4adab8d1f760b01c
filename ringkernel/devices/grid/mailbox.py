"""A grid's mailbox: fetched before a turn, posted after it. Compiled.

In the mailbox nothing is shared, so there a turn runs with plain loads and stores (`private.py`). What looks outside is
here, and does no more than load and store the words that the host has put into the tables (`image.py`). A word is
posted only if it has changed.

What a turn has committed is posted in the order of `publish_span`, with as few fences as keep to it: a fence, then the
outputs and what is counted; a fence, then how far time has come and the inputs' cursors. So an input's `head` implies
all that came of the messages below. Neighbours on the same device look at cursors in its memory (`device_rings.py`),
which are posted first: they wait for them, and it takes less time.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    copy_bytes,
    fence_acquire,
    fence_device,
    fence_release,
    load,
    load_device,
    peek,
    poke,
    store,
    store_device,
    store_release,
    ticks,
)
from ringkernel.memory.keys_layout import KEYS
from ringkernel.memory.layout import BLOCK, NO_KEYS
from ringkernel.memory.mailbox_layout import (
    CONTROL,
    FETCH_NBYTES,
    FETCH_UNROLL,
    HISTOGRAM,
    INPUT_ON_HOST,
    INPUTS,
    KNOWN,
    MAILBOX,
    MAILBOX_BLOCK,
    MAILBOX_SPAN,
    MOVE_NBYTES,
    OUTPUTS,
    POST_NBYTES,
    UNDER_WAY,
)
from ringkernel.memory.span_layout import LANE, SPAN, TIME_AT
from ringkernel.ring.block.stages import lane_of

UNKNOWN = -1
"""A tail that no ring has."""


def by_time(mailbox: int) -> int:
    """Return 1 if the kernel goes by time."""
    return peek(mailbox + MAILBOX_SPAN + SPAN.by_time)


# --- the beginning and the end ----------------------------------------------------------------------------------------


def take_over(mailbox: int, control: int) -> None:
    """Copy the mailbox from where the host has written it, if the grid has memory of its own, and bring the context."""
    image = load(control + CONTROL.image_address)
    if image != mailbox:
        copy_bytes(mailbox, image, peek(image + MAILBOX.nbytes))
    move = mailbox + peek(mailbox + MAILBOX.moves)
    for _ in range(peek(mailbox + MAILBOX.n_moves)):
        word = mailbox + peek(move)
        poke(word, peek(word) + peek(move + 8) * (image - mailbox))
        move += MOVE_NBYTES
    context = peek(mailbox + MAILBOX.context_address)
    copy_bytes(context, peek(mailbox + MAILBOX.context_on_host), peek(mailbox + MAILBOX.context_nbytes))
    poke(mailbox + MAILBOX.seen_at, ticks())
    if by_time(mailbox) == 1:
        for number in range(peek(mailbox + MAILBOX_BLOCK + BLOCK.n_inputs)):
            poke(lane_of(mailbox + MAILBOX_SPAN, number) + LANE.news_at, ticks())  # patience begins anew
    fence_acquire()  # acquire: the slots below the cursors are written, also those that the first fetch finds unchanged


def return_context(mailbox: int) -> None:
    """Copy state, parameters and random numbers back, and what is known of times, before the token goes back."""
    context = peek(mailbox + MAILBOX.context_address)
    copy_bytes(peek(mailbox + MAILBOX.context_on_host), context, peek(mailbox + MAILBOX.context_nbytes))
    if by_time(mailbox) == 1:
        times = mailbox + MAILBOX_SPAN + TIME_AT
        copy_bytes(peek(mailbox + MAILBOX.times_on_host), times, peek(mailbox + MAILBOX.times_nbytes))


# --- what others write ------------------------------------------------------------------------------------------------


def fetch(mailbox: int) -> None:
    """Look at what others write: whether inputs have ended, and how far they have come, and then the cursors, so that
    whatever an end or a time stands for is seen with it."""
    fetch_times(mailbox)
    fetch_from_device(mailbox)
    fetch_from_host(mailbox)


def fetch_times(mailbox: int) -> None:
    """Look at the ends and times of the inputs, if the kernel goes by them: of one that does not, only ends count, and
    only once it is to end by them."""
    if by_time(mailbox) == 0 and peek(mailbox + MAILBOX_BLOCK + BLOCK.closing) == 0:
        return
    if fetch_words(mailbox, mailbox + MAILBOX.times) == 1:
        fence_acquire()
        fetch_words(mailbox, mailbox + MAILBOX.times)  # an end may have been seen without the time that it stands for
        fence_acquire()


def fetch_from_device(mailbox: int) -> None:
    """Look at the cursors of neighbours on this device."""
    entry, news = mailbox + peek(mailbox + MAILBOX.near_fetches), 0
    for _ in range(peek(mailbox + MAILBOX.n_near_fetches)):
        news |= note(mailbox + peek(entry + 8), load_device(peek(entry)))
        entry += FETCH_NBYTES
    if news == 1:
        fence_device()  # acquire: the slots below a tail are written, those below a head have been read


def fetch_from_host(mailbox: int) -> None:
    """Look in host memory: commands, cursors, limits, the heartbeat."""
    if fetch_words(mailbox, mailbox + MAILBOX.fetches) == 1:
        fence_acquire()  # acquire: the slots below the cursors are written, the command belongs to its epoch
        poke(mailbox + MAILBOX_BLOCK + BLOCK.command, load(peek(mailbox + MAILBOX.host_block) + BLOCK.command))


def fetch_closing(mailbox: int) -> int:
    """With nothing to do, look whether the kernel is to end once its inputs have. Return 1 if that is new."""
    closing = load(peek(mailbox + MAILBOX.host_block) + BLOCK.closing)
    return note(mailbox + MAILBOX_BLOCK + BLOCK.closing, closing)


def fetch_words(mailbox: int, table: int) -> int:
    """Look at the words of a table. Return 1 if any is new.

    Four loads at a time are on their way together: each takes a microsecond where host memory is far.
    """
    entry, news = mailbox + peek(table), 0
    for _ in range(peek(table + 8) // FETCH_UNROLL):
        first, second = load(peek(entry)), load(peek(entry + FETCH_NBYTES))
        third, fourth = load(peek(entry + 2 * FETCH_NBYTES)), load(peek(entry + 3 * FETCH_NBYTES))
        news |= note(mailbox + peek(entry + 8), first) | note(mailbox + peek(entry + 8 + FETCH_NBYTES), second)
        news |= note(mailbox + peek(entry + 8 + 2 * FETCH_NBYTES), third)
        news |= note(mailbox + peek(entry + 8 + 3 * FETCH_NBYTES), fourth)
        entry += FETCH_UNROLL * FETCH_NBYTES
    return news


def note(here: int, value: int) -> int:
    """Note a word in the mailbox. Return 1 if it is new."""
    if peek(here) == value:
        return 0
    poke(here, value)
    return 1


# --- what the grid has done -------------------------------------------------------------------------------------------


def post(mailbox: int) -> None:
    """Publish what a turn has done."""
    block, on_host = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    forget_known(mailbox)
    post_to_device(mailbox)
    version = peek(block + BLOCK.ledger_version)
    store(on_host + BLOCK.ledger_version, version - 1)
    fence_release()  # release: the slots before the output's cursor, the odd version before the counts
    post_words(mailbox, OUTPUTS)
    post_under_way(mailbox)
    if peek(block + BLOCK.keyed) != NO_KEYS:
        count = peek(block + peek(block + BLOCK.state) + KEYS.count)
        store(peek(mailbox + MAILBOX.context_on_host) + KEYS.count, count)
    fence_release()  # release: the output's cursor before time and `head`, the counts before the even version
    post_words(mailbox, INPUTS)
    store(on_host + BLOCK.ledger_version, version)
    poke(mailbox + MAILBOX.histogram_is_posted, 0)


def post_words(mailbox: int, number: int) -> None:
    """Post what has changed of the words of a table."""
    table = mailbox + MAILBOX.posts + 16 * number
    entry, is_fenced = mailbox + peek(table), 0
    for _ in range(peek(table + 8)):
        value = peek(mailbox + peek(entry))
        if note(entry + 16, value) == 1:
            if number == KNOWN and is_fenced == 0:
                fence_release()  # release: all that came of what is known
                is_fenced = 1
            store(peek(entry + 8), value)
        entry += POST_NBYTES


def post_to_device(mailbox: int) -> None:
    """Publish to the neighbours on this device. They look at nothing but the slots and these cursors."""
    count = peek(mailbox + MAILBOX.n_near_posts)
    if count == 0:
        return
    fence_device()  # release: the slots below the tail are written, those below the heads have been read
    entry = mailbox + peek(mailbox + MAILBOX.near_posts)
    for _ in range(count):
        value = peek(mailbox + peek(entry))
        if note(entry + 16, value) == 1:
            store_device(peek(entry + 8), value)
        entry += POST_NBYTES


def post_under_way(mailbox: int) -> None:
    """Let the host know what a span has in hand, before it begins: of one that never ends it learns nothing more."""
    block = mailbox + MAILBOX_BLOCK
    edge = peek(block + BLOCK.fault_edge)
    if edge != 0:
        edge = peek(block + edge + INPUT_ON_HOST)
    if note(mailbox + MAILBOX.told_edge, edge) == 1:
        store(peek(mailbox + MAILBOX.host_block) + BLOCK.fault_edge, edge)
    post_words(mailbox, UNDER_WAY)


def post_blocked(mailbox: int) -> None:
    """Let the host know that there is no room: it then need not watch any more. With nothing to do."""
    if peek(mailbox + MAILBOX_BLOCK + BLOCK.blocked) == 1:
        store_release(peek(mailbox + MAILBOX.host_block) + BLOCK.blocked, 1)  # release: the cursors of all it has done


def forget_known(mailbox: int) -> None:
    """Let the host know that a kernel that goes by time does something, before all that comes of it: what it knew of
    its inputs says no more that it does nothing."""
    if by_time(mailbox) == 0:
        return
    first = mailbox + peek(mailbox + MAILBOX.posts + 16 * KNOWN)
    if note(first + 16, UNKNOWN) == 1:
        store(peek(first + 8), UNKNOWN)
        fence_release()  # release: whoever sees what comes of it sees this


def post_known(mailbox: int) -> None:
    """Post what a kernel that goes by time knows of its inputs, for who watches it: it has nothing to do."""
    if by_time(mailbox) == 1:
        post_words(mailbox, KNOWN)


def post_histogram(mailbox: int) -> None:
    """Post the histogram, which is long and seldom looked at: when the grid has become idle, or leaves."""
    if note(mailbox + MAILBOX.histogram_is_posted, 1) == 0:
        return
    block, on_host = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    version = peek(block + BLOCK.ledger_version) + 2
    poke(block + BLOCK.ledger_version, version)
    store(on_host + BLOCK.ledger_version, version - 1)
    fence_release()  # the odd version before the counts
    post_words(mailbox, HISTOGRAM)
    store_release(on_host + BLOCK.ledger_version, version)


def answer(mailbox: int) -> None:
    """Tell the host a status that is new."""
    block, on_host = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    status, echo = peek(block + BLOCK.status), peek(block + BLOCK.echo)
    if note(mailbox + MAILBOX.told_status, status) | note(mailbox + MAILBOX.told_echo, echo) == 0:
        return
    answers = peek(block + BLOCK.answers) + 1
    poke(block + BLOCK.answers, answers)
    store(on_host + BLOCK.status, status)
    store_release(on_host + BLOCK.echo, echo)  # release: the state, the cursors, the status
    store_release(on_host + BLOCK.answers, answers)
