"""Each notebook runs from top to bottom, its cells assert what they claim, and the figure is drawn; the examples of the
pages run in a notebook, too."""

from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, blocks, promised

nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.filterwarnings("ignore")  # of jupyter's own


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_is_one() -> None:
    assert [path.name for path in NOTEBOOKS] == ["first_steps.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_is_committed_with_its_outputs(path: Path) -> None:
    committed = outputs(nbformat.read(path, as_version=4))
    assert any("image/png" in output.get("data", {}) for output in committed)
    assert any("IndexError" in output.get("text", "") for output in committed)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    fresh = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in fresh)
    assert any("[2, 3]" in str(output.get("data", {}).get("text/plain", "")) for output in fresh)
    assert any("IndexError: index 9" in output.get("text", "") for output in fresh)


def test_the_examples_of_the_pages_run_in_a_notebook() -> None:
    """Cell by cell, as the guide says: a name that is declared again is the new one's."""
    examples = list(blocks("python").values())
    cells = [nbformat.v4.new_code_cell(code.replace("asyncio.run(main())", "await main()")) for code in examples]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for code, cell in zip(examples, notebook.cells, strict=True):
        printed = "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        assert printed.splitlines() == promised(code)
