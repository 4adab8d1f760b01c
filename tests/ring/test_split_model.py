"""The model of a shared span in Promela holds, and does not where it is changed for the worse.

Needs SPIN and a C compiler; `test_split_orders.py` plays the code itself, without either.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = (Path(__file__).parents[1] / "models" / "share.pml").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(
    not (shutil.which("spin") and shutil.which("gcc")), reason="needs spin (Debian has it under this name) and gcc"
)


def errors(model: str, tmp_path: Path, helpers: int, parts: int, spans: int) -> int:
    """How many errors SPIN finds: 0, or the first."""
    (tmp_path / "model.pml").write_text(model, encoding="utf-8")
    sizes = [f"-DHELPERS={helpers}", f"-DPARTS={parts}", f"-DSPANS={spans}"]
    for command in (
        ["spin", *sizes, "-a", "model.pml"],
        ["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048", "-o", "pan", "pan.c"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    said = subprocess.run(["./pan", "-m100000"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert "max search depth too small" not in said.stdout
    found = re.search(r"errors: (\d+)", said.stdout)
    assert found, said.stdout
    return int(found[1])


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("helpers", "parts", "spans"), [(2, 2, 1), (1, 3, 1), (1, 2, 2)])
def test_the_model_holds(tmp_path: Path, helpers: int, parts: int, spans: int) -> None:
    assert errors(MODEL, tmp_path, helpers, parts, spans) == 0


ENTER = """:: seen < 0 -> break
        :: seen >= 0 ->
            if
            :: atomic { gate == seen -> gate = gate + 1 }"""
TAKE = "atomic { i = next_part; next_part = next_part + (next_part <= PARTS + HELPERS -> 1 : 0) }"
RUN = "run_part(i, mine)\n            fi\n        :: true -> break  "
LEAVE = "        gate = gate - 1;\n"
MUTATIONS = {
    "the leader does not wait": (":: gate == CLOSED\n        :: revoked", ":: true\n        :: revoked"),
    "the leader does not see that it was revoked": (
        ":: gate == CLOSED\n        :: revoked -> goto gone\n",
        ":: gate == CLOSED\n",
    ),
    "a helper comes in through a closed gate": (
        ENTER,
        ENTER.replace(":: seen < 0 -> break\n        :: seen >= 0", ":: true"),
    ),
    "a helper leaves before it is done": (
        RUN,
        RUN.replace("run", "gate = gate - 1; run").replace("\n", "; gate = gate + 1\n", 1),
    ),
    "a helper does not leave": (LEAVE, ""),
    "two take the same part": (TAKE, "i = next_part; next_part = i + 1"),
    "the gate is not closed": ("        close_gate(seen);\n", ""),
    "a failed part counts": ("part[good] == DONE -> good++", "part[good] != NEW -> good++"),
    "what was revoked is committed": (":: !revoked -> assert", ":: true -> assert"),
    "the gate opens too early": ("        assert(gate == CLOSED);\n", "        assert(gate == CLOSED); gate = 0;\n"),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_model_does_not(tmp_path: Path, mutation: str) -> None:
    before, after = MUTATIONS[mutation]
    assert before in MODEL
    mutated = MODEL.replace(before, after)
    assert any(errors(mutated, tmp_path, *sizes) for sizes in [(1, 2, 2), (2, 2, 1)])
