"""Whatever graph of kernels that go by time: what comes out depends on what goes in, not on how it gets there."""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import within
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inside import use_devices
from thread_device import ThreadDevice

import ringkernel as rk
from ringkernel import RingKernelRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

TICK = np.dtype([("time", "i8"), ("x", "i8")], align=True)
EVERY = 5
END = 60
"""The time of what windows emit at their end: later than all others."""
Ticks = list[tuple[int, int]]


@rk.ring_kernel("live join", input_type=TICK, output_type=TICK, state=np.zeros(1, "i8"), order_by="time")
def join(msg, out, state):  # type: ignore[no-untyped-def]
    out.time, out.x = msg.time, (31 * msg.x + state[0]) % 10_007
    return msg.x % 5 != 4


@rk.on_input("live join", "other", TICK)
def join_other(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] = msg.x
    out.time, out.x = msg.time, -msg.x
    return msg.x % 4 == 0


@rk.ring_kernel("live filter", input_type=TICK, output_type=TICK, order_by="time")
def only_some(msg, out):  # type: ignore[no-untyped-def]
    out.time, out.x = msg.time, msg.x
    return msg.x % 3 != 0


@rk.ring_kernel("live sum", input_type=TICK, output_type=TICK, state=np.zeros(1, "i8"), order_by="time")
def running(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] = (7 * state[0] + msg.x) % 10_007
    out.time, out.x = msg.time, state[0]


@rk.ring_kernel("live window", input_type=TICK, output_type=TICK, state=np.zeros(1, "i8"), order_by="time")
def window(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] += msg.x
    return False


@rk.on_timer("live window", every=EVERY)
def window_timer(time, out, state):  # type: ignore[no-untyped-def]
    out.time, out.x = time, state[0]
    state[0] = 0


@rk.on_end("live window")
def window_end(out, state):  # type: ignore[no-untyped-def]
    out.time, out.x = END, state[0]


@dataclass
class Node:
    """A kernel, and what feeds each of its inputs: another one, or messages, by their number."""

    kind: Any
    feeds: list[Node | int] = field(default_factory=list)


# --- the model: what the words of the documentation say, in plain Python ----------------------------------------------


def passed_by(node: Node | int, inputs: list[Ticks]) -> tuple[Ticks, float]:
    """What comes out, and how far time has come in the end: as far as in any input, dropped messages included."""
    if isinstance(node, int):
        return inputs[node], inputs[node][-1][0] if inputs[node] else -math.inf
    fed = [passed_by(one, inputs) for one in node.feeds]
    merged = sorted(((t, i, x) for i, (ticks, _) in enumerate(fed) for t, x in ticks), key=lambda one: one[:2])
    reached = max(end for _, end in fed)
    out: Ticks = []
    state, due = 0, None
    for time, number, x in merged:
        while due is not None and due <= time and node.kind is window:
            out.append((due, state))
            state, due = 0, due + EVERY
        due = due if due is not None else (time // EVERY + 1) * EVERY
        if node.kind is join and number == 0:
            out += [(time, (31 * x + state) % 10_007)] if x % 5 != 4 else []
        elif node.kind is join:
            state = x
            out += [(time, -x)] if x % 4 == 0 else []
        elif node.kind is only_some:
            out += [(time, x)] if x % 3 else []
        elif node.kind is running:
            state = (7 * state + x) % 10_007
            out.append((time, state))
        else:
            state += x
    if node.kind is window:
        while due is not None and due <= reached:
            out.append((due, state))
            state, due = 0, due + EVERY
        out.append((END, state))
        reached = END
    return out, reached


# --- graphs, and ways to feed them ------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Node, int]:
    """One to four kernels, and how many inputs they have. A kernel may feed several others, or one of them twice."""
    numbers, left = itertools.count(), [draw(st.integers(1, 4))]
    made: list[Node] = []

    def node() -> Node:
        left[0] -= 1
        kind = draw(st.sampled_from([join, join, only_some, running, window]))
        made.append(Node(kind, [feed() for _ in range(2 if kind is join else 1)]))
        return made[-1]

    def feed() -> Node | int:
        if left[0] > 0 and draw(st.booleans()):
            return node()
        if bool(made) and draw(st.booleans()):
            already: st.SearchStrategy[Node] = st.sampled_from(made)
            return draw(already)
        return next(numbers)

    return node(), next(numbers)


TIMES = st.lists(st.integers(-12, 40), max_size=25).map(sorted)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Node, list[Ticks], int]:
    """A graph, what goes in, and a size of queues. Where paths meet again they hold as much as one may be ahead."""
    top, count = draw(graphs())
    queue_size = 1024 if _meets_again(top, []) else draw(st.sampled_from([1, 2, 64]))
    return top, [[(t, draw(st.integers(0, 99))) for t in draw(TIMES)] for _ in range(count)], queue_size


