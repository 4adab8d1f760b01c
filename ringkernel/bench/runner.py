"""A run: every case in a process of its own, one after the other, and a report of what they said."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from ringkernel.cache import settings
from ringkernel.errors import ConfigurationError, RingKernelError

from . import machine
from .cases import CASES
from .context import QUICK, RIVAL_CHOICES, Budget
from .model import CaseResult, Report, case_from_json
from .reading import UnreadableError

_GRACE_S = 3.0
"""How long an interrupted case may take to end by itself."""
Heard = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Options:
    """What a run measures, and how."""

    cases: tuple[str, ...] = ()  # none: all
    budget: Budget = QUICK
    rivals: str = "default"
    device: str = "cpu"
    loop: str = ""  # "": uvloop where it is installed
    case_deadline_s: float = 300.0

    def checked(self) -> Options:
        """With every default filled in. Raises `ConfigurationError` for what cannot be."""
        unknown = [name for name in self.cases if name not in CASES]
        if unknown:
            raise ConfigurationError(f"there is no case {unknown[0]!r}; the cases are {', '.join(CASES)}")
        if self.rivals not in RIVAL_CHOICES:
            raise ConfigurationError(f"rivals is {self.rivals!r}; it must be one of {', '.join(RIVAL_CHOICES)}")
        if self.budget.rounds < 1 or not 0 < self.budget.scale < math.inf:
            raise ConfigurationError(f"a run needs 1 round or more and a finite scale above 0, got {self.budget}")
        loop = self.loop or ("uvloop" if importlib.util.find_spec("uvloop") else "asyncio")
        return replace(self, cases=self.cases or tuple(CASES), loop=loop)


class MissingExtraError(RingKernelError):
    """Something of the extra `bench` is not installed."""


def check_extra(modules: Iterable[str] = ("hdrh",)) -> None:
    """Raises `MissingExtraError`, which says what to install, unless all of these can be imported."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"the benchmark needs {name}: pip install 'numba-ringkernel[bench]'")


def check_device(device: str) -> None:
    """Raises `DeviceUnavailableError` with the runtime's own reason unless kernels can be launched there.

    Cases launch on the CPU only so far: for any other device that is there `ConfigurationError` says so, since figures
    of the CPU must not be taken for the device's.
    """
    import asyncio

    from ringkernel import RingKernelRuntime, ring_kernel

    if device == "cpu":
        return

    def probe(msg: Any, out: Any) -> None:
        out.value = msg.value

    async def launch() -> None:
        async with RingKernelRuntime() as runtime:
            await runtime.launch(
                "probe", ring_kernel("probe", input_type=float, output_type=float)(probe), device=device
            )

    with asyncio.Runner() as runner:
        runner.run(launch())
    raise ConfigurationError(f"kernels can be launched on {device!r}, but the cases measure only the CPU so far")


def bench(
    *cases: str,
    full: bool = False,
    rivals: str = "default",
    device: str = "cpu",
    rounds: int | None = None,
    scale: float | None = None,
) -> Report:
    """Run the benchmark as `ringkernel bench` does, and return the report, which draws itself in notebooks.

    Args:
        cases: only these; without any, all.
        full: more and longer rounds.
        rivals: "none", "default" or "all".
        device: where the kernels run.
        rounds: counted rounds of each case, instead of what `full` says.
        scale: multiplies how much each measurement sends.

    Raises:
        ConfigurationError: an option out of its range, an unknown case.
        DeviceUnavailableError: the device is not there.
        MissingExtraError: what the extra `bench` brings is not installed.
    """
    from .progress import shown

    options = Options(cases=cases, budget=budget_of(full, rounds, scale), rivals=rivals, device=device)
    with shown() as heard:
        return run(options, heard)


def budget_of(full: bool, rounds: int | None, scale: float | None) -> Budget:
    """The budget of these options."""
    from .context import FULL

    budget = FULL if full else QUICK
    return replace(
        budget,
        rounds=budget.rounds if rounds is None else rounds,
        scale=budget.scale if scale is None else scale,
    )


