"""Every Python block of the README runs as it stands, and prints what its comments say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_has_examples():
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(BLOCKS[number], encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert run.returncode == 0, run.stderr
    printed = run.stdout.splitlines()
    for line in BLOCKS[number].splitlines():
        promised = re.search(r"print\(.*#\s*(?P<text>\S.*)$", line)
        if promised and not promised["text"].startswith("IndexError"):
            text = promised["text"].partition(":")[0]
            assert any(text == out for out in printed), f"{text!r} was promised, printed was {printed}"


def test_first_pipeline_is_fifteen_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 15
