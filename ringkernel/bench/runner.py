"""A run: every case in a process of its own, one after the other, and a report of what they said."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import math
import sys
import time
from collections.abc import Mapping  # noqa: TC003 (reading an answer needs the types of its fields)
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import ringkernel as rk
from ringkernel.cache import settings
from ringkernel.errors import ConfigurationError

from . import machine
from .cases import CASES
from .context import FULL, QUICK, RIVAL_CHOICES, Budget
from .extra import check_extra
from .model import CaseResult, ReportError, read
from .neighbour import BUSY, Neighbour
from .process import Child, ChildError, LateError
from .progress import Heard, shown
from .table import NotebookReport

GRACE_S = 3.0
"""How long an interrupted case may take to end by itself."""


@dataclass(frozen=True)
class Options:
    """What a run measures, and how."""

    cases: tuple[str, ...] = ()  # none: all
    budget: Budget = QUICK
    rivals: str = "default"
    device: str = "cpu"
    loop: str = ""  # "": uvloop where it is installed
    neighbour: bool = False
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
        if self.loop == "uvloop":
            check_extra("uvloop")
        loop = self.loop or ("uvloop" if importlib.util.find_spec("uvloop") else "asyncio")
        return replace(self, cases=self.cases or tuple(CASES), loop=loop)


def check_device(device: str) -> None:
    """Raises `DeviceUnavailableError` with the runtime's own reason unless kernels can be launched there.

    Cases launch on the CPU only so far: for any other device that is there `ConfigurationError` says so, since figures
    of the CPU must not be taken for the device's.
    """
    if device == "cpu":
        return
    from .first_use import half

    async def launch() -> None:
        async with rk.RingKernelRuntime() as runtime:
            await runtime.launch("probe", half, device=device)

    asyncio.run(launch())
    raise ConfigurationError(f"kernels can be launched on {device!r}, but the cases measure only the CPU so far")


def bench(
    *cases: str,
    full: bool = False,
    rivals: str = "default",
    device: str = "cpu",
    rounds: int | None = None,
    scale: float | None = None,
    loop: str = "",
    neighbour: bool = False,
) -> NotebookReport:
    """Run the benchmark as `ringkernel bench` does, and return the report, which notebooks draw.

    Args:
        cases: only these; without any, all.
        full: more and longer rounds.
        rivals: "none", "default" or "all".
        device: where the kernels run.
        rounds: counted rounds of each case, instead of what `full` says.
        scale: multiplies how much each measurement sends.
        loop: "uvloop" or "asyncio"; without it uvloop where it is installed.
        neighbour: measure beside another process that takes a core half of the time.

    Raises:
        ConfigurationError: an option out of its range, an unknown case.
        DeviceUnavailableError: the device is not there.
        MissingExtraError: what the extra `bench` brings is not installed.
    """
    return run(Options(cases, budget_of(full, rounds, scale), rivals, device, loop, neighbour))


def budget_of(full: bool, rounds: int | None, scale: float | None) -> Budget:
    """The budget of these options."""
    usual = FULL if full else QUICK
    return replace(
        usual, rounds=usual.rounds if rounds is None else rounds, scale=usual.scale if scale is None else scale
    )


def run(options: Options) -> NotebookReport:
    """Run the cases, and show how far they are. The report, whatever became of them; raises as `bench`."""
    options = options.checked()
    check_extra("hdrh")
    check_device(options.device)
    settings.limit()  # raises what every launch would
    started = time.perf_counter()
    facts, warnings = machine.describe(options.loop), machine.warnings()
    with contextlib.ExitStack() as stack:
        heard = stack.enter_context(shown(len(options.cases)))
        if options.neighbour:
            stack.enter_context(Neighbour()).be_busy(True)
            warnings.append(BUSY)
        answers = [run_case(name, options, heard) for name in options.cases]
    if noisy := sum(row.is_noisy for answer in answers for row in answer.result.rows):
        warnings.append(f"noisy: what stands beside {noisy} rows, marked ~, moved by more than 2x within the run")
    about = {name: text for answer in answers for name, text in answer.about.items()}
    missing = {name: reason for answer in answers for name, reason in answer.missing.items() if name not in about}
    return NotebookReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        options=asdict(options),
        machine=facts,
        cases=tuple(answer.result for answer in answers),
        warnings=tuple(warnings),
        rivals=about,
        missing=missing,
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class Answer:
    """What a case's process says in the end: the result, what ran beside it, and what did not."""

    result: CaseResult
    about: Mapping[str, str]
    missing: Mapping[str, str]


def run_case(name: str, options: Options, heard: Heard) -> Answer:
    """One case in its process, whatever became of it."""
    started = time.perf_counter()
    heard(name, 0, 0)
    try:
        with Child([sys.executable, "-m", "ringkernel.bench.child"], grace_s=GRACE_S) as child:
            child.tell({**asdict(options), "case": name})
            deadline = started + options.case_deadline_s
            while "total" in (said := child.answer(deadline - time.perf_counter())):
                heard(name, said["done"], said["total"])
        return read(Answer, json.dumps(said), "its answer")
    except LateError:
        error = f"did not end within {options.case_deadline_s:g} s"
    except ChildError as reason:
        error = f"its process {reason}"
    except ReportError as reason:  # a rate of nothing in no time, for one
        error = str(reason)
    failed = CaseResult(name, CASES[name].title, seconds=time.perf_counter() - started, error=error)
    return Answer(failed, {}, {})