def run(options: Options, heard: Heard = lambda _case, _done, _total: None) -> Report:
    """Run the cases; `heard` is told (case, steps done, steps in all). The report, whatever became of them."""
    options = options.checked()
    check_extra()
    check_device(options.device)
    settings.limit()  # raises what every launch would
    started, about, missing, results = time.perf_counter(), {}, {}, []
    facts, warnings = machine.describe(options.loop), machine.warnings()
    for name in options.cases:
        heard(name, 0, 0)
        result, its_about, its_missing = run_case(name, options, heard)
        results.append(result)
        about.update(its_about)
        missing.update(its_missing)
    noisy = sum(row.is_noisy for result in results for row in result.rows)
    if noisy:
        warnings.append(f"noisy: what stands beside {noisy} rows, marked ~, moved by more than 2x within the run")
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        options=asdict(options),
        machine=facts,
        cases=tuple(results),
        warnings=tuple(warnings),
        rivals=about,
        missing={name: reason for name, reason in missing.items() if name not in about},
        seconds=time.perf_counter() - started,
    )


def run_case(name: str, options: Options, heard: Heard) -> tuple[CaseResult, dict[str, str], dict[str, str]]:
    """One case in its process. What it said, what ran beside it, and what did not."""
    request = {
        "case": name,
        "budget": asdict(options.budget),
        "rivals": options.rivals,
        "device": options.device,
        "loop": options.loop,
    }
    command = [sys.executable, "-m", "ringkernel.bench.child", json.dumps(request)]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as complaints, _Group(command, complaints, options.case_deadline_s) as child:
        answer = _listen(child.lines(), lambda done, total: heard(name, done, total))
        status = child.wait()
        if answer is None:
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            late = f"did not end within {options.case_deadline_s:g} s"
            error = late if child.is_late else f"its process ended with status {status}: {last[0]}"
            failed = CaseResult(name, CASES[name].title, seconds=time.perf_counter() - started, error=error)
            return failed, {}, {}
    try:
        return case_from_json(answer["result"]), answer["about"], answer["missing"]
    except UnreadableError as error:  # a rate of nothing in no time, for one
        return CaseResult(name, CASES[name].title, seconds=time.perf_counter() - started, error=str(error)), {}, {}


def _listen(lines: Iterable[str], heard: Callable[[int, int], None]) -> dict[str, Any] | None:
    """Follow what a child says. Its last word, or None if it had none."""
    answer = None
    for line in lines:
        with suppress(json.JSONDecodeError):  # a handler that prints is no protocol error
            message = json.loads(line)
            if isinstance(message, dict) and "total" in message:
                heard(message["done"], message["total"])
            elif isinstance(message, dict) and "result" in message:
                answer = message
    return answer


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A Ctrl-C meanwhile is raised at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class _Group:
    """A process in a session of its own, so that it ends together with everything that it started."""

    def __init__(self, command: Sequence[str], complaints: Any, deadline_s: float) -> None:
        self._command = command
        self._complaints = complaints
        self._deadline_s = deadline_s
        self.is_late = False

    def __enter__(self) -> Self:
        try:
            with _interrupts_held():  # one that came in the middle would leave the process behind
                self._start()
        except KeyboardInterrupt:
            self._kill()
            raise
        return self

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter)
            self._command,
            stdin=subprocess.PIPE,  # its end tells the child that nobody listens any more
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            start_new_session=True,
        )
        self._timer = threading.Timer(self._deadline_s, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        self._timer.cancel()
        try:
            if kind is KeyboardInterrupt and self._process.poll() is None:
                self._signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE_S)
        finally:
            self._kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _give_up(self) -> None:
        self.is_late = True
        self._kill()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, number)
            else:
                self._process.kill()

    def _kill(self) -> None:
        """End whatever is left of the group, also when its leader has already ended."""
        self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait()

    def lines(self) -> Iterable[str]:
        """What it prints, line by line, until it ends."""
        assert self._process.stdout is not None
        yield from self._process.stdout

    def wait(self) -> int:
        """Its exit status."""
        return self._process.wait()
