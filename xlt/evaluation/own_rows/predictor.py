"""Predictions of a run's model for the user's rows, chunk by chunk."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from xlt.data.features import Features, write_features
from xlt.evaluation.models import check_run, tasks_of, text_encoder
from xlt.evaluation.own_rows.columns import RowReader
from xlt.evaluation.own_rows.reading import UserRow, UserRows
from xlt.evaluation.own_rows.writing import check_output, writer
from xlt.evaluation.plan import with_classes
from xlt.evaluation.predict import EvaluationModel, open_device, run_model
from xlt.evaluation.task_values import check_sizes
from xlt.kinds.outcome import Outcome
from xlt.kinds.task import Task, group_of, name_of
from xlt.models.saving import load_heads
from xlt.system.checks import require
from xlt.system.precision import Precision
from xlt.system.tables import counted
from xlt.tasks import load

log = logging.getLogger(__name__)

DIGITS = 6
"""Number of digits of a probability after the point. Further digits depend on the chunk of a row."""


def predict_file(
    run: str,
    input: str,
    out: str = "-",
    task: str | None = None,
    columns: dict[str, str] | None = None,
    language: str | None = None,
    all_probabilities: bool = False,
    chunk_size: int = 1000,
    tokens_per_micro_batch: int = 16384,
    max_length: int | None = None,
    stride: int | None = None,
    accelerator: str = "auto",
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true",
    language_lora: str | None = None,
) -> int:
    """Predict the rows of a file or a pipe, and return the number of rows.

    Args:
        run: Folder of a finished run, or a folder that xlt export wrote without --head.
        input: The rows: a .csv, .tsv, .jsonl, .parquet or .txt file in UTF-8, or - for the standard input.
            The standard input holds one JSON object per line, or plain lines of text.
        out: File to write, whose suffix is its format: .jsonl, .csv, .tsv or .parquet. Defaults to -, which
            prints JSON lines.
        task: Name of the task that predicts, whose head the run has. Defaults to the run's only head.
        columns: Maps each column that the task reads to the name of your column, such as {premise: text_a}.
            Defaults to the task's own names.
        language: Language of the rows, such as sw, for tasks whose rules depend on the language. Defaults to
            none.
        all_probabilities: True to add the probabilities of all classes.
        chunk_size: Number of rows that are read, predicted and written at a time. A larger chunk is faster,
            and a pipe gets results later.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch. Raise it until the device's memory
            is nearly full.
        max_length: Maximum number of tokens in a sequence. Longer passages become several windows. Defaults
            to 512, or to the encoder's limit if that is lower, as in xlt evaluate.
        stride: Overlap of the windows of a passage, in tokens. Defaults to 128, or max_length - 1 if lower.
        accelerator: cpu, cuda, mps or auto.
        precision: auto is bf16-mixed on devices with bf16 instructions, and 32-true on others.
        language_lora: Run with the LoRA of the rows' language, such as runs/lora/de, for a run with
            model.language_lora. Defaults to the LoRA that the run was trained with.

    Raises:
        FileNotFoundError: The run, the input, or the folder of the output does not exist.
        ValueError: The run has no such head, a column is missing, or a row cannot be read.
    """
    check_sizes(None, max_length, stride, tokens_per_micro_batch)
    require(chunk_size >= 1, "chunk_size", chunk_size, "be at least 1 row")
    check_run(run)
    check_output(out, input)
    chosen = choose_task(run, task, language)
    rows = UserRows(input)
    reader = RowReader(chosen, rows, columns or {})
    model = EvaluationModel(run, language_lora=language_lora).eval()
    sizes = tokens_per_micro_batch, max_length, stride
    predictor = Predictor(model, chosen, *sizes, accelerator, precision, all_probabilities)
    num_rows = 0
    with writer(out) as write:
        while chunk := list(islice(rows, chunk_size)):
            examples = [reader.read(row) for row in chunk]
            outcomes = predictor.predict(examples)
            write([with_outcome(row, outcome) for row, outcome in zip(chunk, outcomes, strict=True)])
            num_rows += len(chunk)
    log.info("%s predicted by %s: %s", counted(num_rows, "row"), chosen.name, out)
    return num_rows


class Predictor:
    """A run's model for a task, which predicts examples.

    Args:
        model: The run's model.
        task: The task, with the classes of its head.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch.
        max_length: Maximum number of tokens in a sequence.
        stride: Overlap of the windows of a passage, in tokens. If None, 128, or the most that fits.
        accelerator: cpu, cuda, mps or auto.
        precision: auto is bf16-mixed on devices with bf16 instructions, and 32-true on others.
        all_probabilities: True to keep the probabilities of all classes.
    """

    def __init__(
        self,
        model: EvaluationModel,
        task: Task[Any],
        tokens_per_micro_batch: int,
        max_length: int | None,
        stride: int | None,
        accelerator: str,
        precision: Precision,
        all_probabilities: bool = False,
    ) -> None:
        self._task, self._tokens = task, tokens_per_micro_batch
        self._kept: Literal["all", "predicted"] = "all" if all_probabilities else "predicted"
        self._text = text_encoder([model.name], max_length, stride, 1)
        self._fabric, self._model = open_device(accelerator, precision), model
        self._fabric.to_device(model)

    def predict(self, examples: Sequence[Any]) -> list[Outcome]:
        """Return the outcomes of examples, in order. Labels of the examples are not used.

        Raises:
            NotFiniteError: A logit is NaN or infinite.
        """
        columns, _ = self._task.encode(examples, 0, self._text)
        with TemporaryDirectory(prefix="xlt-predict-") as folder:
            path = Path(folder) / "features.arrow"
            num_rows, _ = write_features(path, [columns])
            features = Features(path)
            asked = self._model, self._task, features, np.arange(num_rows), self._tokens, self._fabric
            buffer = run_model(*asked, probabilities=self._kept)
            predictions = buffer.predictions(features, [self._task.reference(e) for e in examples])
            return list(self._task.outcomes(predictions, examples) or ())


def choose_task(run: str, name: str | None, language: str | None) -> Task[Any]:
    """Return the task that predicts with a run's head, with the classes of the head.

    Args:
        run: Folder of a run or of an export.
        name: Name of the task. If None, the task of the run's only head.
        language: Language of the rows. If None, none.

    Raises:
        ValueError: The run lacks the head, has several heads if no task is named, or the task cannot predict
            single rows of text.
    """
    heads, trained = sorted(load_heads(run)[0]), tasks_of(run)
    if name is None:
        if len(heads) != 1:
            if not heads:
                raise ValueError(f"{run} has no head that predicts rows: name a run of a task with labels")
            known = list(dict.fromkeys(task.partition("/")[0] for task in trained)) or heads
            raise ValueError(
                f"task is required, because {run} has several heads: set --task to the task that predicts, "
                f"such as {', '.join(known)}"
            )
        name = next((task.partition("/")[0] for task in trained), heads[0])
    # A task of one's own may be named without its package, as its head is.
    own = {group_of(name_of(task)): task.partition("/")[0] for task in trained}
    task = load(own.get(name, name))
    if task.head_key not in heads:
        raise ValueError(
            f"task is {name}, whose head {task.head_key} is not among the heads of {run}: "
            f"{', '.join(heads) or 'none'}. Set --task to a task of these heads, or --run to another run"
        )
    if type(task).outcomes is Task.outcomes:
        raise ValueError(f"task is {name}, which does not predict single rows. Use xlt evaluate")
    if task.imagery() is not None:
        raise ValueError(
            f"task is {name}, which reads images: xlt predict reads text alone. Write a task of your own for "
            "the rows and use xlt evaluate"
        )
    return with_classes(replace(task, name=f"{task.group}/{language}") if language else task, run)


def with_outcome(row: UserRow, outcome: Outcome) -> dict[str, Any]:
    """Return the user's columns of a row, with the prediction and its probability.

    Raises:
        ValueError: The row has a column of that name.
    """
    added = {**outcome.details, "prediction": outcome.prediction, "probability": rounded(outcome.probability)}
    if outcome.probabilities is not None:
        added["probabilities"] = rounded(outcome.probabilities)
    taken = [name for name in added if row.values.get(name, added[name]) != added[name]]
    if taken:
        raise ValueError(
            f"{row.place}: the column {taken[0]} exists already, and a prediction gets this name. Rename the "
            "column in the input"
        )
    return {**row.values, **added}


def rounded(values: Any) -> Any:
    """Return probabilities with DIGITS digits after the point."""
    if isinstance(values, dict):
        return {name: rounded(value) for name, value in values.items()}
    if isinstance(values, list):
        return [rounded(value) for value in values]
    return None if values is None else round(values, DIGITS)
