"""The notebook runs on a study's table, from the first cell to the last, and is stored without outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient
from synthetic_study import scores_of

from xlt.studies.analysis.results import read_scores

NOTEBOOK = REPOSITORY / "notebooks" / "study.ipynb"


def outputs(notebook: Any) -> list[Any]:
    """All outputs of the cells."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def executed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook after a run on a table of scores."""
    monkeypatch.setenv("XLT_STUDY", str(path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("IPYTHONDIR", str(path.parent / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(REPOSITORY)}}).execute()
    return notebook


def test_the_notebook_is_stored_without_outputs():
    assert outputs(nbformat.read(NOTEBOOK, as_version=4)) == []


def test_the_notebook_draws_the_curves_and_a_languages_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = scores_of(["mnli"], [100, 1000], [0, 1], ["xnli", "xquad"], [""])
    table.to_csv(tmp_path / "scores.csv", index=False)
    found = outputs(executed(tmp_path / "scores.csv", monkeypatch))
    pictures = [output.data["image/svg+xml"] for output in found if "image/svg+xml" in output.get("data", {})]
    assert len(pictures) == 3
    assert "Swahili, XNLI" in pictures[-1]
    assert not [output for output in found if output.output_type == "error" or output.get("name") == "stderr"]


def test_a_language_that_the_study_lacks_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    table = scores_of(["mnli"], [100], [0], ["pawsx"], [""])
    table[table["language"].isin(["en", "de"])].to_csv(tmp_path / "scores.csv", index=False)
    found = outputs(executed(tmp_path / "scores.csv", monkeypatch))
    assert any("German, PAWS-X" in output.get("data", {}).get("image/svg+xml", "") for output in found)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "docs").glob("study-*/scores.csv")))
def test_the_scores_of_the_committed_studies_can_be_read(path: Path):
    assert len(read_scores(path)) > 100
