"""Handlers as a notebook has them: annotated, not decorated."""

from __future__ import annotations

from typing import Any

import numpy as np

from ringkernel import ring_kernel


def double(msg: float, out: float) -> None:
    out.value = 2 * msg.value  # type: ignore[attr-defined]


def plus(msg: float, out: float) -> None:
    out.value = msg.value + 0.5  # type: ignore[attr-defined]


def negate(msg: float, out: float) -> None:
    out.value = -msg.value  # type: ignore[attr-defined]


def total(msg: float, out: float, state: Any = np.zeros(1)) -> None:
    state[0] += msg.value  # type: ignore[attr-defined]
    out.value = state[0]  # type: ignore[attr-defined]


def picky(msg: float, out: float) -> None:
    if msg.value < 0:  # type: ignore[attr-defined]
        raise ValueError
    out.value = msg.value  # type: ignore[attr-defined]


@ring_kernel("daily_square", input_type=float, output_type=float)
def square(msg: Any, out: Any) -> None:
    out.value = msg.value**2


async def relay(ctx: Any) -> None:
    while True:
        await ctx.send(await ctx.receive())
