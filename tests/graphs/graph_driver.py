"""Runs a script against a real runtime, writes down what the host saw, and audits it in the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from graph_books import Audit, Link, Sending, Stage, check_counts, expected_of, instances_of, path_between
from graph_disturbances import cancel_by_signal, check_refused, fork, handling_signals, signal_all_threads
from graph_kernels import KINDS, MESSAGE, STATELESS, row_of, rows_of
from graph_script import MAPPING, Op, Script

from ringkernel import (
    BatchTimeoutError,
    KernelExistsError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
)

ALIVE = (KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED)
AT_REST = (KernelState.LAUNCHED, KernelState.DEACTIVATED)
ROUND_S = 0.15
"""After this the machine lends a hand: paused kernels run, and outputs are received."""
PATIENCE_S = 8.0
TIMEOUT_S = 0.03

Array = np.ndarray[Any, Any]


class HangError(AssertionError):
    """Something has not ended in time."""


class World:
    """A runtime, the stages that ever were in it, and which of them has which id now. `hold` puts an array where the
    test wants it."""

    def __init__(self, script: Script, hold: Callable[[Array], Array] = lambda array: array) -> None:
        self.script = script
        self.hold = hold
        self.stages: list[Stage] = []
        self.live: dict[str, Stage] = {}
        self.tags = itertools.count(1)
        self.numbers = 1
        self.kept: list[tuple[Array, bytes]] = []
        self.errors: list[dict[str, Any]] = []
        self.probed: Stage | None = None  # where a probe receives, and nobody else
        self.runtime = RingKernelRuntime(workers=1)

    async def play(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: self.errors.append(context))
        try:
            await self.runtime.__aenter__()
            await self.build()
            for ops in self.script.rounds:
                await self.concurrently(*(self.perform(op) for op in ops))
            await self.concurrently(self.come_to_rest())
            self.audit_at_rest()
            await self.concurrently(self.probe())
            await self.concurrently(self.finish())
            Audit(self.stages).run()
            for array, copy in self.kept:
                assert array.tobytes() == copy, "an array of the caller's has changed"
            assert self.errors == []
        except Exception as error:
            error.add_note(self.dump())
            raise
        finally:
            await asyncio.wait_for(self.runtime.close(), PATIENCE_S)

    def dump(self) -> str:
        lines = [f"  {stage}: {self._state_of(stage)}" for stage in self.stages]
        return "\n".join(["the kernels:", *lines])

    def _state_of(self, stage: Stage) -> str:
        kernel = stage.kernel
        if stage.counts is not None:
            return str(stage.counts)
        line = kernel.engine.outlet.line.waiters, kernel.engine.inlet.line.waiters
        return f"{kernel.error!r} waiting {tuple(map(len, line))} {self.runtime.statistics(stage.kernel_id)}"

    async def concurrently(self, *work: Any) -> None:
        """Run it side by side; help where nobody would get on otherwise; nobody may hang."""
        tasks = [asyncio.ensure_future(one) for one in work]
        _, pending = await asyncio.wait(tasks, timeout=ROUND_S)
        if pending:
            helper = asyncio.ensure_future(self.help())
            _, pending = await asyncio.wait(pending, timeout=PATIENCE_S)
            helper.cancel()
            with suppress(asyncio.CancelledError):
                await helper
        if pending:
            stacks = ["".join(map(str, task.get_stack())) + repr(task.get_coro()) for task in pending]
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=1.0)
            raise HangError(f"did not end within {PATIENCE_S} s: {stacks}")
        for task in tasks:
            task.result()

    # --- the graph -----------------------------------------------------------------------------------------------

    def name(self, index: int) -> str:
        return f"g{index}"

    async def build(self) -> None:
        for index in range(len(self.script.nodes)):
            await self.launch(index)
        for source, target in self.script.edges:
            self.connect(source, target)
        for index in range(len(self.script.nodes)):
            await self.runtime.activate(self.name(index))

    async def launch(self, index: int) -> None:
        node, kernel_id = self.script.nodes[index], self.name(index)
        tag = STATELESS if node.kind == "plain" else next(self.tags)
        kind = KINDS[node.kind]
        function = kind.declare(kernel_id, tag)
        kernel = await self.runtime.launch(kernel_id, function, queue_size=max(node.queue, kind.max_outputs))
        stage = Stage(kernel_id, node.kind, tag, kernel)
        self.stages.append(stage)
        self.live[kernel_id] = stage

    def connect(self, source_index: int, target_index: int) -> None:
        source, target = self.stage(source_index), self.stage(target_index)
        late = source is not None and bool(source.kernel.engine.emitted())
        first = source is not None and bool(source.kernel.engine.inlet.edges)
        self.runtime.connect(self.name(source_index), self.name(target_index))
        assert source is not None
        assert target is not None
        source.links.append(Link(source, target, lossy=late and not first))

    def stage(self, index: int) -> Stage | None:
        return self.live.get(self.name(index))

    def settle_accounts(self, stage: Stage) -> None:
        """Take everything out of a kernel that has ended."""
        stage.received.extend(self.outputs_of(stage))
        stage.unprocessed = rows_of(self.runtime.unprocessed(stage.kernel_id))
        stage.counts = self.runtime.statistics(stage.kernel_id)
        check_counts(stage.counts, stage.kind)

    def outputs_of(self, stage: Stage) -> list[tuple[int, int, int, int, int]]:
        rows: list[tuple[int, int, int, int, int]] = []
        with suppress(QueueEmptyError, KernelStateError):
            while True:
                rows.append(row_of(self.runtime.receive_nowait(stage.kernel_id)))
        return rows

    async def help(self) -> None:
        while True:
            for stage in list(self.live.values()):
                await self.wake(stage)
                if stage is not self.probed:
                    stage.received.extend(self.outputs_of(stage))
            await asyncio.sleep(0.001)

    async def wake(self, stage: Stage) -> None:
        state = stage.kernel.state
        if state in AT_REST:
            with suppress(KernelStateError):
                await (self.runtime.activate if state is AT_REST[0] else self.runtime.reactivate)(stage.kernel_id)

    # --- operations ----------------------------------------------------------------------------------------------

    async def perform(self, op: Op) -> None:
        await moment(op.after)
        if op.name == "map_at_rest":
            await self.come_to_rest()
        task = asyncio.ensure_future(self.do(op))
        if op.by_signal:
            await cancel_by_signal(task, op.cancel or 0)
        elif op.cancel is not None:
            await moment(op.cancel)
            task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            assert op.cancel is not None, f"{op} was cancelled, by nobody"
            return
        error = task.exception()
        if isinstance(error, AssertionError):
            raise error
        if error is not None and not self.permits(op, error):
            raise AssertionError(f"{op} raised what it must not") from error

    async def do(self, op: Op) -> None:
        await getattr(self, f"do_{op.name}")(op)

    def permits(self, op: Op, error: BaseException) -> bool:
        """Whether an operation may raise this. Errors that the state explains are checked against the state."""
        if isinstance(error, TimeoutError):
            return op.name in ("send", "send_batch", "receive", "receive_batch")
        if isinstance(error, QueueFullError | QueueEmptyError):
            return op.name in ("send_nowait", "receive_nowait")
        if isinstance(error, KernelFailedError):
            return any(stage.kernel.error is not None or stage.kernel.engine.has_ended for stage in self.stages)
        if isinstance(error, KernelExistsError):
            return op.name == "relaunch"
        if isinstance(error, KernelStateError) and op.name in MAPPING:
            return "did not answer" not in str(error)
        if isinstance(error, KernelStateError) and op.name.startswith("send"):
            return any(s.kernel.state not in ALIVE or s.kernel.engine.closing is not None for s in self.stages)
        return isinstance(error, KernelStateError)

    def messages(self, op: Op) -> tuple[range, Array]:
        """Fresh ones."""
        numbers = range(self.numbers, self.numbers + op.count)
        self.numbers += op.count
        array = np.zeros(op.count, MESSAGE)
        array["id"] = numbers
        if op.poison is not None:
            aimed = self.stage(op.to)
            array["poison"][op.poison] = 0 if aimed is None else aimed.tag
        array["spin_us"][op.slow] = op.spin_us
        array = self.hold(array)
        self.kept.append((array, array.tobytes()))
        return numbers, array

    def sending(self, op: Op) -> tuple[Sending, Array]:
        """A note that these messages may have been sent, until it is known."""
        numbers, array = self.messages(op)
        sending = Sending(numbers, 0, len(numbers))
        stage = self.stage(op.at)
        if stage is not None:
            stage.sendings.append(sending)
        return sending, array

    async def do_send(self, op: Op) -> None:
        sending, array = self.sending(op)
        sending.most = 1
        try:
            await self.runtime.send(self.name(op.at), tuple(array[0].tolist()), timeout=TIMEOUT_S)
        except Exception:
            sending.most = 0
            raise
        sending.least = 1

    async def do_send_nowait(self, op: Op) -> None:
        sending, array = self.sending(op)
        try:
            self.runtime.send_nowait(self.name(op.at), tuple(array[0].tolist()))
        except Exception:
            sending.most = 0
            raise
        sending.least = 1

    async def do_send_batch(self, op: Op) -> None:
        sending, array = self.sending(op)
        stage = self.stage(op.at)
        batch: Any = array if stage is None or stage.kind.typed else rows_of(array)
        try:
            await self.runtime.send_batch(self.name(op.at), batch, timeout=TIMEOUT_S)
        except BatchTimeoutError as error:
            sending.least = sending.most = error.sent
            raise
        sending.least = op.count

    async def do_receive(self, op: Op) -> None:
        stage = self.stage(op.at)
        message = await self.runtime.receive(self.name(op.at), timeout=TIMEOUT_S)
        assert stage is not None
        stage.received.append(row_of(message))

    async def do_receive_nowait(self, op: Op) -> None:
        message = self.runtime.receive_nowait(self.name(op.at))
        self.live[self.name(op.at)].received.append(row_of(message))

    async def do_receive_batch(self, op: Op) -> None:
        stage = self.stage(op.at)
        messages = await self.runtime.receive_batch(self.name(op.at), op.count, timeout=TIMEOUT_S)
        assert stage is not None
        stage.received.extend(rows_of(messages))

    async def do_map_at_rest(self, op: Op) -> None:
        await self.do_map(op)

    async def do_map(self, op: Op) -> None:
        first, last = self.stage(op.at), self.stage(op.to)
        path = None if first is None or last is None else path_between(list(self.live.values()), first, last)
        sending, array = self.sending(op)
        batch: Any = array if first is None or first.kind.typed else rows_of(array)
        given = (self.name(op.at), self.name(op.to)) if op.at != op.to else self.name(op.at)
        try:
            result = await self.runtime.map(given, batch)
        except BaseException as error:
            partial = getattr(error, "partial", None)
            if partial is not None:
                self.keep(partial)
                assert path is not None
                rows = rows_of(partial)
                path[-1].mapped.extend(rows)
                expected = expected_of(path, sending.numbers)
                assert instances_of(rows) == expected[: len(rows)], f"{op}: foreign, or out of order: {rows}"
            raise
        self.keep(result)
        sending.least = op.count
        assert path is not None
        rows = rows_of(result)
        path[-1].mapped.extend(rows)
        assert instances_of(rows) == expected_of(path, sending.numbers), f"{op}: missing, or foreign: {rows}"

    async def do_replay(self, op: Op) -> None:
        """To the end of one of its kernels, and so of all that feed it."""
        first, last = self.stage(op.at), self.stage(op.to)
        sending, array = self.sending(op)
        inputs: dict[str, Any] = {} if last is None else {source: [] for source in self.open_inputs(last)}
        inputs[self.name(op.at)] = array if first is None or first.kind.typed else rows_of(array)
        try:
            result = await self.runtime.replay(inputs, until=self.name(op.to))
        except BaseException as error:
            sent = getattr(error, "sent", {}).get(self.name(op.at), 0)
            sending.least = sending.most = sent
            self.note_replayed(last, getattr(error, "partial", None))
            raise
        sending.least = op.count
        self.note_replayed(last, result)

    def open_inputs(self, last: Stage) -> list[str]:
        """The kernels that feed one, it among them, and have an input that nothing but a replay ends."""
        ids = [kernel.kernel_id for kernel in last.kernel.upstream()]
        fed = {stage.kernel_id: stage for stage in self.live.values() if stage.kernel_id in ids}
        return [one for one, stage in fed.items() if not stage.kernel.sources and stage.kernel.state in ALIVE]

    def note_replayed(self, last: Stage | None, result: Any) -> None:
        """Others may have received by now what came after these."""
        if result is None or last is None:
            return
        self.keep(result)
        rows = rows_of(result)
        assert last.tag == STATELESS or rows == sorted(rows, key=lambda row: row[2]), f"{last}: out of order"
        last.mapped.extend(rows)

    async def do_signals(self, op: Op) -> None:
        for _ in range(op.count):
            signal_all_threads()
            await moment(op.to * 20)

    async def do_fork(self, _: Op) -> None:
        await fork(lambda: check_refused(self.runtime, list(self.live)))

    def keep(self, result: Any) -> None:
        if isinstance(result, np.ndarray):
            self.kept.append((result, result.tobytes()))

    async def do_activate(self, op: Op) -> None:
        await self.runtime.activate(self.name(op.at))

    async def do_deactivate(self, op: Op) -> None:
        await self.runtime.deactivate(self.name(op.at))

    async def do_reactivate(self, op: Op) -> None:
        await self.runtime.reactivate(self.name(op.at))

    async def do_terminate(self, op: Op) -> None:
        await self.runtime.terminate(self.name(op.at), timeout=op.count / 1000)

    async def do_bounce(self, op: Op) -> None:
        """Pause, and go on after a while."""
        await self.runtime.deactivate(self.name(op.at))
        await moment(op.count * 50)
        await self.runtime.reactivate(self.name(op.at))

    async def do_connect(self, op: Op) -> None:
        """Pause both, connect them, and go on: from the lower to the higher, so that there are no circles."""
        low, high = sorted((op.at, op.to))
        if low == high:
            return
        ends = [stage for stage in (self.stage(low), self.stage(high)) if stage is not None]
        for stage in ends:
            if stage.kernel.state is KernelState.ACTIVE:
                await self.runtime.deactivate(stage.kernel_id)
        self.connect(low, high)
        for stage in ends:
            await self.wake(stage)

    async def do_remove(self, op: Op) -> None:
        stage = self.stage(op.at)
        if stage is not None and stage.kernel.state is KernelState.TERMINATED:
            while stage.kernel.engine.inlet.line.holder:  # a map or a replay that is about to end
                await asyncio.sleep(0.001)
            self.settle_accounts(stage)
            self._mind_its_end(stage)
        self.runtime.remove(self.name(op.at))
        del self.live[self.name(op.at)]

    def _mind_its_end(self, stage: Stage) -> None:
        """What is emitted for a kernel that is gone is seen by nobody."""
        for other in self.stages:
            for link in other.links:
                if link.target is stage and not other.kernel.engine.has_ended:
                    link.lossy = True

    async def do_relaunch(self, op: Op) -> None:
        stage = self.stage(op.at)
        if stage is not None:
            if stage.kernel.state in ALIVE:
                await self.do_terminate(op)
            await self.do_remove(op)
        await self.launch(op.at)
        for source, target in self.script.edges:
            ends = self.stage(source), self.stage(target)
            if op.at in (source, target) and all(end and end.kernel.state in AT_REST for end in ends):
                with suppress(KernelStateError):
                    self.connect(source, target)
        await self.runtime.activate(self.name(op.at))

    # --- the end -------------------------------------------------------------------------------------------------

    async def come_to_rest(self) -> None:
        """Let everything run until nobody can get on."""
        while True:
            before = self.progress()
            for stage in list(self.live.values()):
                await self.wake(stage)
                stage.received.extend(self.outputs_of(stage))
            await asyncio.sleep(0.002)
            if all(self.is_at_rest(stage) for stage in self.live.values()) and self.progress() == before:
                return

    def progress(self) -> list[int]:
        return [stage.kernel.engine.emitted() + stage.kernel.engine.received() for stage in self.live.values()]

    def is_at_rest(self, stage: Stage) -> bool:
        """Whether it has ended, has nothing to do, or waits for room that never comes."""
        counts = self.runtime.statistics(stage.kernel_id)
        if stage.kernel.state is KernelState.TERMINATED:
            return True
        if stage.kernel.state is not KernelState.ACTIVE:
            return False
        busy = counts.in_flight or counts.unprocessed or (counts.output_depth and not stage.kernel.targets)
        return not busy or self.is_stuck(stage)

    def is_stuck(self, stage: Stage) -> bool:
        """Whether nobody takes what it emits: its readers have ended, or are stuck."""
        if stage.kernel.engine.inlet.edges or not stage.links:
            return False
        targets = [link.target for link in stage.links]
        ended = [target.kernel.engine.has_ended for target in targets]
        return all(ended) or any(self.is_stuck(target) for target, over in zip(targets, ended, strict=True) if not over)

    def audit_at_rest(self) -> None:
        for stage in self.live.values():
            check_counts(self.runtime.statistics(stage.kernel_id), stage.kind)

    async def probe(self) -> None:
        """Whatever has happened, what is ACTIVE works: a map, and messages one by one."""
        for last in list(self.live.values()):
            await self.come_to_rest()  # what went to others than the last one probed
            path = self.clear_path(last)
            if path is None:
                continue
            first, index = path[0], int(path[0].kernel_id[1:])
            self.probed = last
            numbers, array = self.messages(Op("probe", index, count=7))
            first.sendings.append(Sending(numbers, 7, 7))
            batch: Any = array if first.kind.typed else rows_of(array)
            rows = rows_of(await self.runtime.map((first.kernel_id, last.kernel_id), batch))
            last.mapped.extend(rows)
            assert instances_of(rows) == expected_of(path, numbers), f"a map after all: {rows}"
            await self.come_to_rest()
            numbers, array = self.messages(Op("probe", index, count=5))
            first.sendings.append(Sending(numbers, 5, 5))
            expected = expected_of(path, numbers)
            sending = asyncio.ensure_future(self.send_all(first, array.tolist()))
            rows = []
            for _ in expected:
                rows.append(row_of(await self.runtime.receive(last.kernel_id, timeout=PATIENCE_S / 2)))
                last.received.append(rows[-1])
            await sending
            assert instances_of(rows) == expected, f"messages after all: {rows}"

    async def send_all(self, stage: Stage, rows: list[Any]) -> None:
        for row in rows:
            await self.runtime.send(stage.kernel_id, row, timeout=PATIENCE_S / 2)

    def clear_path(self, last: Stage) -> list[Stage] | None:
        """The longest path to this kernel that a map may take, if it is where the host receives."""
        kernel = last.kernel
        if not kernel.engine.inlet.edges:
            return None
        kernels = [kernel]
        while len(kernels[0].sources) == 1:
            kernels.insert(0, kernels[0].sources[0])
        if kernels[0].sources or any(k.state is not KernelState.ACTIVE for k in kernels):
            return None
        path = [stage for k in kernels for stage in self.live.values() if stage.kernel is k]
        reached = [link.target for stage in path for link in stage.links if not link.target.kernel.engine.has_ended]
        if len(path) < len(kernels) or any(
            stage.kernel.targets and self.is_stuck(stage) for stage in [*path, *reached]
        ):
            return None
        return path

    async def finish(self) -> None:
        await self.come_to_rest()
        self.audit_at_rest()
        for link in (link for stage in self.stages if len(stage.links) > 1 for link in stage.links):
            link.lossy |= link.target.kernel.engine.has_ended  # the source went on without it
        for stage in list(self.live.values()):
            if stage.kernel.state is not KernelState.TERMINATED:
                await self.runtime.terminate(stage.kernel_id, timeout=PATIENCE_S / 2)
        for stage in list(self.live.values()):
            self.settle_accounts(stage)


async def moment(when: int) -> None:
    """Microseconds, or, below zero, turns of the event loop."""
    if when > 0:
        await asyncio.sleep(when / 1e6)
    for _ in range(-when):
        await asyncio.sleep(0)


def play(script: Script, hold: Callable[[Array], Array] = lambda array: array) -> None:
    """Run a script; raises `AssertionError` where a promise is not kept."""
    with handling_signals():
        asyncio.run(World(script, hold).play())
