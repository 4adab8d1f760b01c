"""No memory for what a call needs: it raises, its kernels go on, and no message is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fault_kernels import echo
from helpers import activate, check_books, connect_chain, drain, eventually, start, within

import ringkernel
from ringkernel import DeviceUnavailableError, RingKernelRuntime
from ringkernel.memory.arenas import Arena, ResultPool

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = str(Path(ringkernel.__file__).parent)
VALUES = np.arange(2000)


class Scarce:
    """Lets the nth allocation of this package fail, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.failed = False
        for owner, name in [(Arena, "allocate"), (ResultPool, "allocate")] + [
            (np, name) for name in ("empty", "zeros", "array", "asarray", "concatenate")
        ]:
            monkeypatch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, allocate: Callable[..., Any]) -> Callable[..., Any]:
        def scarce(*arguments: Any, **options: Any) -> Any:
            if self.left >= 0 and sys._getframe(1).f_code.co_filename.startswith(PACKAGE):
                self.left -= 1
                if self.left < 0:
                    self.failed = True
                    raise MemoryError
            return allocate(*arguments, **options)

        return scarce


async def send(runtime: RingKernelRuntime) -> None:
    await runtime.send_batch("a", VALUES.tolist())


async def receive(runtime: RingKernelRuntime) -> None:
    await runtime.send_batch("a", VALUES)
    await eventually(lambda: runtime.statistics("b").output_depth == len(VALUES))
    await runtime.receive_batch("b")


async def peek(runtime: RingKernelRuntime) -> None:
    await runtime.send_batch("a", VALUES[:5])
    async with runtime.peek("b"):
        pass


async def over(runtime: RingKernelRuntime) -> None:
    assert len(await runtime.map(("a", "b"), VALUES.tolist())) == len(VALUES)


def is_empty(runtime: RingKernelRuntime) -> bool:
    drain(runtime, "b")
    return not any(counts.unprocessed or counts.output_depth for counts in map(runtime.statistics, "ab"))


@pytest.mark.parametrize("call", [send, receive, peek, over])
async def test_a_call_without_memory_leaves_its_kernels_at_work(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, call: Callable[[RingKernelRuntime], Any]
) -> None:
    await connect_chain(runtime, a=echo, b=echo)
    await activate(runtime, "a", "b")
    with monkeypatch.context() as patch:
        scarce, n = Scarce(patch), 0
        while True:
            scarce.left, scarce.failed = n, False
            try:
                await within(call(runtime))
            except MemoryError:
                assert scarce.failed
            scarce.left = -1
            if not scarce.failed:
                break
            n += 1
            await eventually(lambda: is_empty(runtime))
            assert [check_books(runtime, kernel_id).failed for kernel_id in "ab"] == [0, 0]
            await within(over(runtime))
    assert n > 0


async def test_what_there_is_no_memory_to_keep_is_lost_by_name_and_holds_up_nobody(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kernel has not taken is copied when it ends."""
    await start(runtime, "a", echo)
    await runtime.launch("b", echo)
    await runtime.deactivate("a")
    runtime.connect("a", "b")
    await runtime.reactivate("a")
    await runtime.send_batch("b", [1, 2, 3])
    with monkeypatch.context() as patch:
        Scarce(patch).left = 0
        await within(runtime.terminate("b"))
    with pytest.raises(DeviceUnavailableError, match="3 message.s. that kernel 'b' had not taken cannot be read"):
        runtime.unprocessed("b")
    runtime.remove("b")
    await within(runtime.send_batch("a", VALUES))
