"""`ringkernel inspect` shows what a kernel becomes, without a GPU, or says why it cannot."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringkernel import cli
from ringkernel.devices.grid import cuda_probe

SOURCE = """
import numpy as np
import ringkernel as rk

@rk.ring_kernel("double", input_type=float, output_type=float)
def double(msg, out):
    out.value = 2 * msg.value

@rk.ring_kernel("affine", input_type=float, output_type=float)
def affine(msg, out):
    out.value = msg.value * msg.value + msg.value

@rk.ring_kernel("joined", input_type=float, output_type=float, fma=True)
def joined(msg, out):
    out.value = msg.value * msg.value + msg.value

@rk.ring_kernel("timed", input_type=float, output_type=float, state=np.zeros(1), order_by="value")
def timed(msg, out, state):
    out.value = state[0]

@rk.on_input("timed", "other", float)
def timed_other(msg, out, state):
    state[0] = 1234.5
    return False

@rk.ring_kernel("two", input_type=float, output_type=float)
def two(msg, out):
    out.value = msg.value

@rk.on_input("two", "more", float)
def more(msg, out):
    out.value = msg.value + 1234.5

@rk.ring_kernel("lines", input_type=float, batch=True)
def lines(msgs):
    pass
"""


@pytest.fixture
def module(tmp_path: Path) -> Any:
    path = tmp_path / "kernels_to_inspect.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("target", "wanted"), [("llvm", "define"), ("asm", ".globl"), ("ptx", ".target sm_80"), ("sass", "EXIT")]
)
def test_what_a_kernel_becomes(module: Any, capsys: pytest.CaptureFixture[str], target: Any, wanted: Any) -> None:
    code = cli.main(["inspect", f"{module}:double", "--target", target, "--cc", "8.0"])
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    assert wanted in shown.out


@pytest.mark.parametrize("target", ["llvm", "asm", "ptx", "sass"])
def test_all_handlers_of_a_kernel_are_shown(module: Any, capsys: pytest.CaptureFixture[str], target: Any) -> None:
    for kernel, second in (("timed", "state[0] = 1234.5"), ("two", "msg.value + 1234.5")):
        assert cli.main(["inspect", f"{module}:{kernel}", "--target", target, "--cc", "8.0"]) == 0
        shown = capsys.readouterr().out
        assert second in shown
        bits = 0x40934A0000000000  # 1234.5
        assert target != "ptx" or f"{bits:X}" in shown or str(bits) in shown


@pytest.mark.parametrize(("target", "instruction"), [("ptx", "fma.rn.f64"), ("sass", "DFMA")])
def test_what_is_shown_is_what_would_run_with_fma(
    module: Any, capsys: pytest.CaptureFixture[str], target: Any, instruction: Any
) -> None:
    for kernel, wanted in (("affine", False), ("joined", True)):
        assert cli.main(["inspect", f"{module}:{kernel}", "--target", target, "--cc", "8.0"]) == 0
        assert (instruction in capsys.readouterr().out) is wanted


def test_without_a_disassembler_says_where_it_comes_from(
    module: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert cli.main(["inspect", f"{module}:double", "--target", "sass"]) == 2
    assert "nvidia-cuda-nvdisasm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [("{}:lines", "batch=True"), ("{}:missing", "declares no kernel"), ("no_such_module:x", "no_such_module")],
)
def test_what_cannot_be_shown(module: Any, capsys: pytest.CaptureFixture[str], kernel: Any, reason: Any) -> None:
    assert cli.main(["inspect", kernel.format(module), "--target", "ptx"]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cc", "reason"),
    [
        ("1.0", "compute capability 1.0 is below 8.0, which kernels need"),
        ("7.5", "compute capability 7.5 is below 8.0"),
        ("8.4", "does not know compute capability 8.4; the nearest that it knows is 8.0"),
        ("99.9", "does not know compute capability 99.9; the nearest that it knows is 12.1"),
    ],
)
def test_a_gpu_that_the_compiler_does_not_know_is_not_another(
    module: Any, capsys: pytest.CaptureFixture[str], cc: Any, reason: Any
) -> None:
    assert cli.main(["inspect", f"{module}:double", "--target", "ptx", "--cc", cc]) == 2
    shown = capsys.readouterr()
    assert reason in shown.err
    assert shown.out == ""


def test_the_simulator_compiles_nothing(
    module: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = cuda_probe.cuda_facts()
    monkeypatch.setattr(cuda_probe, "cuda_facts", lambda: replace(facts, simulator=True))
    assert cli.main(["inspect", f"{module}:double", "--target", "ptx"]) == 2
    assert "NUMBA_ENABLE_CUDASIM" in capsys.readouterr().err
