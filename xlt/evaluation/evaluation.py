"""Zero-shot evaluation: score models that were trained on English, in all languages, and report."""

import logging
import shutil
import weakref
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from xlt.batch.predictions import Predictions
from xlt.config.cli import WandbSettings
from xlt.data.sources import RawSplit, Split, roots_of
from xlt.evaluation.answers import EnglishNumbers, read_answers
from xlt.evaluation.blind import Blind
from xlt.evaluation.example_tables import write_examples
from xlt.evaluation.groups import NINE
from xlt.evaluation.heat_map import save
from xlt.evaluation.image_caches import ImageCaches
from xlt.evaluation.language_loras import LanguageLoras
from xlt.evaluation.models import open_models, text_encoder
from xlt.evaluation.page import render
from xlt.evaluation.perturbations.perturbations import Perturbations, names_of
from xlt.evaluation.perturbations.similarity import Aligner
from xlt.evaluation.plan import Cell, Missing, Plan, brief, check_without_language, make_plan
from xlt.evaluation.predict import EvaluationModel, open_device, predict
from xlt.evaluation.report import Report
from xlt.evaluation.robustness import Robustness
from xlt.evaluation.scores import CellScore, ScoreFolder, fingerprint, score_of, write
from xlt.evaluation.task_values import Choice, check_distinct, check_sizes, splits_by_task, values_by_task
from xlt.evaluation.wandb_run import show
from xlt.kinds.task import Task
from xlt.splits.cache import cache_folder
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.encoding import Unlabelled
from xlt.splits.splits import Splits
from xlt.system.checks import require
from xlt.system.hashing import hash_of
from xlt.system.precision import chosen_precision
from xlt.system.tables import as_json
from xlt.tasks import load
from xlt.training.run_folder import check_writable

log = logging.getLogger(__name__)

DASHBOARD = WandbSettings(job_type="evaluate")


