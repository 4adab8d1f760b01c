"""`ringkernel inspect`: what a kernel is compiled to, as text. Needs no GPU."""

from __future__ import annotations

import importlib
import importlib.util
import inspect as inspecting
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .assembly import WIDE, beside, is_alike
from .declaration.declaration import Declaration
from .declaration.registry import declared
from .declaration.together import with_companions
from .devices import selection
from .devices.compiled import compiling
from .devices.grid import cuda_probe
from .errors import ConfigurationError, DeviceUnavailableError, KernelNotFoundError, RingKernelError

if TYPE_CHECKING:
    from .devices.grid.cuda_program import GridCode

TARGETS = ("llvm", "asm", "ptx", "sass")


def inspect(kernel: str, target: str, cc: tuple[int, int]) -> str:
    """Return the LLVM IR or assembly of a kernel's spans on this CPU, one for each input, or one if it goes by time; or
    the PTX or SASS of its grid, which has them all.

    Args:
        kernel: `MODULE:KERNEL`, a module to import (or a path to a file), and a kernel's id or function in it.
        target: "llvm", "asm", "ptx" or "sass".
        cc: compute capability for the last two.

    Raises `ModuleError`, `KernelNotFoundError`, `KernelCompileError`, `DeviceUnavailableError` (what is missing).
    """
    declaration = find(kernel)
    if declaration.is_coroutine:
        raise ConfigurationError(f"kernel {declaration.kernel_id!r} is a coroutine kernel: it is not compiled")
    handlers = [declaration] if declaration.order is not None else declaration.per_input
    if target == "asm":
        return "\n".join(_assembly(one, compiling.compile_now(one)) for one in handlers)
    if target == "llvm":
        return "\n".join(_source(one, ";") + compiling.compile_now(one).library.get_llvm_str() for one in handlers)
    code = _grid(declaration, compiling.find_now(declaration), cc)
    return _source(declaration, "//") + (code.ptx if target == "ptx" else _disassemble(code))


def _assembly(declaration: Declaration, span: Any) -> str:
    """Return the assembly of a span: beside its source if line numbers do not change the code, else below it."""
    runs = str(span.library.get_asm_str())
    if declaration.order is not None:
        return _source(declaration, "#") + runs
    numbered = str(compiling.compile_numbered(declaration).library.get_asm_str())
    file = declaration.func.__code__.co_filename
    if not is_alike(runs, numbered):
        why = "# LLVM makes other code of it with line numbers, so the source is above what runs, not beside it.\n"
        return why + _source(declaration, "#") + runs
    width = shutil.get_terminal_size(fallback=(WIDE, 24)).columns
    legend = (
        "# Each line of source is beside the first instruction that\n# comes of it; -: the loop around the handler.\n\n"
    )
    return f"# {file}\n{legend}{beside(numbered, width, str(Path(file).absolute()))}"


def _source(declaration: Declaration, comment: str) -> str:
    """Return the lines of all its handlers as comments."""
    return "".join(_lines(one.func, comment) for one in declaration.all_handlers)


def _lines(func: Any, comment: str) -> str:
    try:
        lines, first = inspecting.getsourcelines(func)
    except (OSError, TypeError):  # it was not defined in a file
        return ""
    numbered = [f"{comment} {number:4}  {line.rstrip()}" for number, line in enumerate(lines, first)]
    return "\n".join([f"{comment} {func.__code__.co_filename}", *numbered, "", ""])


def find(kernel: str) -> Declaration:
    """Return the declaration that `MODULE:KERNEL` names."""
    source, _, name = kernel.rpartition(":")
    if not source or not name:
        raise ConfigurationError(
            f"{kernel!r} names no kernel; write MODULE:KERNEL, as in ringkernel.demos.flights:derive"
        )
    module = load(source)
    found = getattr(getattr(module, name, None), "__ring_kernel__", None) or declared(name)
    if not isinstance(found, Declaration):
        there = [getattr(value, "__ring_kernel__", None) for value in vars(module).values()]
        known = ", ".join(repr(one.kernel_id) for one in there if isinstance(one, Declaration)) or "none"
        raise KernelNotFoundError(f"{source} declares no kernel {name!r}; declared are {known}")
    return with_companions(found)


