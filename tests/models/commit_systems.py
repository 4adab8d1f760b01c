"""Commits of spans of all shapes, with readers, a supervisor that revokes the kernel, and a death at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from played import Words, copying, load_all, namespace
from search import System, step
from test_commit_orders import ENTRY_AT, LEDGER, World, block_at

from ringkernel.memory.layout import BLOCK, CLAIMED, EDGE, GONE, NEVER, RING, RUN_ENTRY, STATUS_FAILED
from ringkernel.memory.span_layout import SPAN
from ringkernel.ring.block.token import LEFT

if TYPE_CHECKING:
    from collections.abc import Callable

    from search import End, Program

COPY_AT = 1 << 60

SHAPES: dict[str, Callable[[World], bool]] = {
    "one input": lambda it: it.n_lanes == 1 and it.n_stages == 1 and it.failing < 0,
    "one input, a fault": lambda it: it.n_lanes == 1 and it.n_stages == 1 and it.failing == 0,
    "two by time": lambda it: it.n_lanes == 2 and it.n_stages == 1 and it.failing < 0 and tells(it),
    "an end": lambda it: it.is_end and it.failing < 0,
    "a chain": lambda it: it.n_stages == 3 and it.failing < 0,
    "a chain, a fault": lambda it: it.n_stages == 3 and it.failing == 1,
}


def tells(world: World) -> bool:
    """Whether time has come further than was told."""
    return world.memory[world.span + SPAN.told] == 4


LOOKS = {
    "readers": ("reader", "other reader"),
    "revoked": ("cursors", "supervisor"),
    "counted": ("ledgers",),
    "dies": ("cursors", "supervisor"),
    "dies counting": ("ledgers",),
}


def world_of(shape: str) -> World:
    """The first of the drawn spans that is of this shape, and has taken and emitted something."""
    for seed in range(10_000):
        world = World({}, seed)
        if SHAPES[shape](world) and world.emitted > 0 and (world.is_end or min(world.taken) > 0):
            for edge in world.readers:
                world.memory[edge + EDGE.limit] = NEVER
            world.memory[world.output + RING.wanted] = NEVER  # to wake producers is none of a commit
            world.was_news = tells(world)
            return world
    raise AssertionError(shape)


def slot(world: World, sequence: int) -> int:
    return world.output + (1 << 20) + 8 * (sequence % 64)


def commits(shape: str, looks: str) -> Callable[[str], System]:
    """A span of this shape is committed, and these agents look on."""

    def system(source: str) -> System:
        world = world_of(shape)
        ledgers_of = copying({block_at(stage): LEDGER for stage in range(world.n_stages)})
        code = namespace("commit", source, copy_bytes=ledgers_of)
        before, after, tail = world.before, world.after(), world.tail
        counted = [world.memory[block_at(i) + BLOCK.turns] for i in range(world.n_stages)]

        def poller() -> Any:
            for i in range(world.emitted):
                yield from step("store", slot(world, tail + i), 100 + i)
            came = yield from code["commit"](block_at(0), ENTRY_AT, world.span, 0)
            if not looks.startswith("dies"):
                yield from code["dismiss" if came == LEFT else "release"](ENTRY_AT)
            return came

        def reads(edge: int, times: int) -> Any:
            got: list[int] = []
            for _ in range(times):
                head = yield from step("load", edge + EDGE.head)
                bound = yield from code["bound_of"](edge, head)
                assert bound in (tail, after["tails"][-1]), "a part of the outputs is seen"
                for sequence in range(max(head, tail), bound):
                    value = yield from step("load", slot(world, sequence))
                    assert value == 100 + sequence - tail, "an output is seen before it was written"
                    got.append(sequence)
                yield from code["consume"](edge, bound, 0)
            assert len(got) == len(set(got)), "an output is read twice"
            return got

        def cursors() -> Any:
            progress = yield from step("load_acquire", world.output + RING.progress)
            heads = yield from load_all(edge + EDGE.head for edge in world.every_edge())
            tails = yield from load_all(ring + RING.tail for ring in world.rings)
            if heads != before["heads"]:
                assert tails == after["tails"], "an input's cursor is seen before what came of it"
            if progress != before["progress"]:
                assert tails[-1] == after["tails"][-1], "a time is seen before the outputs before it"

        def ledgers() -> Any:
            for stage in range(world.n_stages)[-1:]:
                if (yield from code["copy_ledger"](block_at(stage), COPY_AT)) == 1:
                    ledger = tuple((yield from load_all(COPY_AT + word for word in LEDGER)))
                    assert ledger in (before["ledgers"][stage], after["ledgers"][stage]), "a ledger in between is seen"

        def supervisor() -> Any:
            return (yield from code["revoke"](ENTRY_AT, 1))

        def recover() -> Any:
            return "recovered", (yield from code["recover"](ENTRY_AT))

        def check(end: End) -> None:
            assert not end.waiting, "somebody waits for ever"
            world.memory = Words(end.word)
            came, seen = end.results["poller"], world.seen()
            was_revoked = end.results.get("supervisor") == CLAIMED
            if looks.startswith("dies") and isinstance(came, tuple):
                happened = came[1] == 1
                assert end.word(ENTRY_AT + RUN_ENTRY.owner) == GONE, "what has died is not taken"
            else:
                happened = not was_revoked
            assert not (happened and was_revoked), "it was revoked, and something of it has happened"
            if not happened:
                assert seen == before, "it has not happened, but something of it is seen"
                return
            assert seen == after, "it has happened in part"
            for stage, one in enumerate(counted):
                if not isinstance(came, tuple):
                    assert end.word(block_at(stage) + BLOCK.turns) - one <= 1, "it is counted twice"
            if world.failing >= 0:
                assert end.word(block_at(world.failing) + BLOCK.status) == STATUS_FAILED

        agents: dict[str, Program] = {
            "poller": poller,
            "reader": lambda: reads(world.readers[0], 2),
            "other reader": lambda: reads(world.readers[1], 1),
            "cursors": cursors,
            "ledgers": ledgers,
            "supervisor": supervisor,
        }
        looking = () if looks == "dies" and world.n_stages > 1 else LOOKS[looks]  # that would be too many states
        chosen = {name: agents[name] for name in ("poller", *looking)}
        dies = {"poller": recover} if looks.startswith("dies") else {}
        return System(f"commit, {shape}, {looks}", world.memory, chosen, check, dies)

    return system


SYSTEMS = {
    f"commit: {shape}, {looks}": ("commit", commits(shape, looks))
    for shape in SHAPES
    for looks in LOOKS
    if not (shape.startswith("a chain") and looks == "dies counting")
}
