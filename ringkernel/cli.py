"""The console script: `ringkernel demo`, `bench`, `top`, `info`, `doctor`, `inspect` and `cache`.

Nothing heavy is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shutil
import signal
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .bench import cli as bench_cli
from .demos import DEMOS
from .extras import EXTRAS, installing
from .machine import CacheAccessError, cache_usage, machine, open_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script and return its exit code.

    0 is success, 1 a check that failed, 2 a wrong call, a missing extra or a place that cannot be written; 130 and 141
    are what a shell reports for programs that SIGINT and SIGPIPE ended.
    """
    try:
        return run(argv)
    finally:
        for stream in (sys.stdout, sys.stderr):
            drop_unwritten(stream)


def drop_unwritten(stream: Any) -> None:
    """Drop what a stream does not take: Python would try once more at its end, and exit with a code of its own."""
    try:
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    except (AttributeError, ValueError):
        pass  # there is none, or it is closed


def run(argv: Sequence[str] | None) -> int:
    """Do what the arguments say, and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding lacks, in a C locale for one
    name, extra = "ringkernel", ""
    try:
        try:
            arguments = build_parser().parse_args(argv)
            name, extra = f"ringkernel {arguments.command}", getattr(arguments, "extra", "")
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
        return 141
    except SystemExit as ending:
        if isinstance(ending.__context__, BrokenPipeError):  # how rich takes it
            return 141
        raise
    except Exception as error:
        told = explained(error, extra)
        if told is None:
            raise
        complain(f"{name}{told}")
        return 2


def explained(error: Exception, extra: str) -> str | None:
    """Return what to tell the user of an error about the call or this machine, or of an extra's missing package; None
    for other errors."""
    from .errors import RingKernelError

    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return f" needs {package}: {installing(extra)}" if package in EXTRAS.get(extra, ()) else None
    return f": {error}" if isinstance(error, RingKernelError | CacheAccessError | OSError) else None


def complain(message: str) -> None:
    """Say on stderr what is wrong, if there is one that takes it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(message, file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    parser = argparse.ArgumentParser(
        prog="ringkernel",
        description="Persistent compiled kernels, fed through ring queues and driven from asyncio.",
    )
    parser.add_argument("--version", action="version", version=f"ringkernel {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="run real pipelines, and check them against pandas")
    demo.add_argument("name", nargs="?", choices=DEMOS, default="flights", help="which one (default: %(default)s)")
    demo.add_argument("--list", action="store_true", help="print the names")
    demo.add_argument("--limit", type=positive, metavar="N", help="only N flights, or N trades (default: all)")
    demo.add_argument(
        "--queue-size",
        type=power_of_two,
        default=4096,
        metavar="N",
        help="messages that each queue holds, a power of two (default: %(default)s)",
    )
    demo.add_argument("--picture", metavar="PATH", help="where flow draws its picture (default: flow.png)")
    demo.set_defaults(act=run_demo, extra="demo")

    bench = commands.add_parser("bench", help="measure this machine, ringkernel, and the alternatives")
    bench_cli.add_arguments(bench)
    bench.set_defaults(act=bench_cli.run)

    info = commands.add_parser("info", help="show what ringkernel finds on this machine")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(act=lambda chosen: show(machine(), as_json=chosen.json))

    cache = commands.add_parser("cache", help="show, clear or fill the cache of compiled kernels")
    cache.add_argument(
        "action", nargs="?", choices=("info", "clear", "fill"), default="info", help="what to do (default: %(default)s)"
    )
    cache.add_argument(
        "modules", nargs="*", metavar="MODULE", help="for fill: modules or .py files whose kernels are compiled"
    )
    cache.add_argument("--json", action="store_true", help="print JSON")
    cache.set_defaults(act=act_on_cache)

    inspect = commands.add_parser("inspect", help="show what a kernel is compiled to; needs no GPU")
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
    inspect.set_defaults(act=show_code)

    doctor = commands.add_parser("doctor", help="look for what is wrong on this machine, and say what to do")
    doctor.set_defaults(act=run_doctor)

    top = commands.add_parser("top", help="show the kernels of a running process that serves its statistics")
    top.add_argument("pid", nargs="?", type=int, metavar="PID", help="the process, if there are several")
    top.add_argument("--once", action="store_true", help="print them once")
    top.set_defaults(act=run_top, extra="progress")
    return parser


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


def run_demo(chosen: argparse.Namespace) -> int:
    """List the demos, or run one."""
    if chosen.list:
        for name, text in DEMOS.items():
            print(f"{name:<9}{text}")
        return 0
    options = {"limit": chosen.limit, "queue_size": chosen.queue_size}
    if chosen.picture is not None:
        if chosen.name != "flow":
            complain(f"ringkernel demo: {chosen.name} draws no picture; only flow does")
            return 2
        options["picture"] = chosen.picture
    run: Callable[..., int] = importlib.import_module(f".demos.{chosen.name}", __package__).run
    return run(**options)


def run_top(chosen: argparse.Namespace) -> int:
    """Show another process's kernels."""
    from .top import show_top

    return show_top(chosen.pid, once=chosen.once)


def show_code(chosen: argparse.Namespace) -> int:
    """Print what a kernel is compiled to."""
    from .inspecting import inspect

    print(inspect(chosen.kernel, chosen.target, chosen.cc))
    return 0


def run_doctor(_: argparse.Namespace) -> int:
    """Print what is well on this machine, and what to do about the rest; return 1 if something is not."""
    from .doctor import examine

    findings = examine()
    for finding in findings:
        write(finding.subject, f"{'ok' if finding.is_well else 'NOT WELL'}: {finding.text}")
    return 0 if all(finding.is_well for finding in findings) else 1


def act_on_cache(chosen: argparse.Namespace) -> int:
    """Show, clear or fill the compile cache; return 1 if a kernel cannot be compiled."""
    if (chosen.action == "fill") != bool(chosen.modules):
        raise CacheAccessError("ringkernel cache fill MODULE ... takes modules, and nothing else does")
    if chosen.action == "info":
        return show({"cache": cache_usage()}, as_json=chosen.json)
    store = open_cache()
    if chosen.action == "clear":
        try:
            entries, nbytes = store.clear()
        except OSError as error:
            raise CacheAccessError(f"the compile cache cannot be cleared: {error}") from error
        removed = {"removed_entries": entries, "removed_bytes": nbytes}
        return show({"cache_directory": str(store.directory), **removed}, as_json=chosen.json)
    from .filling import fill

    reasons = fill(tuple(chosen.modules))
    failed = [reason for reason in reasons.values() if reason is not None]
    for reason in failed:
        print(reason, file=sys.stderr)
    show({"compiled": len(reasons) - len(failed), "failed": len(failed), **cache_usage()}, as_json=chosen.json)
    return 1 if failed else 0


def show(facts: Mapping[str, object], *, as_json: bool) -> int:
    """Print facts, and those that are grouped with their own names, as text or as JSON."""
    if as_json:
        import json

        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        parts = value if isinstance(value, dict) else {name: value}
        for label, text in parts.items():
            is_bytes = label in ("cache_limit", "cache_bytes", "removed_bytes")
            write(label.replace("_", " "), nbytes(int(str(text))) if is_bytes else str(text))
    return 0


def write(label: str, text: str) -> None:
    """Print a line, or several where the terminal is narrow."""
    width = max(40, min(shutil.get_terminal_size().columns, 120))
    wrap = textwrap.TextWrapper(width, subsequent_indent=" " * 17, break_on_hyphens=False, break_long_words=False)
    print(wrap.fill(f"{label:<16} {text}"))


def nbytes(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in "B", "KiB", "MiB":
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


if __name__ == "__main__":
    sys.exit(main())
