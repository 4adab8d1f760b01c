"""The real functions, as agents of a search run them."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from orders import functions_of
from playing import generators, source_of
from search import step
from weak_memory import EXCHANGES, RELAXED

from ringkernel.devices.compiled import helping, worker_loop
from ringkernel.memory import call_layout, chain_layout, layout, span_layout
from ringkernel.memory.layout import BLOCK_DTYPE
from ringkernel.ring import host_api
from ringkernel.ring.block import ledger, stages, token, waits
from ringkernel.ring.protocol import cursors, doorbell, feeding
from ringkernel.ring.spans import commit, fill, further_stages, pace, run_span
from ringkernel.ring.turns import ends, loop_turns, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

LAYOUTS = (layout, call_layout, chain_layout, span_layout)
HOST = (
    host_api.read_word,
    host_api.write_word,
    host_api.give_command,
    host_api.copy_ledger,
    host_api.copy_state,
)
COMMIT = (doorbell, token, cursors, stages, waits, ledger, further_stages, pace, commit)
"""What `commit` calls."""
TURN = (*COMMIT, fill, run_span, ends, turn, loop_turns, helping, worker_loop)
"""What a worker runs, and the event loop's thread, but for splitting spans."""
FEED = (doorbell, cursors, feeding)
"""What a thread that is nobody's calls."""


def text_of(modules: Iterable[ModuleType], *functions: Any) -> str:
    """All functions of modules, and these."""
    return source_of(modules) + "".join("\n" + inspect.getsource(one) for one in functions)


TEXTS = {
    "commit": text_of(COMMIT, host_api.copy_ledger),
    "turn": text_of(TURN, *HOST),
    "feed": text_of(FEED),
}
HOME = {
    kind: {
        name: module.__name__.removeprefix("ringkernel.")
        for module in modules
        for name in functions_of(source_of([module]))
    }
    for kind, modules in {"commit": COMMIT, "turn": TURN, "feed": FEED}.items()
}
"""Which module a function of a text is from."""
MODULES = {"commit": (*COMMIT, host_api), "turn": (*TURN, host_api), "feed": FEED}


def namespace(kind: str, source: str, **own: Any) -> dict[str, Any]:
    """The functions of one of these texts, or of what a mutation has made of it, as generators; `own`: functions that
    they call, as generators, in place of those given here."""
    given = {"copy_bytes": copying({}), **TORN, **own}
    code = generators(source, (*LAYOUTS, *MODULES[kind]), given, [RELAXED + name for name in EXCHANGES])
    code.update({"step": step, **given})
    for name in functions_of(source):
        if name not in own:
            code[name] = calling(code[name], name)
    return code


CALLED: set[str] = set()
"""The functions that were called, of those that could be."""


def calling(function: Any, name: str) -> Any:
    """The function, which notes that it is called."""

    def call(*arguments: int) -> Any:
        CALLED.add(name)
        return function(*arguments)

    return call


def copying(words_of: dict[int, Iterable[int]]) -> Callable[[int, int, int], Any]:
    """`copy_bytes`, word by word. Of a block that is copied as a whole only these words are looked at."""

    def copy_bytes(target: int, begin: int, count: int) -> Any:
        offsets = words_of[begin] if count == BLOCK_DTYPE.itemsize else range(0, count, 8)
        for offset in offsets:
            value = yield from step("load", begin + offset)
            yield from step("store", target + offset, value)

    return copy_bytes


def nothing() -> Any:
    """What is there instead of a fence that was taken away."""
    return 0
    yield


def torn_compare_exchange(address: int, expected: int, value: int) -> Any:
    seen = yield from step("load_acquire", address)
    if seen == expected:
        yield from step("store_release", address, value)
    return seen


def torn_exchange(address: int, value: int) -> Any:
    seen = yield from step("load_acquire", address)
    yield from step("store_release", address, value)
    return seen


def torn_fetch_add(address: int, amount: int) -> Any:
    seen = yield from step("load_acquire", address)
    yield from step("store_release", address, seen + amount)
    return seen


TORN = {one.__name__: one for one in (nothing, torn_compare_exchange, torn_exchange, torn_fetch_add)}


def never(*arguments: int) -> Any:
    """What is not played."""
    raise AssertionError("this is not played here")
    yield


def load_all(addresses: Iterable[int]) -> Any:
    """What acquire loads of these words see, one by one."""
    seen = []
    for address in addresses:
        seen.append((yield from step("load_acquire", address)))
    return seen


def note(at: int, value: int) -> Any:
    """Append to a list in an agent's own words."""
    count = yield from step("load", at)
    yield from step("store", at + 8 + 8 * count, value)
    yield from step("store", at, count + 1)


def noted(word: Callable[[int], int], at: int) -> list[int]:
    """Such a list, in the end."""
    return [word(at + 8 + 8 * i) for i in range(word(at))]


class Words(defaultdict[int, int]):
    """Memory as it is laid out, or as it is in the end."""

    def __init__(self, word: Callable[[int], int] | None = None) -> None:
        super().__init__(int)
        self._word = word

    def __getitem__(self, address: int) -> int:
        return super().__getitem__(address) if self._word is None else self._word(address)