class Evaluation:
    """Zero-shot evaluation.

    Args:
        out: Folder for predictions, scores, tables and the heat map.
        encoder: Encoder to test without training, for retrieval: a name on the hub, a folder, or a finished
            run's folder. Defaults to none.
        runs: Folders of finished runs, or of exports of their checkpoints (xlt export). Each task
            is tested with the run that trained its head. Defaults to none.
        checkpoint: Step of the runs' checkpoint to test, which the runs must have kept
            (checkpoints.keep_every_n_steps). Defaults to the best checkpoint.
        tasks: Names of the tasks, each of which must have a model. Defaults to those of XTREME's nine tasks
            that have a model.
        languages: Languages to test in, each of which must have rows. Defaults to each task's own languages
            that have rows.
        split: `validation` or `test`, for all tasks or by task name. A task with one evaluation set always
            uses that set.
        volume: Maximum number of examples of each task in a language. In languages whose rows are
            translations of each other the examples are translations too. Retrieval always uses all examples.
            Defaults to all.
        root: Folder or list of folders of rows, as data.root of xlt fit. Defaults to the paths in XLT_DATA.
        layer: Layer whose states retrieval averages, 1 the lowest, for all tasks or by task name. Defaults to
            two above the middle, as in XTREME's scripts for Tatoeba.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch. Raise it until the device's memory
            is nearly full.
        max_length: Maximum number of tokens in a sequence, from 8 to the encoder's limit. Longer passages
            become several windows. Defaults to 512, or to the encoder's limit if that is lower.
        stride: Overlap of the windows of a passage, in tokens. Defaults to 128, or max_length - 1 if lower.
        accelerator: cpu, cuda, mps or auto.
        precision: auto is bf16-mixed on devices with bf16 instructions, 32-true on others, and as before in a
            resumed evaluation.
        cache: Folder of encoded rows. Defaults to XLT_CACHE, or ~/.cache/xlt.
        seed: Seed of the volume and of the perturbations.
        perturbations: Perturbed test sets to score too, for all tasks or by task name. `noise-5` changes
            5 percent of the letters. `mix-15` replaces 15 percent of the phrases of a parallel test set by
            their translation: English is mixed with one of `languages`, other languages with English.
            `corrupt-KIND-SEVERITY`, such as `corrupt-fog-3`, corrupts images; severities are 1 to 5.
            `no-image` drops images. `other-image` replaces images by other images of the split.
        num_mixes: Number of randomly mixed test sets for each `mix-PERCENT`, at least 1.
        aligner: Encoder that aligns words for `mix-PERCENT`: a name on the hub, a folder, or a finished run's
            folder. Use the same encoder in all evaluations that are compared, because another encoder mixes
            other phrases. Defaults to `encoder`, or to the first of `runs`.
        blind: Folder of an evaluation of runs that were trained and tested without images (data.blind:
            true), with the same tasks, languages, split, volume and seed. The report then shows the image
            gain: the score minus that evaluation's score. Defaults to none.
        language_loras: Runs with the LoRA of test languages, such as {de: runs/lora-de}. In these languages,
            they replace the language LoRA that the runs were trained on (model.language_lora). Other
            languages keep that of the training. Defaults to none.
        wandb: Project, group, job type and tags on Weights & Biases.
    """

    def __init__(
        self,
        out: Path,
        encoder: str | None = None,
        runs: list[str] | None = None,
        checkpoint: int | None = None,
        tasks: list[str] | None = None,
        languages: list[str] | None = None,
        split: Choice | dict[str, Choice] = "validation",
        volume: int | None = None,
        root: str | list[str] | None = None,
        layer: int | dict[str, int] | None = None,
        tokens_per_micro_batch: int = 16384,
        max_length: int | None = None,
        stride: int | None = None,
        accelerator: str = "auto",
        precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true",
        cache: str | None = None,
        seed: int = 0,
        perturbations: list[str] | dict[str, list[str]] | None = None,
        num_mixes: int = 4,
        aligner: str | None = None,
        blind: Path | None = None,
        language_loras: dict[str, str] | None = None,
        wandb: WandbSettings = DASHBOARD,
    ) -> None:
        check_sizes(volume, max_length, stride, tokens_per_micro_batch)
        require(checkpoint is None or bool(runs), "checkpoint", checkpoint, "be left out unless runs is set")
        check_distinct(tasks=tasks, languages=languages)
        self.out, self._needs_all_tasks = out, tasks is not None
        self._folder, self._has_news = ScoreFolder(out), False
        self.tasks = [load(name) for name in tasks or NINE]
        check_without_language(self.tasks)
        asked = values_by_task("perturbations", perturbations or [], self.tasks).items()
        drawn = {task: names_of(names, num_mixes) for task, names in asked}
        self._blind = Blind(blind, out)
        self._chosen = splits_by_task(split, self.tasks)
        if checkpoint is not None:
            shutil.rmtree(out / "exports", ignore_errors=True)  # of an evaluation that was killed
            weakref.finalize(self, shutil.rmtree, out / "exports", ignore_errors=True)
        self._models = open_models(encoder, runs or [], checkpoint, layer, out / "exports")
        self._models.check(self.tasks)
        self._language_loras = LanguageLoras(language_loras or {}, self._models.runs, self.tasks)
        folder = cache_folder(cache)
        vision = self._models.vision_settings()
        text = text_encoder(self._models.names, max_length, stride, vision.image_tokens if vision else 1)
        self._splits = Splits(roots_of(root), folder, text, is_blind=vision is not None and vision.is_blind)
        self._images = ImageCaches(folder)
        self._languages, self._volume, self._seed = languages, volume, seed
        self._tokens, self._wandb = tokens_per_micro_batch, wandb
        self._precision = chosen_precision(precision, accelerator, self._folder.precision)
        self._fabric = open_device(accelerator, self._precision)
        aligns = Aligner(aligner or self._models.names[0], hash_of, tokens_per_micro_batch, self._fabric)
        settings = folder / "alignments", aligns, seed, languages
        self._perturbations = Perturbations(drawn, self._splits, *settings)
        self._english_numbers = EnglishNumbers(self._splits)
        self._hashes: dict[str, str] = {}
        self._config: dict[str, Any] = {
            "encoder": encoder, "runs": runs, "checkpoint": checkpoint, "split": self._chosen,
            "volume": volume, "seed": seed, "perturbations": perturbations, "num_mixes": num_mixes,
            "aligner": aligner, "blind": blind and str(blind), "language_loras": language_loras,
        }  # fmt: skip
        sizes = {"max_length": text.max_length, "stride": text.stride}
        self._settings = self._config | sizes | {"precision": self._precision}
        self._last_model: tuple[tuple[str, int | None, str | None], EvaluationModel] | None = None

    def run(self) -> Report:
        """Score the cells that are not finished, write the results, and return the report."""
        asked = self.tasks, self._languages, self._models
        plan = make_plan(*asked, self._splits, self._chosen, self._needs_all_tasks, self._perturbations)
        check_writable(self.out, "the evaluation's folder", "out")
        for line in brief(plan.missing, str(self.out / "summary.json")):
            log.info("missing: %s", line)
        finished = [self._folder.read(cell, self._fingerprint(cell)) for cell in plan.cells]
        known = {c.name: score.rows for c, score in zip(plan.cells, finished, strict=True) if score}
        self._blind.check(plan.cells, lambda cell: known.get(cell.name) or self._num_examples(cell))
        scores = self._complete(plan, finished)
        answers = read_answers(plan.cells, self._folder)
        report = Report(self.tasks, scores, Robustness(scores, answers, self._blind.scores))
        self._write(report, plan)
        return report

    def _num_examples(self, cell: Cell) -> int:
        """Return the number of a cell's examples within the volume, 0 if none has a label."""
        try:
            return self._rows(cell.task, self._splits.open(cell.task, cell.split, cell.raw_splits))[1]
        except Unlabelled:
            return 0

    def _complete(self, plan: Plan, finished: Sequence[CellScore | None]) -> list[CellScore]:
        """Return the scores of all cells in order, after scoring those that are not finished."""
        scores = list(finished)
        todo = [i for i, score in enumerate(scores) if score is None]
        self._perturbations.align(part for i in todo for part in plan.cells[i].raw_splits)
        # A file or a pipe gets one line per cell instead of the bar.
        with tqdm(total=len(scores), initial=len(scores) - len(todo), disable=None, leave=False) as bar:
            for i in todo:
                bar.set_description(plan.cells[i].task.name)
                cell = plan.cells[i]
                bar.update()
                try:
                    scores[i] = score = self._score(cell)
                except Unlabelled as error:
                    log.info("missing: %s: %s", cell.name, error)
                    if not cell.perturbation:
                        plan.missing.append(Missing(cell.task.group, cell.language, str(error)))
                    continue
                self._has_news = True
                if bar.disable:
                    log.info("%s: %.1f", cell.name, score.mean)
        if not any(scores):
            raise ValueError("nothing could be scored: no row of any split has a label")
        return [score for score in scores if score is not None]

    def _fingerprint(self, cell: Cell) -> str:
        """Return a hash of everything that the cell's scores depend on."""
        if cell.model not in self._hashes:
            self._hashes[cell.model] = hash_of(cell.model)
        rows = self._splits.folder(cell.task, cell.split, cell.raw_splits)
        layer = self._models.layer_of(cell.task, cell.model)
        settings = [self._volume, self._seed, layer, self._precision]
        images = self._images.of(cell.task, cell.model)
        if images is not None:
            settings.append(images.name)
        settings += self._language_loras.settings(cell)
        if self._volume and cell.task.needs_training:
            for _, pivot in islice(self._splits.pivots(cell.task, cell.split), 1):
                # The volume chooses translations of the pivot's rows.
                settings.append(" ".join(part.fingerprint for part in pivot))
        if cell.split == "test" and cell.task.needs_tuning:
            parts = self._splits.raw_splits(cell.task, "validation")
            settings.append(self._splits.folder(cell.task, "validation", parts).name)
        return fingerprint(self._hashes[cell.model], rows, settings)

    def _score(self, cell: Cell) -> CellScore:
        """Score a cell, and write its files."""
        task = cell.task
        if cell.split == "test" and task.needs_tuning:
            task = task.tuned(task.evaluate(self._predict(cell, "validation")[0]).scores)
        predictions, examples, raw_splits = self._predict(cell, cell.split)
        result = task.evaluate(predictions)
        score = score_of(cell, result, len(examples), self._fingerprint(cell), self._precision)
        numbers = None
        if task.is_parallel and not cell.perturbation:
            numbers = self._english_numbers.of(task, cell.split)[examples]
        write_examples(self.out, cell, task, predictions, raw_splits, examples, numbers)
        classes = result.predicted_classes
        answers = None if numbers is None or classes is None else np.stack([numbers, classes], 1)
        self._folder.write(cell, score, result, answers)
        return score

    def _predict(self, cell: Cell, split: Split) -> tuple[Predictions, np.ndarray, Sequence[RawSplit]]:
        """Return predictions for a split in the cell's language, the numbers of its examples and its rows."""
        task = cell.task
        raw_splits = cell.raw_splits if split == cell.split else self._splits.raw_splits(task, split)
        stored = self._splits.open(task, split, raw_splits)
        rows, _ = self._rows(task, stored)
        images = self._images.of(task, cell.model)
        if images is not None:
            images.illustrate(task, raw_splits, stored, rows)
        predictions = predict(self._model(cell), task, stored, rows, self._tokens, self._fabric)
        return predictions, self._examples(task, stored), raw_splits

    def _rows(self, task: Task[Any], stored: EncodedSplit) -> tuple[np.ndarray, int]:
        """Return the row numbers of the examples within the volume, and the number of these examples."""
        kept = self._examples(task, stored)
        return stored.rows_of(kept), len(kept)

    def _examples(self, task: Task[Any], stored: EncodedSplit) -> np.ndarray:
        """Return the numbers of the examples within the volume."""
        return stored.subset(self._volume if task.needs_training else None, self._seed, task.group)

    def _model(self, cell: Cell) -> EvaluationModel:
        """Return the cell's model. The last model stays loaded, since cells are in the order of models."""
        layer = self._models.layer_of(cell.task, cell.model)
        key = cell.model, layer, self._language_loras.of(cell)
        if self._last_model is None or self._last_model[0] != key:
            self._last_model = None
            model = EvaluationModel(*key).eval()
            self._fabric.to_device(model)
            self._last_model = key, model
        return self._last_model[1]

    def _write(self, report: Report, plan: Plan) -> None:
        """Write all files, the results last, with which a study's node is finished; log news to W&B."""
        if report.perturbed():
            write(self.out / "perturbed.json", as_json(report.perturbed()))
        summary = report.summary() | {"missing": [missing._asdict() for missing in plan.missing]}
        summary |= self._language_loras.summary(plan.cells)
        write(self.out / "summary.json", as_json(summary))
        write(self.out / "results.csv", report.csv())
        figure = report.figure()
        save(figure, self.out / "heat_map.png")
        page = self.out, report, plan.cells, plan.missing, self._settings, self._splits, self._fabric.device
        write(self.out / "report.html", render(*page))
        write(self.out / "results.json", as_json(report.results()))
        if self._has_news:
            show(report, figure, self.out, vars(self._wandb), self._config)
