"""Test in all languages what English taught: `python -m xlt.evaluate --config configs/evaluate/xtreme.yaml`.

The same command again goes on where it stopped: a task in a language that is finished is kept. What cannot be
tested is said, shown as missing, and left out of no average without a word.
"""

import logging
import shutil
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

if __name__ == "__main__":
    # What is finished is whole and kept, so a signal may end it at any time.
    from xlt.system.signals import leave_at_signals

    leave_at_signals()

from lightning.fabric import Fabric
from tqdm import tqdm

from xlt.config.cli import WandbSettings, run_verb
from xlt.config.parser import VerbParser
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sources import Split, roots_of
from xlt.evaluation.groups import GROUPS
from xlt.evaluation.perturbations.perturbations import Perturbations, names_of
from xlt.evaluation.perturbations.similarity import Aligner
from xlt.evaluation.plan import (
    Cell,
    Choice,
    Missing,
    Models,
    Plan,
    check_run,
    check_without_language,
    in_words,
    make_plan,
)
from xlt.evaluation.predict import EvaluationModel, predict
from xlt.evaluation.report import Report, save
from xlt.evaluation.scores import Finished, Outcome, Scored, fingerprint, hash_of, scored, write
from xlt.evaluation.wandb_run import show
from xlt.kinds.task import Task, name_of
from xlt.models.encoders.text import check_vocabulary, load_config, most_tokens
from xlt.splits.splits import Splits
from xlt.splits.store import EncodedSplit, Unlabelled, cache_folder
from xlt.system.checks import require
from xlt.system.folders import MODEL
from xlt.system.memory import keep_memory
from xlt.system.tables import as_json
from xlt.tasks import by_task, load
from xlt.training.exporting import export_run
from xlt.training.precision import warn_of_slow_bf16
from xlt.training.run_folder import check_writable

log = logging.getLogger(__name__)

V = TypeVar("V")

DASHBOARD = WandbSettings(job_type="evaluate")

NINE = [task for group in GROUPS.values() for task in group]


