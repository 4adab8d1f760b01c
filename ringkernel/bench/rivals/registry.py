"""Which rivals there are, what sets each apart, and which can run here."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ringkernel.extras import installing

PROBE_DEADLINE_S = 20
MESSAGES = ("round_trip", "flood", "send")
EWMA, AS_OF = ("ewma",), ("as_of",)
ALL = installing("bench-all")


class Unavailable(Exception):  # noqa: N818 - it says what is the case, not what went wrong
    """A rival cannot run here. The text says what is missing and how to get it, or how it died."""


@dataclass(frozen=True)
class RivalSpec:
    """One rival."""

    name: str
    module: str
    """Run as `python -m`; by its path where the interpreter is another one."""
    kind: str
    """"actor", "queue", "process queue", "socket", "flow graph", "stream" or "array"."""
    note: str
    """What differs from ringkernel; empty if like for like."""
    needs: tuple[str, ...] = ()
    """Modules that must be importable."""
    install: str = installing("bench")
    """What to do when one of them is missing."""
    jobs: tuple[str, ...] = MESSAGES
    by_default: bool = True
    """False: only when it is asked for."""
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


_SPECS = (
    RivalSpec("PyDotCompute", "pydotcompute_actors", "actor", "", needs=("pydotcompute", "uvloop")),
    RivalSpec("asyncio.Queue", "asyncio_queue", "queue", "bare queues: no lifecycle, no statistics"),
    RivalSpec(
        "queue.SimpleQueue",
        "simple_queue",
        "queue",
        "bare queues without bound; another thread, which shares the GIL; blocks its caller, no event loop",
    ),
    RivalSpec(
        "multiprocessing.Queue",
        "multiprocessing_queue",
        "process queue",
        "another process, messages pickled; a send only hands over to a feeder thread; no event loop",
    ),
    RivalSpec(
        "faster-fifo",
        "faster_fifo_queues",
        "process queue",
        "another process, messages packed into 16 bytes; blocks its caller, no event loop",
        needs=("faster_fifo",),
    ),
    RivalSpec(
        "pyzmq",
        "zmq_sockets",
        "socket",
        "inproc, without bound; another thread, messages packed into 16 bytes; blocks its caller, no event loop",
        needs=("zmq",),
    ),
    RivalSpec(
        "pykka",
        "pykka_actors",
        "actor",
        "actors without bound in threads, which share the GIL; blocks its caller, no event loop",
        needs=("pykka",),
    ),
    RivalSpec(
        "Ray",
        "ray_actors",
        "actor",
        "an actor in another process, made for clusters; calls, not messages; takes seconds to start",
        needs=("ray",),
        install=ALL,
        by_default=False,
    ),
    RivalSpec(
        "GNU Radio",
        "gnuradio_graph",
        "flow graph",
        "two compiled C++ blocks per stage, a thread per block; the start of the graph is part of its time",
        needs=("gnuradio",),
        install="apt install gnuradio",
        jobs=("saxpy",),
        system_python="/usr/bin/python3",
    ),
    RivalSpec("csp", "csp_graph", "stream", "one compiled node; replays an array of ticks", ("csp",), ALL, EWMA),
    RivalSpec(
        "bytewax",
        "bytewax_flow",
        "stream",
        "a flow in one process, its numbers from a list, a thousand at once",
        ("bytewax",),
        ALL,
        EWMA,
    ),
    RivalSpec("streamz", "streamz_stream", "stream", "calls from one function to the next", ("streamz",), ALL, EWMA),
    RivalSpec("river", "river_stats", "stream", "a compiled statistic, called directly", ("river",), ALL, EWMA),
    RivalSpec("pandas", "pandas_ewm", "array", "the whole series at once", ("pandas",), ALL, EWMA),
    RivalSpec(
        "pandas.merge_asof", "pandas_asof", "array", "frames of columns, joined at once", ("pandas",), ALL, AS_OF
    ),
    RivalSpec(
        "polars.join_asof",
        "polars_asof",
        "array",
        "frames of columns, joined at once, on all cores",
        ("polars",),
        ALL,
        AS_OF,
    ),
)
RIVALS = {spec.name: replace(spec, module=f"{__package__}.{spec.module}") for spec in _SPECS}
"""By name, in the order in which they are shown."""


def available(*, everything: bool = False) -> tuple[list[RivalSpec], dict[str, str]]:
    """Those that can run here, and for the others the reason by name: of those that run by default, or of all."""
    usable, reasons = [], {}
    for spec in RIVALS.values():
        if not (everything or spec.by_default):
            continue
        try:
            spec.command()
            usable.append(spec)
        except Unavailable as reason:
            reasons[spec.name] = str(reason)
    return usable, reasons