class ModuleError(RingKernelError):
    """A module cannot be imported; the message says why, and where."""


def load(source: str) -> Any:
    """Import a module, or the module in a file. Raises `ModuleError`."""
    import numba  # noqa: F401 (first: a file of the user's may be called like a module that it imports)

    if "" not in sys.path:
        sys.path.insert(0, "")  # as for `python -m`
    try:
        return _load_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except (Exception, SystemExit) as error:  # whatever its code does when it is run
        ours = (__file__, importlib.__file__)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in ours]
        frames = [frame for frame in frames if not frame.filename.startswith("<")]
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
        raise ModuleError(f"{source} cannot be imported: {type(error).__name__}: {error}{where}") from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    sys.path.insert(0, str(path.parent.resolve()))  # as for `python path`
    name = path.stem if path.stem not in sys.modules else f"{path.stem} in {path.parent}"  # another module is there
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _grid(declaration: Declaration, span: Any, cc: tuple[int, int]) -> GridCode:
    facts = cuda_probe.cuda_facts()
    missing = [name for name in ("numba-cuda", "nvidia-nvvm") if name not in facts.packages]
    if missing:
        raise DeviceUnavailableError(f"{', '.join(missing)} not installed: {cuda_probe.INSTALL}")
    if facts.simulator:
        raise DeviceUnavailableError("NUMBA_ENABLE_CUDASIM puts a simulator in the compiler's place; unset it")
    if cc < cuda_probe.MINIMUM_CC:
        least = cuda_probe.MINIMUM_CC
        raise ConfigurationError(f"compute capability {_dotted(cc)} is below {_dotted(least)}, which kernels need")
    selection.check_fits(declaration, "cuda")
    from .devices.grid.cuda_program import compile_grid
    from .devices.grid.handlers import Handlers
    from .devices.grid.loop import run_grid

    handlers = Handlers.of(declaration, span)
    code = compile_grid(run_grid, handlers, is_cooperative=handlers.is_cooperative, cc=cc, fma=declaration.fma)
    made_for = re.search(r"^\.target sm_(\d+)(\d)", code.ptx, re.MULTILINE)
    if made_for is None or (int(made_for[1]), int(made_for[2])) != cc:  # the compiler takes the nearest, without a word
        nearest = "" if made_for is None else f"; the nearest that it knows is {made_for[1]}.{made_for[2]}"
        raise ConfigurationError(f"the installed compiler does not know compute capability {_dotted(cc)}{nearest}")
    return code


def _dotted(cc: tuple[int, int]) -> str:
    return f"{cc[0]}.{cc[1]}"


def _find_nvdisasm() -> str | None:
    """On the PATH, or in its wheel."""
    found = shutil.which("nvdisasm")
    wheels = importlib.util.find_spec("nvidia")
    for folder in [] if wheels is None else wheels.submodule_search_locations or []:
        found = found or next(map(str, Path(folder).glob("*/bin/nvdisasm*")), None)
    return found


def _disassemble(code: GridCode) -> str:
    """Assemble, and disassemble with the CUDA toolkit's tool."""
    tool = _find_nvdisasm()
    if tool is None:
        raise DeviceUnavailableError(
            "there is no nvdisasm, neither on the PATH nor from its wheel, nvidia-cuda-nvdisasm; it comes with the "
            "extra cuda on Linux, and with the CUDA toolkit"
        )
    from .devices.grid.cuda_driver import assemble

    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder, "grid.cubin")
        cubin.write_bytes(assemble(code, f"sm_{code.cc[0]}{code.cc[1]}").code)
        command = [tool, str(cubin)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (the toolkit's tool)
    if done.returncode != 0:
        raise DeviceUnavailableError(f"nvdisasm failed: {done.stderr.strip()}")
    return done.stdout
