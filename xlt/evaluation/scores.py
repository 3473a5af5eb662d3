"""Scores of finished cells on disk, so that an evaluation resumes and never mixes different models or rows.

<out>/scores/<task>-<language>[-<perturbation>].json          metrics, rows and a fingerprint
<out>/example_scores/<task>-<language>[-<perturbation>].npy   float32, see Task.example_scores
<out>/answers/<task>-<language>.npy                           int32 (E, 2), see ScoreFolder.answers
<out>/examples/<task>/<language>[-<perturbation>].parquet     see xlt.evaluation.example_tables
<out>/predictions/<task>/test-<language>.*                    predictions in the format of XTREME's evaluator
<out>/gold/<task>/test-<language>.*                           gold answers in the same format
"""

import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from xlt.evaluation.plan import Cell
from xlt.kinds.task import TaskResult
from xlt.metrics.collapse import is_collapsed
from xlt.system.files import write_atomically
from xlt.system.precision import FixedPrecision
from xlt.system.tables import as_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CellScore:
    """Scores of a finished cell.

    Args:
        task: Name of the task.
        language: ISO 639-1 code.
        split: The split.
        model: Name of the encoder, or folder of the run.
        rows: Number of scored examples.
        metrics: Metrics in percent.
        chance: The same metrics of a model that knows nothing, in percent.
        details: Other figures.
        fingerprint: Hash of the model, the rows and the settings.
        perturbation: Name of the perturbation of the rows. Empty for rows as they are.
        precision: Precision of the computation. Empty in scores of earlier versions.
    """

    task: str
    language: str
    split: str
    model: str
    rows: int
    metrics: Mapping[str, float]
    chance: Mapping[str, float]
    details: Mapping[str, float]
    fingerprint: str
    perturbation: str = ""
    precision: str = ""

    @property
    def mean(self) -> float:
        """The cell's score: the mean of its metrics, as XTREME averages exact match and F1."""
        return sum(self.metrics.values()) / len(self.metrics)

    @property
    def is_collapsed(self) -> bool:
        """True if the model's predictions have collapsed; False too if the cell cannot be judged."""
        return is_collapsed(self.details)


def score_of(
    cell: Cell, result: TaskResult, num_examples: int, fingerprint: str, precision: str
) -> CellScore:
    """Return the scores of a cell.

    Args:
        cell: The cell.
        result: Result of its predictions.
        num_examples: Number of scored examples.
        fingerprint: Hash of the model, the rows and the settings.
        precision: Precision of the computation.
    """
    tested = cell.task.group, cell.language, cell.split, cell.model, num_examples
    return CellScore(*tested, *result.scores, fingerprint, cell.perturbation, precision)


FILES = ("results.json", "results.csv", "report.html", "heat_map.png", "summary.json")
"""Files that an evaluation writes when all cells are scored, beside `scores`."""


class ScoreFolder:
    """Folder of an evaluation with the scores of its finished cells.

    Args:
        out: The folder.

    Raises:
        ValueError: The folder is a run's, or has files of another origin that the evaluation would replace.
    """

    def __init__(self, out: Path) -> None:
        found = [name for name in FILES if (out / name).exists()]
        if (out / "checkpoints").is_dir() or (found and not (out / "scores").is_dir()):
            what = "is the folder of a run" if (out / "checkpoints").is_dir() else f"has {found[0]} already"
            raise ValueError(
                f"out is {out}, which {what}: the evaluation would replace its files. Set out to a folder of "
                f"its own, such as {out / 'evaluation'}"
            )
        self._out = out

    @property
    def precision(self) -> FixedPrecision | None:
        """Precision of the finished cells, or None if there are no cells or they do not tell."""
        for path in self._out.glob("scores/*.json"):
            with suppress(ValueError, OSError, AttributeError):  # `read` reports a damaged file
                found = json.loads(path.read_text(encoding="utf-8")).get("precision")
                if found in get_args(FixedPrecision):
                    return found
        return None

    def read(self, cell: Cell, fingerprint: str) -> CellScore | None:
        """Return the scores of a cell, or None if the cell is not finished.

        Raises:
            ValueError: The file is damaged, or its scores are of another model, other rows or other settings.
        """
        path = self._path(cell)
        if not path.is_file():
            return None
        try:
            found = CellScore(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}). Delete the file to score again") from error
        if found.fingerprint != fingerprint:
            how = ", ".join(filter(None, (found.split, found.precision)))
            raise ValueError(
                f"{path} has scores of {found.model} on {found.rows} rows ({how}): of another model, rows or "
                f"settings than {cell.model} now. Set out to another folder, or delete the file"
            )
        return found

    def is_finished(self, cell: Cell) -> bool:
        """Return True if the folder has scores of the cell."""
        return self._path(cell).is_file()

    def answers(self, cell: Cell) -> np.ndarray | None:
        """Return the answers of a finished cell, int32, shape (E, 2); None if there are none.

        Each example has the row number of its English translation, -1 if it is unknown, and its predicted
        class.

        Raises:
            ValueError: The file is damaged.
        """
        path = self._answers_path(cell)
        if not path.is_file():
            return None
        try:
            return np.load(path)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}). Delete {self._path(cell)} to score again"
            ) from error

    def write(
        self, cell: Cell, score: CellScore, result: TaskResult, answers: np.ndarray | None = None
    ) -> None:
        """Write predictions, example scores and answers of a cell, then its scores.

        Predictions for perturbed rows are not written.

        Args:
            cell: The cell.
            score: Its scores.
            result: Its result.
            answers: Its answers, see `answers`. Defaults to none.
        """
        if result.submission is not None and not cell.perturbation:
            predictions, gold, suffix, note = result.submission
            if note:
                log.info("%s: %s", cell.name, note)
            for folder, text in (("predictions", predictions), ("gold", gold)):
                write(self._out / folder / score.task / f"test-{score.language}.{suffix}", text)
        if result.example_scores is not None:
            path = self._out / "example_scores" / f"{cell.name}.npy"
            _write_array(path, result.example_scores.astype(np.float32))
        if answers is not None:
            _write_array(self._answers_path(cell), answers.astype(np.int32))
        write(self._path(cell), as_json(asdict(score)))

    def _path(self, cell: Cell) -> Path:
        return self._out / "scores" / f"{cell.name}.json"

    def _answers_path(self, cell: Cell) -> Path:
        return self._out / "answers" / f"{cell.name}.npy"


def _write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as a file of numpy."""
    content = io.BytesIO()
    np.save(content, array)
    write(path, content.getvalue())


def write(path: Path, content: str | bytes) -> None:
    """Write a file in an evaluation's folder, completely or not at all.

    Raises:
        OSError: The file cannot be written.
    """
    with writing(path):
        write_atomically(path, content)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file in an evaluation's folder, and explain an error inside the block.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}). Set out to a folder that can be written"
        ) from error


def fingerprint(model_hash: str, rows: Path, settings: Sequence[Any]) -> str:
    """Return a hash of everything that a score depends on.

    Args:
        model_hash: Hash of the model, from `hash_of`.
        rows: Folder of the encoded rows, whose name identifies the rows.
        settings: All other settings.
    """
    return hashlib.sha256(json.dumps([model_hash, rows.name, *settings]).encode()).hexdigest()
