"""The kinds of kernel, and the kernels that tests run in each: one handler, as a coroutine, compiled, or as a grid."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import pytest
from helpers import live_state

from ringkernel import KernelContext, RingKernelRuntime, ring_kernel

if os.name != "posix":
    pytest.skip("the handlers that take their time call usleep", allow_module_level=True)

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int

Body = Callable[["Kind", "KernelContext[Any, Any]"], Awaitable[None]]


@dataclass(frozen=True)
class Kernel:
    """A handler, and what a coroutine kernel does that is the same; None: call the handler for each message."""

    handler: Callable[..., Any]
    options: dict[str, Any]
    body: Body | None

    async def run(self, kind: Kind, ctx: KernelContext[Any, Any]) -> None:
        """The coroutine kernel."""
        if self.body is not None:
            await self.body(kind, ctx)
            return
        async for value in ctx:
            msg, out = SimpleNamespace(value=value), SimpleNamespace(value=0)
            if "output_type" not in self.options:
                self.handler(msg)
            elif self.handler(msg, out) is not False:
                await ctx.send(out.value)


def kernel(body: Body | None = None, **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Declare a kernel for all kinds, by default from int to int. It is compiled once, for all tests."""
    options = {"input_type": int, "output_type": int} | options
    options = {name: value for name, value in options.items() if value is not None}

    def declare(handler: Callable[..., Any]) -> Kernel:
        return Kernel(ring_kernel(f"kinds_{handler.__name__}", **options)(handler), options, body)

    return declare


class Gate(Protocol):
    """Where a `gated` kernel stands still."""

    @property
    def entered(self) -> int:
        """How often it came here."""

    def open(self) -> None:
        """Let it pass, now and later."""

    def close(self) -> None:
        """Make it stand still again."""


class CoroutineGate:
    def __init__(self) -> None:
        self.entered = 0
        self.opened = asyncio.Event()

    def open(self) -> None:
        self.opened.set()

    def close(self) -> None:
        self.opened.clear()


class CompiledGate:
    """The state that the handler looks at while it stands still."""

    def __init__(self, runtime: RingKernelRuntime, kernel_id: str) -> None:
        self.state = live_state(runtime, kernel_id)

    @property
    def entered(self) -> int:
        return int(self.state["entered"])

    def open(self) -> None:
        self.state["open"] = 1

    def close(self) -> None:
        self.state["open"] = 0


@dataclass
class Kind:
    """How kernels run: as coroutines (of objects, or of typed records), on a CPU worker, in the event loop's thread as
    far as that goes, or as grids."""

    name: str
    gates: dict[str, CoroutineGate] = field(default_factory=dict)

    @property
    def is_compiled(self) -> bool:
        return self.name in ("cpu", "loop", "grid")

    def __call__(self, kernel: Kernel) -> Callable[..., Any]:
        """The kernel of this kind, to launch."""
        return kernel.handler if self.is_compiled else self.declare("kinds_coroutine", kernel)

    def declare(self, kernel_id: str, kernel: Kernel, **options: Any) -> Callable[..., Any]:
        """Declare the kernel under an id. What there is to launch."""
        if self.is_compiled:
            return ring_kernel(kernel_id, **{**kernel.options, **options})(kernel.handler)

        async def coroutine(ctx: KernelContext[Any, Any]) -> None:
            await kernel.run(self, ctx)

        if self.name == "typed_coroutine":
            options = {n: t for n, t in kernel.options.items() if n in ("input_type", "output_type")} | options
        return ring_kernel(kernel_id, **options)(coroutine)

    def gate(self, runtime: RingKernelRuntime, kernel_id: str) -> Gate:
        """The gate of a `gated` kernel that is ACTIVE."""
        if self.is_compiled:
            return CompiledGate(runtime, kernel_id)
        return self.gates.setdefault(kernel_id, CoroutineGate())


# --- the kernels --------------------------------------------------------------------------------------------------


async def echo(ctx: KernelContext[Any, Any]) -> None:
    """The plainest coroutine kernel: gives back any object."""
    async for message in ctx:
        await ctx.send(message)


@kernel()
def same(msg: Any, out: Any) -> None:
    out.value = msg.value


@kernel()
def add_one(msg: Any, out: Any) -> None:
    out.value = msg.value + 1


@kernel()
def drops_thirds(msg: Any, out: Any) -> bool:
    out.value = msg.value
    return bool(msg.value % 3 != 0)


@kernel()
def fails_at_13(msg: Any, out: Any) -> None:
    if msg.value == 13:
        raise ValueError("thirteen")
    out.value = msg.value


@kernel(output_type=None)
def sink(msg: Any) -> None:
    if msg.value == 13:
        raise ValueError("thirteen")


async def _slowly(_: Kind, ctx: KernelContext[Any, Any]) -> None:
    async for value in ctx:
        await asyncio.sleep(0.001)
        await ctx.send(value)


@kernel(_slowly)
def slow(msg: Any, out: Any) -> None:
    """Takes a millisecond for each message."""
    usleep(1_000)
    out.value = msg.value


async def _stands_still(kind: Kind, ctx: KernelContext[Any, Any]) -> None:
    gate = kind.gates.setdefault(ctx.kernel_id, CoroutineGate())
    async for value in ctx:
        if value < 0:
            gate.entered += 1
            await gate.opened.wait()
        await ctx.send(value)


@kernel(_stands_still, state=np.zeros((), [("open", "i8"), ("entered", "i8")]))
def gated(msg: Any, out: Any, state: Any) -> None:
    """Stands still at negative messages until the test opens its gate."""
    if msg.value < 0:
        state.entered += 1
        while state.open == 0:
            usleep(100)
    out.value = msg.value


@ring_kernel("kinds_copies", input_type=int, output_type=int, batch=True, max_outputs=3)
def copies(msgs: Any, outs: Any) -> int:
    """`value % 4` copies of each, none to three. Batches are for CPU workers."""
    n = 0
    for i in range(len(msgs)):
        for _ in range(msgs[i].value % 4):
            outs[n].value = msgs[i].value
            n += 1
    return n
