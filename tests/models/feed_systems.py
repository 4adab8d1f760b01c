"""A feeder, which threads share, and somebody closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernels import OUTPUT_AT, OUTPUT_EDGE, ring, slot
from played import Words, namespace
from search import System, step

from ringkernel.memory.layout import FEEDER, RING
from ringkernel.ring.protocol.feeding import BUSY

if TYPE_CHECKING:
    from search import End

BLOCK_AT, ENTRY_AT, JOB_AT, TEAM_AT, LOOP_AT, SOURCE_AT, TARGET_AT, SPAN_AT, FEEDER_AT = (i << 40 for i in range(1, 10))
LEADER_AT, HELPER_AT, RUNS_AT, N, USED = 16 << 40, 17 << 40, 1 << 50, 2, 77


def feeds(source: str) -> System:
    """Two threads push with one feeder, and somebody closes it: from when nobody pushes any more nothing comes."""
    words = Words()
    ring(words, OUTPUT_AT, 4, [OUTPUT_EDGE])
    words.update({FEEDER_AT + FEEDER.ring: OUTPUT_AT - FEEDER_AT, SOURCE_AT: 5, SOURCE_AT + 8: 6})
    code = namespace("feed", source)

    def pusher(number: int) -> Any:
        return (yield from code["push_some"](FEEDER_AT, SOURCE_AT + 8 * number, 1))

    def closer() -> Any:
        yield from code["close"](FEEDER_AT)
        while (yield from step("load_acquire", FEEDER_AT + FEEDER.busy)) != 0:
            yield from step("poll")
        return (yield from step("load_acquire", OUTPUT_AT + RING.tail))

    def check(end: End) -> None:
        assert not end.waiting, "a feeder stays busy"
        tail = end.word(OUTPUT_AT + RING.tail)
        assert end.results["closer"] == tail, "a message comes through a feeder that was closed"
        came = [end.results[name] for name in ("one", "other")]
        assert tail == sum(one == 1 for one in came), "a message is lost, or nobody knows of it"
        found = [end.word(slot(OUTPUT_AT, i, 4)) for i in range(tail)]
        assert sorted(found) == [5 + i for i, one in enumerate(came) if one == 1], "a message is overwritten"
        assert BUSY in came or end.word(FEEDER_AT + FEEDER.busy) == 0

    agents = {"one": lambda: pusher(0), "other": lambda: pusher(1), "closer": closer}
    return System("a feeder", words, agents, check)


SYSTEMS = {
    "feed: two threads": ("feed", feeds),
}
