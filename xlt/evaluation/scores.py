"""Scores of finished cells on disk: an evaluation goes on where it stopped, and mixes nothing.

<out>/scores/<task>-<language>[-<perturbation>].json   metrics, rows, and a fingerprint of what they are of
<out>/example_scores/<task>-<language>[-<perturbation>].npy     float32: Task.example_scores, example by
example <out>/predictions/<task>/test-<language>.*   as XTREME's evaluator reads them
<out>/gold/<task>/test-<language>.*          what it compares them with
"""

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xlt.evaluation.plan import Cell
from xlt.kinds.task import Scores, Submission
from xlt.system.folders import WEIGHTS, model_folder
from xlt.system.hashing import hash_file
from xlt.system.tables import as_json
from xlt.training.checkpoint_files import write_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """A finished cell.

    Args:
        task: Name of the task.
        language: ISO 639-1.
        split: What it was tested on.
        model: Name of the encoder, or folder of the run.
        rows: Examples that were scored.
        metrics: In percent.
        chance: The same metrics of knowing nothing.
        details: Other figures.
        fingerprint: Of the model, the rows and the settings.
        perturbation: Name of what was done to the rows; empty for the rows as they are.
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

    @property
    def mean(self) -> float:
        """The score that is averaged: the mean of the metrics, as XTREME takes exact match and F1."""
        return sum(self.metrics.values()) / len(self.metrics)


class Outcome(NamedTuple):
    """What came out of a test."""

    scores: Scores
    submission: Submission | None
    """Files for the benchmark's evaluator; None where it has none."""
    example_scores: np.ndarray | None
    rows: int
    """Examples that were scored."""


def scored(cell: Cell, outcome: Outcome, fingerprint: str) -> Scored:
    """A cell with its scores."""
    tested = cell.task.group, cell.language, cell.split, cell.model, outcome.rows
    return Scored(*tested, *outcome.scores, fingerprint, cell.perturbation)


class Finished:
    """The finished cells of an evaluation.

    Args:
        out: The evaluation's folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def get(self, cell: Cell, fingerprint: str) -> Scored | None:
        """A cell's scores, or None where it is not finished.

        Raises:
            ValueError: They are of another model, other rows or other settings.
        """
        path = self._path(cell)
        if not path.is_file():
            return None
        try:
            found = Scored(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}): delete it to score it again") from error
        if found.fingerprint != fingerprint:
            raise ValueError(
                f"{path} has scores of {found.model} on {found.rows} rows ({found.split}): of another model, "
                f"rows or settings than {cell.model} now. Give another folder as out, or delete it"
            )
        return found

    def keep(self, cell: Cell, result: Scored, outcome: Outcome) -> None:
        """Write a cell's predictions and example scores, then its scores.

        Predictions on perturbed rows are not kept.
        """
        if outcome.submission is not None and not cell.perturbation:
            predictions, gold, suffix, note = outcome.submission
            if note:
                log.info("%s: %s", cell.name, note)
            for folder, text in (("predictions", predictions), ("gold", gold)):
                write(self._out / folder / result.task / f"test-{result.language}.{suffix}", text)
        if outcome.example_scores is not None:
            content = io.BytesIO()
            np.save(content, outcome.example_scores.astype(np.float32))
            write(self._out / "example_scores" / f"{cell.name}.npy", content.getvalue())
        write(self._path(cell), as_json(asdict(result)))

    def _path(self, cell: Cell) -> Path:
        return self._out / "scores" / f"{cell.name}.json"


def write(path: Path, content: str | bytes) -> None:
    """Give a file this content, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror}): give a folder that can as out"
        ) from error


def hash_of(model: str) -> str:
    """What tells a model from others: a hash of its weights, or its name where the hub has them.

    Raises:
        FileNotFoundError: A folder has none.
    """
    folder = Path(model_folder(model))
    if not folder.is_dir():
        return model
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if not weights:
        raise FileNotFoundError(
            f"{folder} has no weights ({WEIGHTS}): give an encoder that has, such as what xlt.export "
            "makes of a run"
        )
    digest = hashlib.sha256()
    for path in weights:
        digest.update(hash_file(path).encode())
    return digest.hexdigest()


def fingerprint(model_hash: str, rows: Path, settings: Sequence[Any]) -> str:
    """Hash of what a score depends on.

    Args:
        model_hash: What `hash_of` says of the model.
        rows: Folder of the encoded rows, whose name tells of all that they depend on.
        settings: The rest.
    """
    return hashlib.sha256(json.dumps([model_hash, rows.name, *settings]).encode()).hexdigest()
