"""Scores of an evaluation without images, against which the gain of the images is measured."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from xlt.evaluation.plan import Cell
from xlt.evaluation.robustness import CellKey
from xlt.evaluation.scores import CellScore
from xlt.models.saving import load_vision_settings
from xlt.system.checks import require

REMEDY = (
    "Set blind to the folder of an evaluation of runs with data.blind: true, with the same tasks, languages, "
    "split, volume and seed"
)


class Blind:
    """Clean scores of a finished evaluation of runs without images.

    Args:
        folder: The evaluation's folder. If None, there are no scores.
        out: Folder of the evaluation with images.

    Raises:
        FileNotFoundError: There is no such folder, or its evaluation is not finished.
        ValueError: The folder is `out` or a run's, a file is damaged, or a run was trained with images.
    """

    def __init__(self, folder: Path | None, out: Path) -> None:
        self._folder = folder
        self.scores: dict[CellKey, CellScore] = {}
        """The scores by task and language."""
        if folder is not None:
            require(folder.resolve() != out.resolve(), "blind", folder, "be another folder than out")
            found = _scores_in(folder)
            self.scores = {(score.task, score.language): score for score in found if not score.perturbation}

    def check(self, cells: Iterable[Cell], num_examples: Callable[[Cell], int]) -> None:
        """Check that the evaluation without images has the rows of an evaluation with images.

        Args:
            cells: Cells of the evaluation with images.
            num_examples: Function that returns a cell's number of examples.

        Raises:
            ValueError: No task has images, or a cell is missing or has other rows.
        """
        if self._folder is None:
            return
        of_images = [cell for cell in cells if cell.task.imagery() and not cell.perturbation]
        rule = "be left out: none of the tasks has images"
        require(bool(of_images), "blind", self._folder, rule)
        wrong = [fault for cell in of_images if (fault := self._fault(cell, num_examples(cell)))]
        if wrong:
            raise ValueError(f"blind is {self._folder}, but {'; '.join(wrong)}. {REMEDY}")

    def _fault(self, cell: Cell, num_examples: int) -> str:
        """Return the difference of a cell without images; an empty text if there is none."""
        found = self.scores.get((cell.task.group, cell.language))
        if num_examples == 0:  # no row has a label, so there is no score here either
            return ""
        if found is None:
            return f"{cell.name} is missing there"
        if (found.rows, found.split) == (num_examples, cell.split):
            return ""
        here = f"{num_examples:,} ({cell.split}) here"
        return f"{cell.name} has {found.rows:,} rows ({found.split}) there and {here}"


def _scores_in(folder: Path) -> list[CellScore]:
    """Return all scores of a finished evaluation of runs without images.

    Raises:
        FileNotFoundError: There is no such folder, or its evaluation is not finished.
        ValueError: A file is damaged, or a run was trained with images.
    """
    if (folder / "checkpoints").is_dir():
        raise ValueError(
            f"blind is {folder}, the folder of a run. Test the run first: xlt evaluate --runs "
            f"'[{folder}]' --out OUT. Then set blind to OUT"
        )
    if not (folder / "results.json").is_file():
        lacking = "results.json is missing there" if folder.is_dir() else "there is no such folder"
        raise FileNotFoundError(f"blind is {folder}, but {lacking}, so no evaluation is finished. {REMEDY}")
    scores = [_read(path) for path in sorted((folder / "scores").glob("*.json"))]
    for model in dict.fromkeys(score.model for score in scores):
        vision = load_vision_settings(model)
        if vision is not None and not vision.is_blind:
            raise ValueError(f"blind is {folder}, but {model} was trained with images. {REMEDY}")
    return scores


def _read(path: Path) -> CellScore:
    """Return the scores of a file.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return CellScore(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}). Evaluate without images again") from error
