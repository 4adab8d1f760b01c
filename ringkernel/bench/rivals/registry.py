"""Which rivals there are, what sets each apart, and which can run here."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROBE_DEADLINE_S = 20
MESSAGES = ("round_trip", "flood", "send")


class Unavailable(Exception):  # noqa: N818 - it says what is the case, not what went wrong
    """A rival cannot run here."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """What is missing and how to get it, or how it died."""


@dataclass(frozen=True)
class RivalSpec:
    """One rival."""

    name: str
    module: str
    """Run as `python -m`; by its path where the interpreter is another one."""
    needs: tuple[str, ...]
    """Modules that must be importable."""
    jobs: tuple[str, ...]
    kind: str
    """"actor", "queue", "process queue", "socket" or "flow graph"."""
    by_default: bool
    """False: only when it is asked for."""
    note: str
    """What differs from ringkernel; empty if like for like."""
    is_alike: bool
    """Like for like."""
    install: str = 'pip install "numba-ringkernel[bench]"'
    """What to do when something in `needs` is missing."""
    system_python: str = ""
    """The interpreter whose packages it needs; empty for ours."""

    def command(self) -> list[str]:
        """What starts its process.

        Raises:
            Unavailable: When something that it needs is missing.
        """
        if missing := [name for name in self.needs if not self._is_importable(name)]:
            raise Unavailable(f"{self.name} needs {' and '.join(missing)}: {self.install}")
        if self.system_python:
            return [self.system_python, str(Path(__file__).with_name(self.module.rpartition(".")[2] + ".py"))]
        # without warnings, so that what it dies of is the last line that it writes
        return [sys.executable, "-W", "ignore", "-m", self.module]

    def _is_importable(self, module: str) -> bool:
        if not self.system_python:
            return importlib.util.find_spec(module) is not None
        try:
            done = subprocess.run(  # noqa: S603 - an interpreter of the distribution, a module's name from below
                [self.system_python, "-c", f"import {module}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PROBE_DEADLINE_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


_PACKAGE = __package__

_SPECS = (
    RivalSpec(
        name="PyDotCompute",
        module=f"{_PACKAGE}.pydotcompute_actors",
        needs=("pydotcompute", "uvloop"),
        jobs=MESSAGES,
        kind="actor",
        by_default=True,
        note="",
        is_alike=True,
    ),
    RivalSpec(
        name="asyncio.Queue",
        module=f"{_PACKAGE}.asyncio_queue",
        needs=(),
        jobs=MESSAGES,
        kind="queue",
        by_default=True,
        note="bare queues: no lifecycle, no statistics",
        is_alike=False,
    ),
    RivalSpec(
        name="queue.SimpleQueue",
        module=f"{_PACKAGE}.simple_queue",
        needs=(),
        jobs=MESSAGES,
        kind="queue",
        by_default=True,
        note="bare queues without bound; another thread, which shares the GIL; blocks its caller, no event loop",
        is_alike=False,
    ),
    RivalSpec(
        name="multiprocessing.Queue",
        module=f"{_PACKAGE}.multiprocessing_queue",
        needs=(),
        jobs=MESSAGES,
        kind="process queue",
        by_default=True,
        note="another process, messages pickled; a send only hands over to a feeder thread; no event loop",
        is_alike=False,
    ),
    RivalSpec(
        name="faster-fifo",
        module=f"{_PACKAGE}.faster_fifo_queues",
        needs=("faster_fifo",),
        jobs=MESSAGES,
        kind="process queue",
        by_default=True,
        note="another process, messages packed into 16 bytes; blocks its caller, no event loop",
        is_alike=False,
    ),
    RivalSpec(
        name="pyzmq",
        module=f"{_PACKAGE}.zmq_sockets",
        needs=("zmq",),
        jobs=MESSAGES,
        kind="socket",
        by_default=True,
        note="inproc, without bound; another thread, messages packed into 16 bytes; blocks its caller, no event loop",
        is_alike=False,
    ),
    RivalSpec(
        name="pykka",
        module=f"{_PACKAGE}.pykka_actors",
        needs=("pykka",),
        jobs=MESSAGES,
        kind="actor",
        by_default=True,
        note="actors without bound in threads, which share the GIL; blocks its caller, no event loop",
        is_alike=False,
    ),
    RivalSpec(
        name="Ray",
        module=f"{_PACKAGE}.ray_actors",
        needs=("ray",),
        jobs=MESSAGES,
        kind="actor",
        by_default=False,
        note="an actor in another process, made for clusters; calls, not messages; takes seconds to start",
        is_alike=False,
        install='pip install "numba-ringkernel[bench-all]"',
    ),
    RivalSpec(
        name="GNU Radio",
        module=f"{_PACKAGE}.gnuradio_graph",
        needs=("gnuradio",),
        jobs=("saxpy",),
        kind="flow graph",
        by_default=True,
        note="two compiled C++ blocks per stage, a thread per block; the start of the graph is part of its time",
        is_alike=False,
        install="apt install gnuradio",
        system_python="/usr/bin/python3",
    ),
)

RIVALS = {spec.name: spec for spec in _SPECS}
"""By name, in the order in which they are shown."""


def available(
    names: Iterable[str] | None = None, *, everything: bool = False
) -> tuple[list[RivalSpec], dict[str, str]]:
    """Those that can run here, and for the others the reason by name.

    Args:
        names: Which to look for, in any case; without them those that run by default.
        everything: Look for all of them.

    Raises:
        ValueError: For a name that nobody has.
    """
    if everything:
        wanted = list(RIVALS.values())
    elif names is None:
        wanted = [spec for spec in RIVALS.values() if spec.by_default]
    else:
        wanted = [_find(name) for name in names]
    usable, reasons = [], {}
    for spec in wanted:
        try:
            spec.command()
            usable.append(spec)
        except Unavailable as unavailable:
            reasons[spec.name] = unavailable.reason
    return usable, reasons


def _find(name: str) -> RivalSpec:
    for spec in RIVALS.values():
        if spec.name.lower() == name.lower():
            return spec
    raise ValueError(f"no rival is called {name!r}; there are {', '.join(RIVALS)}")