class Evaluation:
    """Zero-shot evaluation.

    Args:
        out: Folder for predictions, scores, tables and the picture.
        encoder: The encoder as it is, for retrieval: a name on the hub, a folder, or a finished run's.
        runs: Folders of finished runs, or of exports of their checkpoints (python -m xlt.export): a task is
            tested with the run that trained its head.
        checkpoint: Step of the runs' checkpoint to test, which they must have kept
            (checkpoints.keep_every_n_steps); the best where not given.
        tasks: Names of the tasks, each of which must have a model; where not given, XTREME's nine, as far as
            there are models for them.
        languages: Languages to test in, which must have rows; where not given, each task's own that have.
        split: `validation` or `test`, for all tasks or by name; tasks with one set to evaluate on take it.
        volume: Maximum number of examples of each task in a language. In languages whose rows are
            translations of each other the examples are translations too. Retrieval always takes all. Defaults
            to all.
        root: Folder or folders that mirror the hub; where not given, the paths in XLT_DATA.
        layer: Layer whose states retrieval averages, 1 the lowest, for all tasks or by name; where not given,
            two above the middle, which is what XTREME's scripts take on Tatoeba.
        tokens_per_micro_batch: Most tokens in a batch.
        max_length: Most tokens in a sequence; longer passages become windows.
        stride: Tokens by which the windows of a passage overlap.
        accelerator: cpu, cuda, mps or auto.
        precision: 32-true or bf16-mixed.
        cache: Folder of encoded rows; where not given, XLT_CACHE, or ~/.cache/xlt.
        seed: Of the volume and the perturbations.
        perturbations: What to test under besides: `noise-5` changes 5 percent of the letters, `mix-15` puts
            15 percent of the phrases of a parallel test set into another language: into English one of
            `languages`, into the others English. For all tasks or by name.
        num_mixes: How many times each mixing is drawn.
        aligner: Encoder that aligns words for `mix-...`: a name on the hub, a folder, or a finished run's.
            Name the same one for all evaluations that are compared: another encoder mixes other phrases.
            Defaults to `encoder`, or the first of `runs`.
        wandb: Where the evaluation stands on the dashboard.
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
        max_length: int = 512,
        stride: int = 128,
        accelerator: str = "auto",
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
        cache: str | None = None,
        seed: int = 0,
        perturbations: list[str] | dict[str, list[str]] | None = None,
        num_mixes: int = 4,
        aligner: str | None = None,
        wandb: WandbSettings = DASHBOARD,
    ) -> None:
        require(volume is None or volume >= 1, "volume", volume, "be at least 1 example")
        require(max_length >= 8, "max_length", max_length, "be at least 8 tokens")
        require(0 <= stride < max_length, "stride", stride, "lie between 0 and max_length")
        require(
            tokens_per_micro_batch >= 1, "tokens_per_micro_batch", tokens_per_micro_batch, "be at least 1"
        )
        require(checkpoint is None or bool(runs), "checkpoint", checkpoint, "be one of the runs': name them")
        for key, names in (("tasks", tasks), ("languages", languages)):
            fits = names is None or 0 < len(names) == len(set(map(name_of, names)))
            require(fits, key, names, "name at least one, each once, or be left out")
        self.out, self.tasks = out, [load(name) for name in tasks or NINE]
        check_without_language(self.tasks)
        asked = _by_task("perturbations", perturbations or [], self.tasks)
        drawn = {task: names_of(names, num_mixes) for task, names in asked.items()}
        self._chosen, self._all_tasks = _choices(split, self.tasks), tasks is not None
        self._models = self._open_models(encoder, runs or [], checkpoint)
        names = [name for name in (encoder, *self._models.runs) if name]
        if not names:
            raise ValueError("nothing to evaluate: name an encoder, or the folders of runs")
        self._models.check(self.tasks)
        self._length = min(max_length, *(most_tokens(load_config(name)) for name in names))
        self._layer = by_task(layer) if isinstance(layer, Mapping) else layer
        self._check_layers()
        folder = cache_folder(cache)
        text = TextEncoder(load_tokenizer(names[0]), self._length, min(stride, self._length - 1))
        for name in names:
            check_vocabulary(name, text.num_ids)
        self._splits = Splits(roots_of(root), folder, text)
        self._languages, self._volume, self._seed = languages, volume, seed
        self._tokens, self._wandb, self._precision = tokens_per_micro_batch, wandb, precision
        try:
            self._fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
        except RuntimeError as error:
            raise ValueError(f"accelerator {accelerator!r} with precision {precision!r}: {error}") from error
        warn_of_slow_bf16(precision, self._fabric.device.type, "precision")
        keep_memory(self._fabric.device.type)
        aligns = Aligner(aligner or names[0], hash_of, tokens_per_micro_batch, self._fabric)
        self._perturbations = Perturbations(
            drawn, self._splits, folder / "alignments", aligns, seed, languages
        )
        self._finished = Finished(out)
        self._hashes: dict[str, str] = {}
        self._config = {
            "encoder": encoder,
            "runs": runs,
            "checkpoint": checkpoint,
            "split": self._chosen,
            "volume": volume,
            "seed": seed,
            "perturbations": perturbations,
            "num_mixes": num_mixes,
            "aligner": aligner,
        }
        self._has_news = False
        self._tested: tuple[tuple[str, int | None], EvaluationModel] | None = None

    def _open_models(self, encoder: str | None, runs: Sequence[str], checkpoint: int | None) -> Models:
        """Return the models to test, in folders as of finished runs.

        Raises:
            FileNotFoundError: Not one of the runs named can be tested.
        """
        exports = self.out / "exports"
        if checkpoint is not None:
            shutil.rmtree(exports, ignore_errors=True)  # of an evaluation that was killed
            weakref.finalize(self, shutil.rmtree, exports, ignore_errors=True)
        there: list[str] = []
        absent: dict[str, str] = {}
        for number, run in enumerate(runs):
            try:
                there.append(_exported(run, checkpoint, exports / f"{number}-{Path(run).name}"))
            except FileNotFoundError as error:
                absent[run] = str(error)
        if absent and not there:
            raise FileNotFoundError("; ".join(absent.values()))
        return Models(encoder, tuple(there), absent)

    def run(self) -> Report:
        """Test what is not finished, and write what came out."""
        asked = self.tasks, self._languages, self._models
        plan = make_plan(*asked, self._splits, self._chosen, self._all_tasks, self._perturbations)
        check_writable(self.out, "the evaluation's folder", "out")
        for line in in_words(plan.missing):
            log.info("missing: %s", line)
        found = [self._finished.get(cell, self._fingerprint(cell)) for cell in plan.cells]
        report = Report(self.tasks, self._rest(plan, found))
        self._write(report, plan)
        return report

    def _rest(self, plan: Plan, found: Sequence[Scored | None]) -> list[Scored]:
        """The scores of all cells, in their order; those not found are made."""
        scores = list(found)
        todo = [i for i, score in enumerate(scores) if score is None]
        self._align([plan.cells[i] for i in todo])
        # In a file or a pipe a line a language says where the evaluation stands.
        with tqdm(total=len(scores), initial=len(scores) - len(todo), disable=None, leave=False) as bar:
            for i in todo:
                bar.set_description(plan.cells[i].task.name)
                cell = plan.cells[i]
                bar.update()
                try:
                    scores[i] = result = self._test(cell)
                except Unlabelled as error:
                    log.info("missing: %s: %s", cell.name, error)
                    if not cell.perturbation:
                        plan.missing.append(Missing(cell.task.group, cell.language, str(error)))
                    continue
                self._has_news = True
                if bar.disable:
                    log.info("%s: %.1f", cell.name, result.mean)
        if not any(scores):
            raise ValueError("nothing could be scored: no row of any split has a label")
        return [score for score in scores if score is not None]

    def _align(self, cells: Sequence[Cell]) -> None:
        """Make the word alignments that the cells' rows need, unless the rows are encoded already."""
        rows = [cell for cell in cells if not self._splits.is_encoded(cell.task, cell.split, cell.parts)]
        self._perturbations.align(part for cell in rows for part in cell.parts)

    def _check_layers(self) -> None:
        """Raise ValueError for a layer that is none of its encoder's, or of a task that is not evaluated."""
        if isinstance(self._layer, dict):
            _check_named("layer", self._layer, self.tasks)
        for task in self.tasks:
            model = self._models.of(task)
            layer = None if model is None else self._layer_of(task, model)
            if model is not None and layer is not None:
                most = load_config(model).num_hidden_layers
                require(
                    1 <= layer <= most, "layer", layer, f"be one of the {most} layers of {model}, from 1 on"
                )

    def _layer_of(self, task: Task[Any], model: str) -> int | None:
        """The layer that is read; None for the last."""
        if task.needs_training:
            return None
        layers = load_config(model).num_hidden_layers
        given = self._layer.get(task.group) if isinstance(self._layer, dict) else self._layer
        return min(layers, layers // 2 + 2) if given is None else given

    def _fingerprint(self, cell: Cell) -> str:
        """What the cell's scores depend on."""
        if cell.model not in self._hashes:
            self._hashes[cell.model] = hash_of(cell.model)
        rows = self._splits.folder(cell.task, cell.split, cell.parts)
        settings = [self._volume, self._seed, self._layer_of(cell.task, cell.model), self._precision]
        if self._volume and cell.task.needs_training:
            for _, pivot in islice(self._splits.pivots(cell.task, cell.split), 1):
                # Which of their translations the volume takes depends on these rows.
                settings.append(" ".join(part.fingerprint for part in pivot))
        if cell.split == "test" and cell.task.needs_tuning:
            parts = self._splits.parts(cell.task, "validation")
            settings.append(self._splits.folder(cell.task, "validation", parts).name)
        return fingerprint(self._hashes[cell.model], rows, settings)

    def _test(self, cell: Cell) -> Scored:
        """Score a cell, and keep it."""
        scorer = cell.task
        if cell.split == "test" and scorer.needs_tuning:
            scorer = scorer.tuned(self._score(cell, "validation", scorer).scores)
        outcome = self._score(cell, cell.split, scorer)
        result = scored(cell, outcome, self._fingerprint(cell))
        self._finished.keep(cell, result, outcome)
        return result

    def _score(self, cell: Cell, split: Split, scorer: Task[Any]) -> Outcome:
        """What comes out of a split in the cell's language."""
        stored = self._splits.open(cell.task, split, cell.parts if split == cell.split else None)
        rows, examples = self._rows(cell.task, stored)
        model = self._model(cell)
        model.add_head(cell.task)
        self._fabric.to_device(model)
        outputs = predict(model.eval(), cell.task, stored.features, rows, self._tokens, self._fabric)
        given = outputs, stored.features, rows, stored.references()
        return Outcome(*scorer.evaluated(*given), scorer.example_scores(*given), examples)

    def _rows(self, task: Task[Any], stored: EncodedSplit) -> tuple[Any, int]:
        """Numbers of the rows that the volume leaves, and of how many examples they are."""
        volume = self._volume if task.needs_training else None
        kept = stored.subset(volume, self._seed, task.group)
        return stored.rows_of(kept), len(kept)

    def _model(self, cell: Cell) -> EvaluationModel:
        """The cell's model; the last one is kept, for cells come model by model."""
        key = cell.model, self._layer_of(cell.task, cell.model)
        if self._tested is None or self._tested[0] != key:
            self._tested = None
            self._tested = key, EvaluationModel(*key)
        return self._tested[1]

    def _write(self, report: Report, plan: Plan) -> None:
        """Write results, summary, CSV and picture; show those of the rows as they are on the dashboard."""
        write(self.out / "results.json", as_json(report.results()))
        if report.perturbed():
            write(self.out / "perturbed.json", as_json(report.perturbed()))
        summary = report.summary() | {"missing": [missing._asdict() for missing in plan.missing]}
        write(self.out / "summary.json", as_json(summary))
        write(self.out / "results.csv", report.csv())
        figure = report.figure()
        save(figure, self.out / "heat_map.png")
        if self._has_news:
            show(report, figure, self.out, vars(self._wandb), self._config)


def _choices(split: Choice | Mapping[str, Choice], tasks: Sequence[Task[Any]]) -> dict[str, Choice]:
    """The split of each task.

    Raises:
        ValueError: One is named for a task that is not evaluated.
    """
    given: Mapping[str, Choice] = _by_task("split", split, tasks)
    return {task.name: given.get(task.name, "validation") for task in tasks}


def _exported(run: str, step: int | None, out: Path) -> str:
    """The folder of a finished run; with a step, one as of such a run with the checkpoint's model.

    Raises:
        FileNotFoundError: There is no such run, it is not finished, or it lacks the checkpoint.
    """
    if step is None:
        check_run(run)
        return run
    export_run(Path(run), out / MODEL, checkpoint=step)
    shutil.copy(Path(run, "config.yaml"), out)
    return str(out)


def _by_task(key: str, values: V | Mapping[str, V], tasks: Sequence[Task[Any]]) -> dict[str, V]:
    """A key's value for each task, where one value may stand for all.

    Raises:
        ValueError: A value is of a task that is not evaluated.
    """
    if not isinstance(values, Mapping):
        return {task.name: values for task in tasks}
    found = by_task(values)
    _check_named(key, found, tasks)
    return found


def _check_named(key: str, names: Iterable[str], tasks: Sequence[Task[Any]]) -> None:
    """Raise ValueError for a task that a key names and that is not evaluated."""
    unknown = sorted(set(names) - {task.name for task in tasks})
    if unknown:
        raise ValueError(f"{key} names {', '.join(unknown)}, which tasks does not")


def make_parser() -> VerbParser:
    """The verb's command line: a key is a parameter of Evaluation."""
    parser = VerbParser(prog="xlt.evaluate", description=__doc__)
    parser.add_argument("--config", action="config", help="a YAML file of the keys below")
    parser.add_class_arguments(Evaluation)
    return parser


def evaluate(args: Sequence[str]) -> None:
    """The verb.

    Args:
        args: Command-line arguments.
    """
    parser = make_parser()
    settings = parser.instantiate(parser.parse_args(list(args)))
    settings.pop("config")
    evaluation = Evaluation(**vars(settings))
    report = evaluation.run()
    print(f"\nscores in percent\n\n{report.table()}\n")
    print("\n".join(report.averages()))
    if report.perturbed():
        print(f"\nmeans of the languages\n\n{report.perturbed_table()}")
    print(f"\nthe evaluation's folder: {evaluation.out}")


if __name__ == "__main__":
    sys.exit(run_verb(evaluate, sys.argv[1:]))
