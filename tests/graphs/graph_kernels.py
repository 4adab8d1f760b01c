"""The kernels of the graph machine, and what each makes of a message: once as a handler, once as a plain function.

A message carries its number and a trail of the kernels that it has passed, 7 bits each. A copy adds 64 to the tag.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringkernel import ring_kernel

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int

MESSAGE = np.dtype([("id", "i8"), ("trail", "i8"), ("nth", "i8"), ("poison", "i8"), ("spin_us", "i8")])
"""`nth` counts the outputs of the last kernel, where it has a state; `poison` is the tag of the kernel that fails on
it, `spin_us` about what each kernel spends on it."""
STATE = np.dtype([("tag", "i8"), ("count", "i8")])
STATELESS = 63
"""The tag of every kernel that has no state to keep its own in."""


def spend(us: int) -> float:
    if us >= 5_000:  # long enough to leave the core to others
        usleep(us)
        return 0.0
    x = 1.0
    for i in range(us * 100):
        x = x * 0.999 + i % 3
    return x


def plain(msg: Any, out: Any) -> None:
    if msg.poison == 63 or spend(msg.spin_us) < 0.0:
        raise ValueError("poison")
    out.id, out.poison, out.spin_us = msg.id, msg.poison, msg.spin_us
    out.trail = msg.trail * 128 + 63
    out.nth = -1


def counter(msg: Any, out: Any, state: Any) -> None:
    if msg.poison == state.tag or spend(msg.spin_us) < 0.0:
        raise ValueError("poison")
    out.id, out.poison, out.spin_us = msg.id, msg.poison, msg.spin_us
    out.trail = msg.trail * 128 + state.tag
    out.nth = state.count
    state.count += 1


def sieve(msg: Any, out: Any, state: Any) -> bool:
    if msg.poison == state.tag or spend(msg.spin_us) < 0.0:
        raise ValueError("poison")
    if msg.id % 3 == 0:
        return False
    out.id, out.poison, out.spin_us = msg.id, msg.poison, msg.spin_us
    out.trail = msg.trail * 128 + state.tag
    out.nth = state.count
    state.count += 1
    return True


def batch(msgs: Any, outs: Any, state: Any) -> None:
    for i in range(len(msgs)):
        if msgs[i].poison == state.tag or spend(msgs[i].spin_us) < 0.0:
            raise ValueError("poison")
        outs[i].id, outs[i].poison, outs[i].spin_us = msgs[i].id, msgs[i].poison, msgs[i].spin_us
        outs[i].trail = msgs[i].trail * 128 + state.tag
        outs[i].nth = state.count + i
    state.count += len(msgs)


def copier(msgs: Any, outs: Any, state: Any) -> int:
    """`id % 3` copies of each."""
    n = 0
    for i in range(len(msgs)):
        if msgs[i].poison == state.tag or spend(msgs[i].spin_us) < 0.0:
            raise ValueError("poison")
        for copy in range(msgs[i].id % 3):
            outs[n].id, outs[n].poison, outs[n].spin_us = msgs[i].id, msgs[i].poison, msgs[i].spin_us
            outs[n].trail = msgs[i].trail * 128 + state.tag + 64 * copy
            outs[n].nth = state.count + n
            n += 1
    state.count += n
    return n


def coroutine(tag: int, *, lazy: bool) -> Callable[[Any], Any]:
    async def body(ctx: Any) -> None:
        count = 0
        async for message in ctx:
            number, trail, _, poison, spin_us = row_of(message)
            if poison == tag:
                raise ValueError("poison")
            if lazy:
                await asyncio.sleep(min(spin_us, 20_000) / 1e6)
            await ctx.send((number, trail * 128 + tag, count, poison, spin_us))
            count += 1

    return body


@dataclass(frozen=True)
class Kind:
    """`copies`: how many outputs a message has, by its number."""

    handler: Callable[..., Any] | None = None
    batch: bool = False
    max_outputs: int = 1
    typed: bool = True
    lazy: bool = False
    copies: Callable[[int], int] = lambda _: 1

    def declare(self, kernel_id: str, tag: int) -> Callable[..., Any]:
        """A function to launch, with this tag."""
        types: dict[str, Any] = {"input_type": MESSAGE, "output_type": MESSAGE} if self.typed else {}
        if self.handler is None:
            return ring_kernel(kernel_id, **types)(coroutine(tag, lazy=self.lazy))
        state = None if self.handler is plain else np.array((tag, 0), STATE)
        options: dict[str, Any] = {"state": state, "batch": self.batch, "max_outputs": self.max_outputs}
        return ring_kernel(kernel_id, **types, **options)(self.handler)

    def outputs(self, number: int, trail: int, tag: int) -> list[int]:
        """The trails of what the kernel with this tag makes of a message."""
        return [trail * 128 + tag + 64 * copy for copy in range(self.copies(number))]


KINDS = {
    "plain": Kind(plain),
    "counter": Kind(counter),
    "sieve": Kind(sieve, copies=lambda number: int(number % 3 != 0)),
    "batch": Kind(batch, batch=True),
    "copier": Kind(copier, batch=True, max_outputs=2, copies=lambda number: number % 3),
    "coroutine": Kind(),
    "lazy": Kind(lazy=True),
    "objects": Kind(typed=False),
}


def row_of(message: Any) -> tuple[int, int, int, int, int]:
    """A message as a tuple, however it came."""
    return message if isinstance(message, tuple) else message.tolist()


def rows_of(messages: Any) -> list[tuple[int, int, int, int, int]]:
    """Many, as an array or a list."""
    return messages.tolist() if isinstance(messages, np.ndarray) else [row_of(message) for message in messages]
