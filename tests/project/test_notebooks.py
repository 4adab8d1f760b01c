"""Each notebook runs from top to bottom, its cells assert what they claim, and what they show is what is committed; the
examples of the pages run in a notebook, too."""

import re
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, blocks, promised

nbclient = pytest.importorskip("nbclient", reason="needs the extra `notebook`")
nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebook`")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.filterwarnings("ignore")  # of jupyter's own


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def shown(cell: Any) -> list[str]:
    """What a cell shows, to be compared: its text, and that there is a picture. Of a cell tagged `varies`, whose text
    has times in it, only of which kinds its outputs are. An empty display is what is left of a progress bar."""
    found = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found += [f"{output.name}: {output.text}"] if output.name == "stdout" else []
        elif output.output_type == "error":
            found.append(f"error: {output.ename}: {output.evalue}")
        elif text := output.data.get("text/plain", ""):
            found.append(f"{'picture' if 'image/png' in output.data else 'text'}: {text}")
    if "varies" in cell.metadata.get("tags", ()):
        return sorted({one.partition(":")[0] for one in found})
    return [re.sub(r'File "[^"]+"', 'File "<cell>"', "".join(found))]  # stdout may come in pieces


def test_they_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "cpu_and_gpu",
        "feedback",
        "first_steps",
        "flights_live",
        "market",
        "socket_pipeline",
        "tracking",
        "when_a_kernel_fails",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_runs_and_shows_what_is_committed(path: Path) -> None:
    committed, notebook = read(path), read(path)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for before, now in zip(committed.cells, notebook.cells, strict=True):
        if now.cell_type == "code":
            assert shown(now) == shown(before), now.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_it_checks_itself_and_measures(path: Path) -> None:
    code = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert sum(cell.source.count("assert ") for cell in code) >= 3
    assert any("perf_counter" in cell.source and "varies" in cell.metadata.get("tags", ()) for cell in code)
    assert all(output.get("name") != "stderr" for cell in code for output in cell.outputs)


def test_the_examples_of_the_pages_run_in_a_notebook() -> None:
    """Cell by cell, as the guide says: a name that is declared again is the new one's."""
    examples = list(blocks("python").values())
    cells = [nbformat.v4.new_code_cell(code.replace("asyncio.run(main())", "await main()")) for code in examples]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for code, cell in zip(examples, notebook.cells, strict=True):
        printed = "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        assert printed.splitlines() == promised(code)
