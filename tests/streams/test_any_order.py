"""Messages of one to four inputs, sent in whatever pieces and order: what comes out is what a sort makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, within
from hypothesis import given, settings
from hypothesis import strategies as st

import ringkernel as rk
from ringkernel import RingKernelRuntime

MOST = 4
ITEM = np.dtype([("time", "i8"), ("input", "i4"), ("number", "i4")], align=True)


def declare(n_inputs: int, every: int) -> Any:
    """A kernel that passes on what it gets, with a timer if `every` is above 0, whose outputs are of the input -1."""
    name = f"any order {n_inputs} {every}"

    @rk.ring_kernel(name, input_type=ITEM, output_type=ITEM, order_by="time")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.input, out.number = msg.time, msg.input, msg.number

    def pass_on(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.input, out.number = msg.time, msg.input, msg.number

    for number in range(1, n_inputs):
        rk.on_input(name, f"input {number}", ITEM)(pass_on)
    if every:

        @rk.on_timer(name, every=every)
        def timer(time, out):  # type: ignore[no-untyped-def]
            out.time, out.input = time, -1

    return kernel


def expected(inputs: list[np.ndarray[Any, Any]], every: int) -> list[tuple[int, int, int]]:
    """By Python."""
    messages = sorted((tuple(one) for part in inputs for one in part.tolist()), key=lambda item: (item[0], item[1]))
    if not every or not messages:
        return messages
    result, next_time = [], (messages[0][0] // every + 1) * every
    for time, number, index in messages:
        while next_time <= time:
            result.append((next_time, -1, 0))
            next_time += every
        result.append((time, number, index))
    return result


KERNELS = {(n, every): declare(n, every) for n in range(1, MOST + 1) for every in (0, 7)}

times = st.lists(st.integers(-30, 30), max_size=12).map(sorted)


@pytest.mark.parametrize("every", [0, 7])
@settings(deadline=None, max_examples=60)
@given(given_times=st.lists(times, min_size=1, max_size=MOST), data=st.data())
def test_any_pieces_in_any_order_come_out_by_time(
    every: int, given_times: list[list[int]], data: st.DataObject
) -> None:
    inputs = [
        np.array([(time, number, index) for index, time in enumerate(one)], ITEM)
        for number, one in enumerate(given_times)
    ]
    kernel, n_inputs = KERNELS[len(inputs), every], len(inputs)
    queue_size, workers = data.draw(st.sampled_from([1, 2, 8, 64])), data.draw(st.sampled_from([1, 2]))
    order = data.draw(st.permutations(range(n_inputs)))
    cuts = [data.draw(st.lists(st.integers(0, 5), max_size=4)) for _ in order]
    advances = [data.draw(st.booleans()) for _ in order]

    async def feed(runtime: RingKernelRuntime, number: int, cuts: list[int], advances: bool) -> None:
        name, rest = f"input {number}" if number else "", inputs[number]
        for cut in cuts:
            if advances and len(rest):
                await runtime.advance(kernel, int(rest["time"][0]), input=name)
            piece, rest = rest[:cut], rest[cut:]
            if len(piece) == 1:
                await runtime.send(kernel, tuple(piece[0].tolist()), input=name)
            else:
                await runtime.send_batch(kernel, piece, input=name)
        await runtime.send_batch(kernel, rest, input=name)
        await runtime.close_input(kernel, input=name)

    async def receive(runtime: RingKernelRuntime, got: list[Any]) -> None:
        async for batch in runtime.stream(kernel):
            got += batch.tolist()

    async def play() -> list[Any]:
        got: list[Any] = []
        async with RingKernelRuntime(workers=workers) as runtime:
            await runtime.launch(kernel, queue_size=queue_size)
            await runtime.activate(kernel)
            feeding = [feed(runtime, number, cuts[number], advances[number]) for number in order]
            await within(asyncio.gather(receive(runtime, got), *feeding))
            check_books(runtime, next(iter(runtime.kernels)))
        return got

    assert asyncio.run(play()) == expected(inputs, every)
