"""`ringkernel doctor` says what is wrong, and what to do, in a narrow terminal too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ringkernel import doctor
from ringkernel.cli import main, nbytes
from ringkernel.extras import EXTRAS, installing

if TYPE_CHECKING:
    from pathlib import Path


def test_a_machine_that_is_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(doctor, "allowed_cores", lambda: 4)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert "a kernel         ok: compiled, launched and run" in out
    assert "NOT WELL" not in out


def test_a_cache_that_cannot_be_written_is_not_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "_kernel", lambda: doctor.Finding("a kernel", True, ""))
    (tmp_path / "file").touch()
    monkeypatch.setenv("RINGKERNEL_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert main(["doctor"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "compile cache NOT WELL" in out
    assert "set RINGKERNEL_CACHE_DIR to a directory that you may write to" in out


def test_one_core_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "allowed_cores", lambda: 1)
    finding = doctor._cores()
    assert not finding.is_well
    assert "which is slow" in finding.text


def test_what_is_missing_is_said_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "metrics", ("no_such_module",))
    assert doctor._extra("metrics").text == f"not there (no_such_module); to install it: {installing('metrics')}"
    assert installing("a", "b") == 'pip install ".[a,b]" in the checkout'


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (268435456, "256 MiB"), (2**33, "8 GiB")]
)
def test_bytes_are_in_human_units(count: int, text: str) -> None:
    assert nbytes(count) == text