def _meets_again(node: Node | int, seen: list[Node]) -> bool:
    """Whether a kernel feeds more than one input."""
    if isinstance(node, int):
        return False
    if any(node is one for one in seen):
        return True
    seen.append(node)
    return any(_meets_again(feed, seen) for feed in node.feeds)


class Running:
    """A graph that is launched, connected and activated; `inputs` are the kernel and the input's name for each. Kernels
    whose number is in `on_grids` run as grids."""

    def __init__(self, runtime: RingKernelRuntime, top: Node, queue_size: int, on_grids: set[int]) -> None:
        self.runtime, self.top, self.queue_size, self.on_grids = runtime, top, queue_size, on_grids
        self.inputs: dict[int, tuple[str, str]] = {}
        self.ids: list[str] = []
        self._launched: dict[int, str] = {}

    async def start(self) -> None:
        self.last = await self._launch(self.top)
        for kernel_id in self.ids:
            await self.runtime.activate(kernel_id)

    async def _launch(self, node: Node) -> str:
        if id(node) in self._launched:
            return self._launched[id(node)]
        device = "cuda" if len(self.ids) in self.on_grids else "cpu"
        kernel_id = self._launched[id(node)] = f"live {len(self.ids)}"
        self.ids.append(kernel_id)
        await self.runtime.launch(kernel_id, node.kind, device=device, queue_size=self.queue_size)
        for name, feed in zip(("", "other"), node.feeds, strict=False):
            if isinstance(feed, int):
                self.inputs[feed] = kernel_id, name
            else:
                self.runtime.connect(await self._launch(feed), kernel_id, input=name)
        return kernel_id

    async def outputs(self) -> Ticks:
        return [
            tuple(one) for batch in [part async for part in self.runtime.stream(self.last)] for one in batch.tolist()
        ]


async def replayed(graph: Running, inputs: list[Ticks], cut: int) -> Ticks:
    arrays = {graph.inputs[i]: np.array(one, TICK) for i, one in enumerate(inputs)}
    if cut:
        batches = {key: iter([one[i : i + cut] for i in range(0, len(one), cut)]) for key, one in arrays.items()}
        return (await graph.runtime.replay(batches, until=graph.last)).tolist()  # type: ignore[no-any-return]
    return (await graph.runtime.replay(arrays, until=graph.last)).tolist()  # type: ignore[no-any-return]


async def sent(graph: Running, inputs: list[Ticks], cut: int, pauses: list[int]) -> Ticks:
    """By a task for each input, in batches or, with 1, one by one, with pauses in between."""

    async def feed(number: int) -> None:
        (kernel_id, name), messages = graph.inputs[number], inputs[number]
        for at in range(0, len(messages), cut):
            for _ in range(pauses[(number + at) % len(pauses)]):
                await asyncio.sleep(0)
            if cut == 1:
                await graph.runtime.send(kernel_id, messages[at], input=name)
            else:
                await graph.runtime.send_batch(kernel_id, np.array(messages[at : at + cut], TICK), input=name)
        await graph.runtime.close_input(kernel_id, input=name)

    feeding = asyncio.gather(*map(feed, range(len(inputs))))
    outputs = await graph.outputs()
    await feeding
    return outputs


@pytest.mark.long
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=cases(),
    cut=st.integers(2, 9),
    pauses=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    workers=st.integers(1, 2),
    fuse=st.booleans(),
    on_grids=st.sampled_from([set(), set(range(4)), {0, 2}, {1, 3}, {0, 1}]),
)
def test_what_comes_out_depends_on_what_goes_in_only(
    case: tuple[Node, list[Ticks], int],
    cut: int,
    pauses: list[int],
    workers: int,
    fuse: bool,
    on_grids: set[int],
) -> None:
    top, inputs, queue_size = case
    expected, _ = passed_by(top, inputs)

    async def check() -> None:
        async with RingKernelRuntime(workers=workers, fuse=fuse) as runtime:
            ways: list[Callable[[Running], Coroutine[Any, Any, Ticks]]] = [
                lambda graph: replayed(graph, inputs, 0),
                lambda graph: replayed(graph, inputs, cut),
                lambda graph: sent(graph, inputs, cut, pauses),
                lambda graph: sent(graph, inputs, 1, pauses),
            ]
            for way in ways:
                graph = Running(runtime, top, queue_size, on_grids)
                await graph.start()
                assert await within(way(graph), 10) == expected
                for kernel_id in graph.ids:
                    runtime.remove(kernel_id)

    with pytest.MonkeyPatch.context() as patch:
        device = ThreadDevice()
        use_devices(patch, device)
        asyncio.run(check())
        device.join()
