"""`map`: an array in, an array out, through one kernel or a connected chain.

Between compiled kernels nothing is copied: the array itself becomes the first kernel's input ring, with its end as
the last sequence, and the result array becomes the last kernel's output ring. When stage 1 has consumed everything,
its output cursor is final; so stage 2 is done when it has consumed up to there, and so on: which also holds for
kernels that drop messages.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import LendingEngine
from ringkernel.errors import ConfigurationError, KernelFailedError, KernelStateError
from ringkernel.ring.host.waiting import NOTHING
from ringkernel.runtime.graph.neighbours import dead_end, edge_between
from ringkernel.tracebacks import shorten

from .copy import Copied
from .given_array import batch_of, check_result_array
from .lease import Lease
from .lend import Lent
from .path import check_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.ring.host.kinds import Edge
    from ringkernel.runtime.kernels.kernel import RingKernel

    from .transfer import Transfer

LOOK_S = 0.05
"""How often a map that waits looks whether it ever can be through."""
GRACE_S = 0.05
"""What a cancelled map waits for the kernels, so that its exception has all that was computed."""


async def map_over(
    path: list[RingKernel],
    values: Any,
    *,
    begun: Any,
    out: Any,
    progress: bool,
    reach: Callable[[], Awaitable[None]],
    finishing: set[asyncio.Task[None]],
) -> Any:
    """Send all values through the path, or see to a map that has `begun`, if that is not `NOTHING`; all that comes
    out. See `Messaging.map`. `reach` lets devices reach memory that is new; `finishing` holds what goes on after a
    cancelled map."""
    if begun is NOTHING:
        values = batch_of(path, values)
        if out is not None:
            check_result_array(path, values, out)
    lease = await Lease.of(path)  # does not wait if it has begun
    try:
        transfer: Transfer = _transfer(path, values, lease, out) if begun is NOTHING else begun
        transfer.lease = lease
        lease.close_inputs()
    except BaseException:
        lease.release()
        raise
    if not transfer.count:
        lease.release()
        return transfer.result()
    try:
        cancelled = False
        try:
            await reach()
            await _pass_through(path, transfer, progress=progress)
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            await _end(transfer, lease, finishing, cancelled=cancelled)
    except KernelStateError as error:
        failure = _failure(path, error)
        failure.partial = transfer.result()
        raise failure from failure.__cause__
    except BaseException as error:
        _keep_partial(path, transfer, error)
        raise
    result = transfer.result()
    if out is not None and len(result) > len(out):
        raise _does_not_fit(result, out)
    return result


async def let_others_run(result: Any) -> None:
    """Let other tasks have the loop, between a map and what its caller does next."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        shorten(error, "a map was over; all its outputs are .partial of this error")
        error.partial = result  # type: ignore[attr-defined]
        raise


def _keep_partial(path: list[RingKernel], transfer: Transfer, error: Any) -> None:
    """Hand over what had come out when a map was ended early; a cancellation says how far it was."""
    taken = transfer.position()
    error.partial = result = transfer.result()
    if isinstance(error, asyncio.CancelledError):
        outputs = "" if result is None else f"; the {len(result)} outputs so far are .partial of this error"
        shorten(error, f"map over {named(path)}: {taken} of {transfer.count} messages were taken{outputs}")


def _does_not_fit(result: Any, out: Any) -> ConfigurationError:
    """Coroutine kernels have emitted more than the given array has room for."""
    error = ConfigurationError(f"out has room for {len(out)} outputs, and {len(result)} came; they are in .partial")
    error.partial = result  # type: ignore[attr-defined]
    return error


def _transfer(path: list[RingKernel], messages: Any, lease: Lease, out: Any) -> Transfer:
    """How a map is done that takes long. Raises `KernelStateError` if it cannot be done now."""
    lend = all(isinstance(kernel.engine, LendingEngine) for kernel in path)
    check_path(path, lend=lend)
    if lend and len(messages):
        return Lent.over(path, messages, lease, out)
    return Copied(path, messages, lease, out)


def _failure(path: list[RingKernel], error: KernelStateError) -> KernelStateError:
    """What a map fails with: an end of one of its kernels is a failure, whoever has asked for it. What one of them has
    failed of comes first: its neighbours may have noticed the end before."""
    if isinstance(error, KernelFailedError):
        for kernel in path:
            kernel.engine.is_told |= kernel.error is not None and kernel.error is error.__cause__
        return error
    ended = [kernel for kernel in path if kernel.engine.has_ended]
    reasons = (kernel.engine.told_reason() for kernel in ended)  # up to the first that has failed
    failed = next((reason for reason in reasons if isinstance(reason, KernelFailedError)), None)
    if failed is not None or not ended:
        return failed or error
    failure = KernelFailedError(f"kernel {ended[0].kernel_id!r} ended during a map")
    failure.__cause__ = error
    return failure


async def _end(transfer: Transfer, lease: Lease, finishing: set[asyncio.Task[None]], *, cancelled: bool) -> None:
    """Take back what was lent, and let others go on. After a cancellation that goes on by itself, if it takes long."""
    if transfer.end_at_once():
        lease.release()
        return

    async def take_back() -> None:
        try:
            await transfer.take_back()
        finally:
            lease.release()

    ending = asyncio.get_running_loop().create_task(take_back())
    finishing.add(ending)
    ending.add_done_callback(finishing.discard)
    try:
        if not cancelled:
            await asyncio.shield(ending)
    except asyncio.CancelledError:
        cancelled = True
        raise
    finally:
        if cancelled:
            await asyncio.wait([ending], timeout=GRACE_S)


async def _pass_through(path: list[RingKernel], transfer: Transfer, *, progress: bool) -> None:
    """Lend the messages, and wait until they are through."""
    from ringkernel.runtime.observing.progress import follow

    await transfer.put()
    with follow(progress, f"map {arrows(path)}", transfer.count, transfer.position):
        await _through(path, transfer.source, transfer.end)


def named(path: list[RingKernel]) -> str:
    """The kernels of a path in an error."""
    return " to ".join(repr(kernel.kernel_id) for kernel in (path if len(path) == 1 else (path[0], path[-1])))


def arrows(path: list[RingKernel]) -> str:
    """The kernels of a path beside a progress bar."""
    names = [kernel.kernel_id for kernel in path]
    return " → ".join(names if len(names) <= 3 else [names[0], "…", names[-1]])


async def _through(path: list[RingKernel], source: Edge, end: int) -> None:
    """Wait until everything below `end` has gone all the way. Raises when one of the kernels ends before that, or can
    never go on."""
    if len(path) == 1:
        await _pass(path, source, end)  # which notices the end of the kernel that it waits for: 60 us less
        return
    passing = asyncio.ensure_future(_pass(path, source, end))
    endings = [asyncio.ensure_future(kernel.engine.wait_end()) for kernel in path]
    try:
        while True:
            done, _ = await asyncio.wait([passing, *endings], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
            for reason in filter(None, map(dead_end, path)):
                raise reason
        if passing.done():
            passing.result()
            return
        ended = next(kernel for kernel in path if kernel.engine.has_ended)
        raise ended.engine.ended_error()
    finally:
        for task in (passing, *endings):
            task.cancel()
        await asyncio.gather(passing, *endings, return_exceptions=True)


async def _pass(path: list[RingKernel], source: Edge, end: int) -> None:
    edge, before = source, None
    for kernel in path:
        if before is not None:
            edge, end = edge_between(before, kernel), before.engine.output.position()  # type: ignore[union-attr]
        await kernel.engine.processed_up_to(edge, end)
        before = kernel
