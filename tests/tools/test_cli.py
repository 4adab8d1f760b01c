"""The console script from outside: whatever it is given, a word of what is wrong and an exit code, no traceback."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ringkernel import cli, machine
from ringkernel.devices.grid import cuda_probe

KERNELS = """
import ringkernel as rk

@rk.ring_kernel("double", input_type=float, output_type=float)
def double(msg, out):
    out.value = 2 * msg.value

@rk.ring_kernel("stranger", input_type=float, output_type=float)
def stranger(msg, out):
    out.value = msg.nothing

@rk.ring_kernel("coroutine")
async def coroutine(ctx):
    pass
"""
MODULES = {
    "kernels_of_a_test": KERNELS,
    "raises_of_a_test": "def fails():\n    raise ValueError('no such luck')\nfails()",
    "broken_of_a_test": "def (",
    "needs_of_a_test": "import nothing_of_the_kind",
    "exits_of_a_test": "raise SystemExit(3)",
    "colorsys": KERNELS,  # a file may be called like a module of Python's
    "json": KERNELS,
}


pytestmark = pytest.mark.sampled(2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


def ringkernel(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    variables = options.pop("env", {})
    return subprocess.run(
        [sys.executable, "-P", "-m", "ringkernel.cli", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 100, **options},
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        ("kernels_of_a_test:nothing", "kernels_of_a_test declares no kernel 'nothing'; declared are '"),
        ("kernels_of_a_test.py:nothing", "kernels_of_a_test.py declares no kernel 'nothing'"),
        ("kernels_of_a_test:stranger", "the message has no field 'nothing'"),
        ("kernels_of_a_test:coroutine", "a coroutine kernel: it is not compiled"),
        ("kernels_of_a_test", "names no kernel; write MODULE:KERNEL"),
        ("raises_of_a_test:k", "imported: ValueError: no such luck (%/raises_of_a_test.py, line 2)"),
        ("raises_of_a_test.py:k", "raises_of_a_test.py cannot be imported: ValueError: no such luck (%"),
        ("broken_of_a_test.py:k", "cannot be imported: SyntaxError: invalid syntax (broken_of_a_test.py, line 1)"),
        ("needs_of_a_test:k", "No module named 'nothing_of_the_kind' (%/needs_of_a_test.py, line 1)"),
        ("exits_of_a_test:k", "exits_of_a_test cannot be imported: SystemExit: 3"),
        ("nothing_of_the_kind:k", "ModuleNotFoundError: No module named 'nothing_of_the_kind'\n"),
        ("elsewhere/kernels_of_a_test.py:double", "there is no such file"),
        ("..:k", "cannot be imported: TypeError"),
    ],
)  # fmt: skip
def test_what_cannot_be_inspected(kernel: str, reason: str, folder: Path) -> None:
    done = ringkernel("inspect", kernel, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ringkernel inspect: ")
    assert reason.replace("%", str(folder)) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["kernels_of_a_test:double", "kernels_of_a_test.py:double", "colorsys.py:double",
                                  "json.py:double"])  # fmt: skip
def test_a_kernel_in_a_module_or_a_file(name: str, folder: Path) -> None:
    done = ringkernel("inspect", name, "--target", "llvm", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "define" in done.stdout
    source = [line for line in done.stdout.splitlines() if line.startswith(";") and "def double(" in line]
    assert len(source) == 1, "with the handler's own lines above"


@pytest.mark.parametrize("text", ["9", "9.0.0", "-9.0", "x.y", "", "\N{ARABIC-INDIC DIGIT NINE}.0", "9.000000000000"])
def test_what_is_no_compute_capability(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        cli.main(["inspect", "a:b", f"--cc={text}"])
    assert ending.value.code == 2
    assert "is not a compute capability such as 9.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "variables", "reason"),
    [
        (["demo", "--limit", "9", "--queue-size", str(1 << 40)], {}, "queue size is 1099511627776; it must be"),
        (["demo", "--limit", "9"], {"RINGKERNEL_CACHE_SIZE": "much"}, "RINGKERNEL_CACHE_SIZE is 'much'; it must be"),
        (["info"], {"RINGKERNEL_CACHE_DIR": "here"}, "RINGKERNEL_CACHE_DIR is 'here'; it must be an absolute path"),
    ],
)
def test_what_the_package_refuses(arguments: list[str], variables: dict[str, str], reason: str) -> None:
    done = ringkernel(*arguments, env=variables)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ringkernel {arguments[0]}: {reason}")
    assert "Traceback" not in done.stderr


# --- stdout ----------------------------------------------------------------------------------------------------------

COMMANDS = [
    ["--help"],
    ["info"],
    ["info", "--json"],
    ["cache"],
    ["demo", "--limit", "9"],
    ["bench", "--list"],
    ["bench", "--from", "benchmarks/results/quick.json"],
]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_is_no_error(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = ringkernel(*command, stdout=writing, cwd=ROOT, env={"PYTHONUNBUFFERED": ""})
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no such device")
@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_a_full_disk_is_said(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = ringkernel(*command, stdout=full, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, f"ringkernel {command[0]}: [Errno 28] No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no such device")
@pytest.mark.parametrize(
    "command", [["nonsense"], ["inspect", "nothing:k"], ["bench", "--case", "nonsense"]], ids=" ".join
)
def test_a_complaint_that_nobody_takes_changes_no_exit_code(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        assert ringkernel(*command, stderr=full).returncode == 2
    closed = ringkernel(*command, stderr=None, preexec_fn=lambda: os.close(2))
    assert (closed.returncode, "cannot be" in closed.stdout) == (2, False)


@pytest.mark.parametrize("command", [["info"], COMMANDS[-1]], ids=" ".join)
@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"},
                                       {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])  # fmt: skip
def test_any_encoding_will_do(command: list[str], variables: dict[str, str]) -> None:
    names = {"RINGKERNEL_CACHE_DIR": "/nowhere/\N{GREEK SMALL LETTER OMEGA}", **variables}
    done = ringkernel(*command, cwd=ROOT, env=names, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("columns", ["1", "20", "0", "x"])
def test_any_width_will_do(columns: str) -> None:
    for command in (["--help"], COMMANDS[-1]):
        done = ringkernel(*command, cwd=ROOT, env={"COLUMNS": columns})
        assert (done.returncode, done.stderr) == (0, "")


def test_what_is_no_terminal_gets_no_colours() -> None:
    for variables in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in ringkernel(*COMMANDS[-1], cwd=ROOT, env=variables).stdout


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


ENDLESS = """
import atexit, sys
@atexit.register
def end():
    print("ending", flush=True)
    sys.stdin.read()
print("here", flush=True)
while True: pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has other signals")
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_interrupts_end_it_without_a_word(twice: bool, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, "-P", "-m", "ringkernel.cli", "inspect", "endless.py:k"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, text=True, start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "here\n"
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ending\n"
        if twice:  # for those who do not want to wait for what is done at the end
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (-signal.SIGINT if twice else 130, "")
    assert time.monotonic() - asked < 5


# --- what is there of CUDA -------------------------------------------------------------------------------------------


class Library:
    """A driver for CUDA 13.0 that must not be started."""

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802 (CUDA's name)
        number._obj.value = 13000
        return 0


def test_the_driver_is_shown_also_when_nobody_asks_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_probe, "_version", lambda _: None)
    cuda_probe.cuda_facts.cache_clear()
    try:
        for library, shown in ((Library, "13.0"), (None, "none")):
            monkeypatch.setattr(ctypes, "CDLL", lambda _, library=library: library() if library else _missing())
            report = machine.cuda_report()
            assert (report["cuda_driver"], report["gpus"]) == (shown, "not looked for")
            assert "not installed" in str(report["cuda"])
    finally:
        cuda_probe.cuda_facts.cache_clear()


def _missing() -> Any:
    raise OSError("libcuda.so.1: cannot open shared object file")
