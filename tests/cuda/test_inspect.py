"""`ringkernel inspect`, and machine code without a GPU."""

from __future__ import annotations

import shutil

import pytest

from ringkernel import cli

SOURCE = """
import ringkernel as rk

@rk.ring_kernel("double", input_type=float, output_type=float)
def double(msg, out):
    out.value = 2 * msg.value

@rk.ring_kernel("lines", input_type=float, batch=True)
def lines(msgs):
    pass
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "kernels_to_inspect.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize(
    ("target", "wanted"), [("llvm", "define"), ("asm", ".globl"), ("ptx", ".target sm_80"), ("sass", "EXIT")]
)
def test_what_a_kernel_becomes(module, capsys, target, wanted):
    code = cli.main(["inspect", f"{module}:double", "--target", target, "--cc", "8.0"])
    shown = capsys.readouterr()
    if target == "sass" and shutil.which("nvdisasm") is None:
        assert code == 2
        assert "nvdisasm is not on the PATH" in shown.err
    else:
        assert (code, shown.err) == (0, "")
        assert wanted in shown.out


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [("{}:lines", "batch=True"), ("{}:missing", "declares no kernel"), ("no_such_module:x", "no_such_module")],
)
def test_what_cannot_be_shown(module, capsys, kernel, reason):
    assert cli.main(["inspect", kernel.format(module), "--target", "ptx"]) == 2
    assert reason in capsys.readouterr().err
