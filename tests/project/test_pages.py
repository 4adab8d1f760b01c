"""The pages hold: examples run and print what they say; commands, tables and links are true; all are delivered."""

import argparse
import contextlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import within
from pages import ROOT, TEXTS, blocks, promised

from ringkernel import TRANSITIONS, Command, KernelState, KernelStateError, RingKernelRuntime, errors, ring_kernel
from ringkernel.cache import settings
from ringkernel.cli import build_parser

pytestmark = pytest.mark.compiles

README = TEXTS["README.md"]
EXAMPLES = blocks("python")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_prints_what_its_comments_say(example: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(example, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == promised(example)


def test_the_readme_has_two_examples_and_the_first_is_fifteen_lines() -> None:
    first, _ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in first.splitlines() if line.strip()]) <= 15


def commands(program: str) -> list[str]:
    return [
        line for block in blocks("console").values() for line in block.splitlines() if line.startswith(f"{program} ")
    ]


def test_every_make_command_is_a_target() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert len(commands("make")) >= 3
    for line in commands("make"):
        assert shlex.split(line, comments=True)[1] in targets, line


def test_every_ringkernel_command_is_understood() -> None:
    assert len(commands("ringkernel")) >= 8
    for line in commands("ringkernel"):
        build_parser().parse_args(shlex.split(line, comments=True)[1:])


def test_the_page_of_the_command_line_names_every_command_and_every_option() -> None:
    page = TEXTS["docs/cli.md"]
    (parsers,) = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    for name, parser in parsers.choices.items():
        assert f"ringkernel {name}" in page
        for action in [] if name == "bench" else parser._actions:  # benchmarks/README.md has those of bench
            assert not action.option_strings or action.dest == "help" or action.option_strings[-1] in page, action


def test_the_page_of_the_cache_has_the_names_and_the_size() -> None:
    for word in (settings.DIRECTORY_VARIABLE, settings.SIZE_VARIABLE, settings.DEFAULT_SIZE):
        assert f"`{word}`" in TEXTS["docs/compile-cache.md"]


def test_the_page_of_faults_shows_the_errors() -> None:
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip()
    assert f"```text\n{tree}\n```" in TEXTS["docs/faults.md"]


def test_the_table_of_the_lifecycle_is_the_one_that_drives_the_runtime() -> None:
    page = TEXTS["docs/lifecycle.md"].partition("| from |")[2].partition("\n\n")[0]
    head, _, *rows = [
        [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")] for line in page.splitlines()
    ]
    assert head == [*(c.value for c in Command if c not in (Command.FINISH, Command.FAIL)), "ends by itself, or fails"]
    said: dict[tuple[KernelState, Command], KernelState] = {}
    for state, *cells in rows:
        *told, ends = cells
        by_command = zip(Command, [*told, ends, ends], strict=True)
        said |= {(KernelState[state], command): KernelState[cell] for command, cell in by_command if cell}
    assert [state for state, *_ in rows] == [state.name for state in KernelState]
    assert said == dict(TRANSITIONS)


def half(msg: Any, out: Any, state: Any, params: Any) -> None:
    state[0] += msg.value
    out.value = msg.value / params.divisor


def sink(msg: Any) -> None:
    pass


COMMANDS_TO = {
    KernelState.LAUNCHED: ("launch",),
    KernelState.ACTIVE: ("launch", "activate"),
    KernelState.DEACTIVATED: ("launch", "activate", "deactivate"),
    KernelState.TERMINATED: ("launch", "activate", "terminate"),
}
DIVISOR = np.dtype([("divisor", "f8")])
CALLS: dict[str, Callable[[RingKernelRuntime, str], Any]] = {
    "send": lambda runtime, kernel_id: runtime.send(kernel_id, 1.0),
    "send_batch": lambda runtime, kernel_id: runtime.send_batch(kernel_id, [1.0]),
    "send_nowait": lambda runtime, kernel_id: runtime.send_nowait(kernel_id, 1.0),
    "map": lambda runtime, kernel_id: runtime.map(kernel_id, [1.0]),
    "connect": lambda runtime, kernel_id: runtime.connect(kernel_id, "sink"),
    "read_state": lambda runtime, kernel_id: runtime.read_state(kernel_id),
    "statistics": lambda runtime, kernel_id: runtime.statistics(kernel_id),
    "write_state": lambda runtime, kernel_id: runtime.write_state(kernel_id, np.ones(1)),
    "read_params": lambda runtime, kernel_id: runtime.read_params(kernel_id),
    "write_params": lambda runtime, kernel_id: runtime.write_params(kernel_id, (3,)),
    "replace": lambda runtime, kernel_id: runtime.replace(kernel_id),
    "close_input": lambda runtime, kernel_id: runtime.close_input(kernel_id),
    "unprocessed": lambda runtime, kernel_id: runtime.unprocessed(kernel_id),
    "remove": lambda runtime, kernel_id: runtime.remove(kernel_id),
    "get_state": lambda runtime, kernel_id: runtime.get_state(kernel_id),
}


def states_of_the_page(call: str) -> set[KernelState]:
    """Where the page says that this may be called, but for TERMINATING, which does not last."""
    (states,) = re.findall(
        rf"^\|.*`{call}`.*\| (.*) \|$", TEXTS["docs/lifecycle.md"].partition("| call | in |")[2], re.MULTILINE
    )
    every = {"every state": {KernelState.CREATED, *COMMANDS_TO}, "every state after `launch`": {*COMMANDS_TO}}
    return every.get(states) or {KernelState[state] for state in states.split(", ")}


@pytest.mark.parametrize("state", [KernelState.CREATED, *COMMANDS_TO], ids=lambda state: state.name)
async def test_calls_are_allowed_where_the_page_says(state: KernelState, runtime: RingKernelRuntime) -> None:
    await runtime.launch("sink", ring_kernel("sink", input_type=float)(sink))
    for name, call in CALLS.items():
        ring_kernel(name, input_type=float, output_type=float, state=np.zeros(1), params=np.array((2,), DIVISOR))(half)
        for command in COMMANDS_TO.get(state, ()):
            await getattr(runtime, command)(name)
        refused = state not in states_of_the_page(name)
        with pytest.raises(KernelStateError) if refused else contextlib.nullcontext():
            called = call(runtime, name)
            if inspect.isawaitable(called):
                await within(called)


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "docs/README.md"])
def test_the_index_leads_to_each_page(name: str) -> None:
    place = Path(name)
    is_task = place.parent.name == "howto" and place.stem != "index"
    index = Path("docs/howto/index.md" if is_task else "docs/README.md")
    assert f"]({os.path.relpath(place, index.parent)})" in TEXTS[index.as_posix()]


def test_the_readme_is_a_screen_and_a_half_and_leads_on() -> None:
    assert len(README.splitlines()) <= 100
    for page in "docs/README.md", "docs/tutorial.md", "docs/howto/index.md", "docs/performance.md#figures":
        assert f"]({page})" in README


@pytest.mark.parametrize("name", TEXTS)
def test_the_source_distribution_has_each_page(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = [*project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"], f"/{project['project']['readme']}"]
    assert any(f"/{name}".startswith(place) for place in included)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", TEXTS[name]):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target
