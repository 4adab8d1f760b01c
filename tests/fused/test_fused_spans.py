"""A chain as one loop does what its handlers do one after the other: outputs, drops, states, failures."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from spans import function_of

from ringkernel.codegen import span_cache
from ringkernel.codegen.span import compile_span
from ringkernel.codegen.span_types import Plan, SpanTypes
from ringkernel.memory.chain_layout import CHAIN_DTYPE, MAX_STAGES, SMALL_NBYTES

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.compiles

NUMBER = np.dtype([("value", "i8")], align=True)
MORE = np.dtype([("value", "i8"), ("other", "f4"), ("flag", "i1")], align=True)
BLOCK = np.dtype([("value", "i8"), ("x", "f4", (200,))], align=True)
STATE = np.dtype([("seen", "i8")], align=True)


def add(msg: Any, out: Any) -> None:
    out.value = msg.value + 1


def widen(msg: Any, out: Any) -> None:
    out.value = msg.value
    out.other = msg.value * 0.5  # and the flag stays 0


def thirds(msg: Any, out: Any) -> bool:
    out.value = msg.value * 2
    return bool(msg.value % 3 != 0)


def count(msg: Any, out: Any, state: Any) -> None:
    state.seen += 1
    out.value = msg.value + state.seen


def fifths(msg: Any, out: Any, state: Any) -> bool:
    state.seen += 1
    if msg.value == -99:
        raise ValueError("no")
    out.value = msg.value
    return bool(state.seen % 5 != 0)


def strict(msg: Any, out: Any) -> None:
    if msg.value % 1000 == 997:
        raise KeyError("no")
    out.value = msg.value


def blocks(msg: Any, out: Any) -> None:
    out.value = msg.value
    for i in range(200):
        out.x[i] = msg.value + i


def sums(msg: Any, out: Any) -> None:
    total = 0.0
    for i in range(200):
        total += msg.x[i]
    out.value = msg.value + int(total) % 7


def sink(msg: Any, state: Any) -> None:
    state.seen += msg.value


ONE = (STATE, None)
STAGES: dict[str, tuple[Callable[..., Any], SpanTypes]] = {
    "add": (add, SpanTypes(NUMBER, NUMBER, None)),
    "widen": (widen, SpanTypes(NUMBER, MORE, None)),
    "narrow": (add, SpanTypes(MORE, NUMBER, None)),
    "thirds": (thirds, SpanTypes(NUMBER, NUMBER, None)),
    "count": (count, SpanTypes(NUMBER, NUMBER, ONE)),
    "fifths": (fifths, SpanTypes(NUMBER, NUMBER, ONE)),
    "strict": (strict, SpanTypes(NUMBER, NUMBER, None)),
    "unzeroed": (add, SpanTypes(NUMBER, NUMBER, None, zeroed=False)),
    "blocks": (blocks, SpanTypes(NUMBER, BLOCK, None)),
    "sums": (sums, SpanTypes(BLOCK, NUMBER, None)),
    "sink": (sink, SpanTypes(NUMBER, None, ONE)),
}

CHAINS = [
    "add add add",
    "add thirds add",
    "count add count",
    "fifths count thirds fifths",
    "widen narrow strict add",
    "add strict count strict",
    "blocks sums add",
    "strict blocks sums strict",
    "add blocks",
    "thirds widen",
    "add unzeroed",
    "add thirds sink",
    "count sink",
]


def by_hand(names: list[str], given: np.ndarray[Any, Any]) -> Any:
    """What the handlers do, called one by one: outputs, states, what each has dropped, and who has failed on what."""
    states = [np.zeros((), STATE) for _ in names]
    dropped = [0] * len(names)
    outputs: list[Any] = []
    for index, first in enumerate(given):
        message = first
        for number, name in enumerate(names):
            handler, spec = STAGES[name]
            arguments: list[Any] = [message.view(np.recarray)]
            out = None if spec.output is None else np.zeros((), spec.output)
            arguments += [] if out is None else [out.view(np.recarray)]
            arguments += [] if spec.state is None else [states[number].view(np.recarray)]
            try:
                verdict = handler(*arguments)
            except Exception:  # noqa: BLE001 (the handlers')
                return outputs, states, dropped, (index, number, message)
            if verdict is not None and not verdict:
                dropped[number] += 1
                break
            message = out
        else:
            outputs.append(message)
    return outputs, states, dropped, None


def given(names: list[str], seed: int) -> np.ndarray[Any, Any]:
    messages = np.zeros(400, STAGES[names[0]][1].input)
    chosen = random.Random(seed)
    messages["value"] = [chosen.randrange(900) for _ in messages]
    return messages


@pytest.mark.parametrize("names", CHAINS)
@pytest.mark.parametrize("has_poison", [False, True])
def test_a_fused_span_does_what_its_handlers_do(names: str, has_poison: bool) -> None:
    chain = names.split()
    messages = given(chain, seed=len(names))
    if has_poison:
        messages["value"][300] = 997 - chain.index("strict") if "strict" in chain else -99
    outputs, states, dropped, failed = by_hand(chain, messages)

    stages = [STAGES[name] for name in chain]
    record = np.zeros(1, CHAIN_DTYPE)
    mine = [np.zeros((), STATE) for _ in chain]
    places = [np.zeros(1, spec.output) if spec.output is not None else None for _, spec in stages]
    fault = np.full(4, -1)
    record["dropped"] = 77  # what was there before does not count, unless nothing is ever dropped
    for i, (state, place) in enumerate(zip(mine, places, strict=True)):
        record["state_address"][0, i] = state.ctypes.data
        record["message_address"][0, i] = 0 if place is None else place.ctypes.data
    last = stages[-1][1].output
    target = np.full(len(messages), 7, "i1").repeat(0 if last is None else last.itemsize)
    target = target if last is None else target.view(last)
    address = int(record.ctypes.data)
    span = compile_span(Plan((stages[0],), stages=tuple(stages[1:])))
    emitted = function_of(span)(
        messages.ctypes.data, len(messages), target.ctypes.data, address, int(fault.ctypes.data)
    )

    assert (emitted == 0) if last is None else (emitted == len(outputs))
    if last is not None:
        for found, right in zip(target[:emitted], outputs, strict=True):
            assert found == right
    assert mine == states
    if not span.never_drops:
        assert record["dropped"][0, : len(chain)].tolist() == dropped
    if failed is None:
        assert fault[0] == -1
        return
    index, number, message = failed
    assert (fault[0], fault[2], fault[3]) == (index, 1, number)
    if number > 0:
        size = message.dtype.itemsize
        where = int(record["failed_address"][0])
        kept = record["failed"].view("u1")[0, :size] if size <= SMALL_NBYTES else places[number - 1].view("u1")
        assert where == kept.ctypes.data
        assert kept.tobytes() == message.tobytes()


def test_a_fused_span_is_cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("RINGKERNEL_CACHE_DIR", str(tmp_path))
    add, thirds = STAGES["add"], STAGES["thirds"]
    plan = Plan((add,), stages=(thirds,))
    first, again = span_cache.find_span(plan), span_cache.find_span(plan)
    assert first.library is not None
    assert again.library is None
    assert span_cache.find_span(Plan((thirds,), stages=(add,))).library is not None  # the order counts
    messages, target, record = given(["add"], 1), np.zeros(400, NUMBER), np.zeros(1, CHAIN_DTYPE)
    fault = np.full(4, -1)
    arguments = (
        messages.ctypes.data,
        400,
        target.ctypes.data,
        int(record.ctypes.data),
        int(fault.ctypes.data),
    )
    counts = [(function_of(span)(*arguments), target["value"].tolist()) for span in (first, again)]
    assert counts[0] == counts[1]
    assert MAX_STAGES >= 2
