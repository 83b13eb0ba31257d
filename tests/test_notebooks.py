"""The notebooks run from top to bottom without an error or a warning, and are stored without outputs."""

from pathlib import Path

import matplotlib.font_manager  # noqa: F401 (the first import on a machine builds a cache, with a message)
import nbclient
import nbformat
import pytest

# Most of a notebook's time is compiling, and most of what they do is tested elsewhere.
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def _read(path):
    return nbformat.read(path, as_version=4)


def _code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_without_outputs(path):
    book = _read(path)
    nbformat.validate(book)
    for cell in _code(book):
        assert not cell.outputs and cell.execution_count is None, f"clear the outputs of {path.name}"
        assert max(map(len, cell.source.splitlines())) <= 110, cell.source


@pytest.mark.filterwarnings("default")  # of the Jupyter client itself
@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path):
    book = _read(path)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3", resources=resources).execute()
    for cell in _code(book):
        complaints = [output.text for output in cell.outputs if output.get("name") == "stderr"]
        assert not complaints, f"{cell.source}\n{''.join(complaints)}"
