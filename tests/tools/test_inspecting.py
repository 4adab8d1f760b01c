"""`ringkernel inspect`: the source stands beside the assembly that runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ringkernel import cli, inspecting
from ringkernel.assembly import is_alike
from ringkernel.devices.compiled import compiling

SOURCE = """
import numpy as np
import ringkernel as rk

def larger(a, b):
    return (a if a > b
            else b)  # a helper's line

@rk.ring_kernel("beside", input_type=float, output_type=float, state=np.zeros(4))
def beside(msg, out, state):
    out.value = larger(2 * msg.value, state[1])
    state[1] += msg.value  # kept

@rk.ring_kernel("beside in batches", input_type=float, output_type=float, batch=True)
def batch(msgs, outs):
    outs.value[:] = msgs.value * 3 + 1
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "beside_of_a_test.py"
    path.write_text(SOURCE)
    return path


def _shown(module: Path, kernel: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert cli.main(["inspect", f"{module}:{kernel}"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out.splitlines()


def _is_instruction(line: str) -> bool:
    return re.match(r"    [a-z]", line) is not None


@pytest.mark.parametrize(
    ("kernel", "lines"),
    [
        ("beside", ["return (a if a > b", "state[1] += msg.value  # kept"]),
        ("batch", ["outs.value[:] = msgs.value * 3"]),
    ],
)
def test_lines_stand_beside_what_comes_of_them(
    module: Path, kernel: str, lines: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = _shown(module, kernel, capsys)
    numbers = {text: SOURCE[: SOURCE.index(text)].count("\n") + 1 for text in lines}
    for text, number in numbers.items():
        notes = [line for line in shown if text in line]
        assert notes, text
        assert all(_is_instruction(line) and f"# {number} " in line for line in notes)


def test_lines_stand_above_in_a_narrow_terminal(
    module: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = _shown(module, "beside", capsys)
    notes = [i for i, line in enumerate(shown) if line.startswith("# ") and "msg.value" in line]
    assert notes
    assert all(_is_instruction(shown[i + 1]) for i in notes)
    assert all(len(shown[i]) <= 40 for i in notes)


def test_what_is_shown_is_what_runs(
    module: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = [line.partition(" # ")[0].rstrip() for line in _shown(module, "beside", capsys)]
    runs = str(compiling.compile_now(inspecting.find(f"{module}:beside")).library.get_asm_str()).splitlines()
    names = [line.split()[0] for line in runs if re.match(r"\t[a-z]", line)]
    assert [line.split()[0] for line in shown if _is_instruction(line)] == names


def test_other_code_than_that_which_runs_is_not_shown(
    module: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspecting, "is_alike", lambda *_: False)
    shown = _shown(module, "beside", capsys)
    assert shown[0].startswith("# LLVM makes other code of it with line numbers")
    assert any(re.match(r"# +\d+  def beside\(", line) for line in shown)
    assert any(line.startswith("\t.globl") for line in shown)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("\tjmp\t.L1\n.L1:\n\tret", "\t.loc\t1 2 3\n\tjmp\t.L7\n.Ltmp1:\n.L7:\n\tret", True),
        ("\tcall\t_ZN1a\n\tcall\t_ZN1a", "\tcall\t_ZN1b\n\tcall\t_ZN1b", True),
        ("\tcall\t_ZN1a\n\tcall\t_ZN1a", "\tcall\t_ZN1a\n\tcall\t_ZN1b", False),
        ("\taddq\t%rax, %rbx", "\taddq\t%rax, %rcx", False),
        ("\taddq\t$1, %rax", "\taddq\t$1, %rax\n\tret", False),
    ],
)
def test_which_code_is_alike(one: Any, other: Any, wanted: bool) -> None:
    assert is_alike(one, other) is wanted
