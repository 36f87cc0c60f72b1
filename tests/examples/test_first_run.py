"""`docs/first_run.ipynb` runs from its first cell to its last, in a kernel of its own."""

import warnings
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first_run.ipynb"


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Executes the notebook in an empty folder and gives it back with its outputs."""
    # Its own way of saying where it keeps its files, instead of a warning.
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name.lower()))

    def execute(iterations=None):
        from nbclient import NotebookClient

        if iterations is not None:
            monkeypatch.setenv("LAPWING_NOTEBOOK_ITERATIONS", str(iterations))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        with warnings.catch_warnings():
            # Of the packages that talk to the kernel, about each other and about encryption on this machine.
            warnings.simplefilter("ignore")
            NotebookClient(notebook, timeout=280, kernel_name="python3").execute(cwd=str(tmp_path))
        return notebook

    return execute


def printed(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    return "".join(output.get("text", "") for output in outputs)


def check(notebook):
    text = printed(notebook)
    assert "optimal          1.00" in text
    assert "16 episodes" in text
    assert "group_return_to_go" in text
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_the_notebook_runs_with_two_iterations(execute):
    check(execute(iterations=2))


def test_the_notebook_runs_as_it_stands(execute):
    notebook = execute()
    check(notebook)
    assert "success: True" in printed(notebook)


def test_the_stored_outputs_are_those_of_one_run_in_order_or_there_are_none():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in cells]
    assert counts in ([None] * len(cells), list(range(1, len(cells) + 1)))
    # No path of the machine that ran it.
    assert "/home/" not in NOTEBOOK.read_text("utf-8")
    assert "/tmp/" not in NOTEBOOK.read_text("utf-8")
