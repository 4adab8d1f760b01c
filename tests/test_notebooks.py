"""Each notebook runs from top to bottom; its cells assert what they claim, and the figure is drawn."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.filterwarnings("ignore")  # of jupyter's own


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_is_one():
    assert [path.name for path in NOTEBOOKS] == ["first_steps.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_committed_with_its_outputs(path):
    committed = outputs(nbformat.read(path, as_version=4))
    assert any("image/png" in output.get("data", {}) for output in committed)
    assert any("IndexError" in output.get("text", "") for output in committed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    fresh = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in fresh)
    assert any("[2, 3]" in str(output.get("data", {}).get("text/plain", "")) for output in fresh)
    assert any("IndexError: index 9" in output.get("text", "") for output in fresh)
