"""Nothing happens at import, what is offered is what is documented, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ringkernel


def python(script: str, *arguments: str) -> str:
    """Run a script in a fresh interpreter, warnings being errors. What it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


NOTHING_HAPPENS = """
import asyncio, os, signal, sys, threading
before = (
    type(asyncio.get_event_loop_policy()) if sys.version_info < (3, 14) else None,
    threading.active_count(),
    dict(os.environ),
    {number: signal.getsignal(number) for number in signal.valid_signals()},
    sys.getswitchinterval(),
    sys.excepthook,
)
import ringkernel
after = (
    type(asyncio.get_event_loop_policy()) if sys.version_info < (3, 14) else None,
    threading.active_count(),
    dict(os.environ),
    {number: signal.getsignal(number) for number in signal.valid_signals()},
    sys.getswitchinterval(),
    sys.excepthook,
)
assert before == after, (before, after)
heavy = {"numba", "numpy", "llvmlite", "uvloop", "rich", "pandas"} & set(sys.modules)
assert not heavy, heavy
assert dir(ringkernel) == sorted(set(dir(ringkernel)))
heavy = {"numba", "numpy", "llvmlite"} & set(sys.modules)
assert not heavy, heavy
"""


def test_nothing_happens_at_import() -> None:
    python(NOTHING_HAPPENS)


COROUTINES_ONLY = """
import asyncio, sys, threading
import ringkernel as rk

@rk.ring_kernel("double")
async def double(ctx):
    async for message in ctx:
        await ctx.send(2 * message)

async def main():
    async with rk.RingKernelRuntime() as runtime:
        await runtime.launch("double")
        await runtime.activate("double")
        for i in range(200):
            await runtime.send("double", i)
            assert await runtime.receive("double") == 2 * i
        await runtime.deactivate("double")
        await runtime.reactivate("double")
        await runtime.terminate("double")
        assert threading.active_count() == 1, threading.enumerate()
    queue = rk.MessageQueue(4)
    await queue.put(1)
    assert await queue.get() == 1

asyncio.run(main())
heavy = {"numba", "llvmlite"} & set(sys.modules)
assert not heavy, heavy
"""


def test_coroutine_kernels_need_neither_numba_nor_threads() -> None:
    python(COROUTINES_ONLY)


DECLARATION_ONLY = """
import sys
import numpy as np
import ringkernel as rk

@rk.message
class Tick:
    price: float

@rk.ring_kernel("ema", input_type=Tick, output_type=np.float64)
def ema(msg, out):
    out.value = msg.price

rk.RingKernelRuntime()
heavy = {"numba", "llvmlite"} & set(sys.modules)
assert not heavy, heavy
"""


def test_declaring_a_compiled_kernel_does_not_import_numba_yet() -> None:
    python(DECLARATION_ONLY)


def test_all_is_what_is_loaded_lazily() -> None:
    assert set(ringkernel.__all__) == {*ringkernel._MODULE_OF, "__version__"} - {"map"}  # Python's own stays
    assert len(ringkernel.__all__) == len(set(ringkernel.__all__))
    assert sum(map(len, ringkernel._MODULES.values())) == len(ringkernel._MODULE_OF)  # no name in two modules


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    tree = ast.parse(Path(str(ringkernel.__file__)).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == ringkernel._MODULE_OF


@pytest.mark.parametrize("name", [*ringkernel.__all__, "map"])
def test_every_public_name_resolves_to_the_one_in_its_module(name: str) -> None:
    value = getattr(ringkernel, name)
    if name != "__version__":
        module = importlib.import_module(f"ringkernel.{ringkernel._MODULE_OF[name]}")
        assert value is getattr(module, name)
        assert not callable(value) or value.__doc__
    assert name in dir(ringkernel)


def test_every_public_name_resolves_first_in_a_fresh_interpreter() -> None:
    """No name depends on another one having been loaded before."""
    script = "import sys, ringkernel\nfor name in sys.argv[1:]:\n    getattr(ringkernel, name)\n"
    names = sorted(ringkernel.__all__)
    python(script, *names)
    python(script, *reversed(names))


def test_star_import_brings_the_public_names() -> None:
    scope: dict[str, object] = {}
    exec("from ringkernel import *", scope)
    assert set(scope) - {"__builtins__"} == set(ringkernel.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        ringkernel.nonsense  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (Path(str(ringkernel.__file__)).parent / "py.typed").is_file()


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    """0.3 s is the aim; a timing on a shared machine only catches what is far off, the modules say why."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ringkernel.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    elapsed_s = time.monotonic() - started
    assert done.returncode == 0
    assert "usage: ringkernel" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported  # the list is a list
    assert not {"numba", "numpy", "llvmlite", "asyncio", "pandas", "rich"} & imported
    assert elapsed_s < 1.5


def imports_in(package: Path) -> dict[str, set[str]]:
    """Which modules each module of a package imports, wherever that stands: typing-only imports, too."""
    paths = {_module_name(path, package): path for path in package.rglob("*.py")}
    imports: dict[str, set[str]] = {}
    for name, path in paths.items():
        above = name if path.name == "__init__.py" else name.rpartition(".")[0]
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                source = _source(node, above)
                found = {f"{source}.{alias.name}" for alias in node.names}
                named |= found & paths.keys() or {source}
        imports[name] = named & paths.keys() - {name}
    return imports


def _module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _source(node: ast.ImportFrom, package: str) -> str:
    """The module that a statement in `package` imports from."""
    if not node.level:
        return str(node.module)
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not where only a type checker looks. `make lint` holds the folders to the same."""
    imports = imports_in(Path(str(ringkernel.__file__)).parent)
    assert {"ringkernel.errors", "ringkernel.runtime.maps.path"} <= imports[
        "ringkernel.runtime.maps.map"
    ]  # both kinds are seen
    graphlib.TopologicalSorter(imports).prepare()


def test_a_circle_is_found_wherever_it_is_closed(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "room" / "__init__.py").write_text("from .. import first\n")
    (package / "first.py").write_text("def later():\n    from .room import second\n")
    (package / "room" / "second.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import x\n"
    )
    assert imports_in(package)["package.first"] == {"package.room.second"}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(imports_in(package)).prepare()
