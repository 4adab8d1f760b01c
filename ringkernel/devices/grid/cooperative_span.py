"""A cooperative span: the threads of a block run a stateless handler, one message each. Compiled.

The first thread leads: it alone polls, takes turns and publishes. Between two spans the others wait at a barrier. All
of them then run the same part; outputs keep the order of their inputs, also when messages are dropped: every thread
writes to a slot of its own, a scan over the threads says how many are emitted before it, and the outputs move up
(Hillis and Steele, Data parallel algorithms, 1986).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.codegen.operations import barrier, call_span, copy_bytes, peek, poke, thread_index
from ringkernel.codegen.span_body import DROP, FAILED, FAULT_INFO
from ringkernel.memory.layout import NEVER
from ringkernel.memory.mailbox_layout import JOB, MAILBOX_JOB, MAILBOX_RUN, MARK
from ringkernel.memory.span_layout import RUN

from .handlers import END

if TYPE_CHECKING:
    from collections.abc import Callable


def cooperative_part(call: Any, itemsize: int, *, never_drops: bool) -> Callable[[int], None]:
    """Return what every thread of the block does for one span. `call` as of `message_loop`; `never_drops`: it always
    emits; `itemsize` of an output, 0 if there is none."""
    attempt = marking(call)
    return in_place(attempt, itemsize) if never_drops or itemsize == 0 else compacted(attempt, itemsize)


def marking(call: Any) -> Callable[[int, int, int], int]:
    """The handler as it is called by every thread."""

    def attempt(job: int, index: int, slot: int) -> int:
        """Run the handler on one message, and mark a failure. Return what the handler returned."""
        mark, run = peek(job + JOB.marks) + MARK * thread_index(), run_of(job)
        verdict = call(peek(run + RUN.source), index, slot, 0, peek(run + RUN.context), mark)
        if verdict == FAILED:
            poke(mark, index)
            poke(job + JOB.failed, 1)
        return verdict  # type: ignore[no-any-return]

    return attempt


def run_of(job: int) -> int:
    """Return the address of what is run, in the mailbox of a job."""
    return job + (MAILBOX_RUN - MAILBOX_JOB)


def in_place(attempt: Callable[[int, int, int], int], itemsize: int) -> Callable[[int], None]:
    """Nothing is dropped, or nothing comes out: each output has its slot."""

    def part(mailbox: int) -> None:
        job, run = mailbox + MAILBOX_JOB, mailbox + MAILBOX_RUN
        unmark(job)
        count, target, n_threads = peek(run + RUN.count), peek(run + RUN.target), peek(job + JOB.n_threads)
        i = thread_index()
        while i < count:
            if attempt(job, i, target + i * itemsize) == FAILED:
                break
            i += n_threads
        barrier()  # all outputs are written, all failures marked
        if thread_index() == 0:
            done = min(count, first_failure(job))
            poke(job + JOB.emitted, done if itemsize > 0 else 0)

    return part


def compacted(attempt: Callable[[int, int, int], int], itemsize: int) -> Callable[[int], None]:
    """Round by round, as many messages as there are threads: what is emitted moves up."""

    def part(mailbox: int) -> None:
        job, run = mailbox + MAILBOX_JOB, mailbox + MAILBOX_RUN
        unmark(job)
        me, n_threads, count = thread_index(), peek(job + JOB.n_threads), peek(run + RUN.count)
        slot = peek(job + JOB.staging) + me * itemsize
        target, base, end = peek(run + RUN.target), 0, count
        while base < end:
            index = base + me
            mine = 0
            if index < count and attempt(job, index, slot) != DROP:
                mine = 1
            barrier()  # all failures of this round are marked
            end = min(count, first_failure(job))
            if index >= end:
                mine = 0
            up_to_me = scan(job, mine)
            emitted = total(job)
            if mine == 1:
                copy_record(target + (up_to_me - 1) * itemsize, slot, itemsize)
            target += emitted * itemsize
            base += n_threads
            barrier()  # the scan has been read; the next round may overwrite it
        if me == 0:
            poke(job + JOB.emitted, (target - peek(run + RUN.target)) // itemsize)

    return part


def unmark(job: int) -> None:
    """This thread has not failed."""
    poke(peek(job + JOB.marks) + MARK * thread_index(), NEVER)


def first_failure(job: int) -> int:
    """Return the lowest message that a thread failed on; `NEVER` if none did. After a barrier."""
    low = NEVER
    if peek(job + JOB.failed) == 1:
        for i in range(peek(job + JOB.n_threads)):
            low = min(low, peek(peek(job + JOB.marks) + MARK * i))
    return low


def scan(job: int, mine: int) -> int:
    """Return the sum of `mine` over this thread and those before it. Called by all threads."""
    me, n_threads = thread_index(), peek(job + JOB.n_threads)
    here = peek(job + JOB.scan)
    there = here + 8 * n_threads
    value = mine
    poke(here + 8 * me, value)
    barrier()  # every thread has written its own
    step = 1
    while step < n_threads:
        if me >= step:
            value += peek(here + 8 * (me - step))
        poke(there + 8 * me, value)
        barrier()  # this step's sums are written; the next reads them, and overwrites the ones before
        here, there = there, here
        step *= 2
    if me == n_threads - 1:
        poke(job + JOB.emitted, value)
    barrier()  # the last thread's sum is the total
    return value


def total(job: int) -> int:
    """Return the sum over all threads, after `scan`."""
    return peek(job + JOB.emitted)


def copy_record(target: int, source: int, itemsize: int) -> None:
    """Copy one record; by words where that fits."""
    if itemsize % 8 == 0:
        for i in range(itemsize // 8):
            poke(target + 8 * i, peek(source + 8 * i))
    else:
        copy_bytes(target, source, itemsize)


def part_at(number: int, this: Callable[[int], None], others: Callable[[int], None]) -> Callable[[int], None]:
    """Return a part that is `this` where `number` stands for the span, and else one of the `others`."""

    def part(mailbox: int) -> None:
        if peek(mailbox + MAILBOX_JOB + JOB.span) == number:
            this(mailbox)
        else:
            others(mailbox)

    return part


def cooperative_span(part: Callable[[int], None], at_end: Callable[..., int]) -> Callable[..., int]:
    """A grid's span for the first thread: hand out the work, take part in it, gather what came of it. What is
    `at_end` it does alone."""

    def lead(mailbox: int, span: int, run: int) -> int:
        if span == END:
            return at_end(span, run)
        job = mailbox + MAILBOX_JOB
        poke(job + JOB.span, span)
        poke(job + JOB.failed, 0)
        barrier()  # the others begin
        part(mailbox)
        failed = first_failure(job)
        if failed != NEVER:
            poke(run + RUN.fault_index, failed)
            poke(run + RUN.fault_info_address, peek(mark_of(job, failed) + FAULT_INFO))
            poke(run + RUN.fault_count, 1)
        return peek(job + JOB.emitted)

    return lead


def mark_of(job: int, index: int) -> int:
    """Return the mark of the thread that failed on this message."""
    mark = peek(job + JOB.marks)
    while peek(mark) != index:
        mark += MARK
    return mark


def cooperative_helper(part: Callable[[int], None]) -> Callable[[int], None]:
    """Return what the other threads of a block do until they are dismissed."""

    def helper(mailbox: int) -> None:
        job = mailbox + MAILBOX_JOB
        while True:
            barrier()  # until the first thread has work, or dismisses
            if peek(job + JOB.is_over) == 1:
                return
            part(mailbox)

    return helper


def alone(span: Callable[..., int]) -> Callable[..., int]:
    """A grid's span for a block of one thread: the same as on the CPU."""

    def lead(mailbox: int, which: int, run: int) -> int:
        return span(which, run)

    return lead


def alone_at(number: int, this: Callable[..., int], others: Callable[..., int]) -> Callable[..., int]:
    """Return a span that is `this` where `number` stands for it, and else one of the `others`."""

    def span(which: int, run: int) -> int:
        return this(run) if which == number else others(which, run)

    return span


def by_address(mailbox: int, which: int, run: int) -> int:
    """A grid's span where compiled functions can be called by their address, which then stands for them."""
    return call_span(which, run)


def nobody(mailbox: int) -> None:
    """A block of one thread has no others."""


def dismiss_helpers(mailbox: int) -> None:
    """Let the other threads return."""
    poke(mailbox + MAILBOX_JOB + JOB.is_over, 1)
    barrier()
