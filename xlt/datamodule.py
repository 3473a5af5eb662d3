"""The LightningDataModule: tasks, encoded rows, the mixture, and loaders whose only state is the step."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from xlt.batch.batch import Batch
from xlt.batch.predictions import PredictionBuffer
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sampling import mixture
from xlt.data.sampling.batches import nested_subset, validation_batches
from xlt.data.sampling.masking import Masking
from xlt.data.sampling.steps import (
    ResumeSampler,
    TaskRows,
    TrainingSteps,
    ValidationBatches,
    as_is,
    leave_signals_to_parent,
)
from xlt.data.sampling.workers import Parcel, workers_to_be_had
from xlt.data.sources import Split, roots_of
from xlt.kinds.task import Scores, group_of
from xlt.models.encoders.text import check_vocabulary
from xlt.splits.data_keys import check_sizes, check_trainable, volumes_of
from xlt.splits.encode_workers import Pool
from xlt.splits.splits import Splits, with_labels
from xlt.splits.store import EncodedSplit, cache_folder
from xlt.system.checks import require
from xlt.tasks import by_task, load_all

SPLITS: tuple[Split, Split] = ("train", "validation")


class TransferData(LightningDataModule):
    """Tasks in one temperature-sampled mixture.

    Args:
        tasks: Names of the tasks, or full names of modules that hold one. `<task>/<language>` is the task in
            one language: of plain text, or of translated rows in `<root>/<language>`.
        root: Folder or folders that mirror the hub as `<org>/<name>/<config>/<split>.parquet` and take
            precedence over it; where not given, the paths in XLT_DATA.
        temperature: T of p ∝ min(n, cap)^(1/T): 1 is proportional to the number of examples, .inf is uniform.
        cap: K of the same formula, in examples: a larger task counts as this many.
        weights: A share for each task up to a common factor, in place of the formula; `<task>/<language>`
            among them gives one language a share of its own.
        language_temperature: T of the same formula among the languages of one task; XLM-R's alpha = 0.3 is
            the default, 1 / 0.3.
        volume: Most training examples of each task, or of the tasks named, in each language; subsets are
            nested, and those of a parallel task are translations of each other.
        validation_volume: Most validation examples of each task.
        tokens_per_micro_batch: Most tokens in a micro-batch, which is what a device holds at a time; a batch
            of the validation, which keeps less, has up to twice as many.
        micro_batches_per_step: Micro-batches in an optimizer step, those of all processes together.
        max_length: Most tokens in a sequence; longer pairs are cut, longer passages become windows.
        stride: Tokens by which the windows of a passage overlap.
        encoder: Whose tokenizer to use (follows model.encoder).
        cache: Folder of encoded rows; where not given, XLT_CACHE, or ~/.cache/xlt.
        num_workers: Processes that make batches ahead of training.
        seed: Of order and volume (follows seed_everything).
    """

    def __init__(
        self,
        tasks: list[str],
        root: str | list[str] | None = None,
        temperature: float = 1.0,
        cap: float = 131072,
        weights: dict[str, float] | None = None,
        language_temperature: float = 1 / 0.3,
        volume: int | dict[str, int] | None = None,
        validation_volume: int | None = None,
        tokens_per_micro_batch: int = 4096,
        micro_batches_per_step: int = 8,
        max_length: int = 384,
        stride: int = 128,
        encoder: str = "FacebookAI/xlm-roberta-large",
        cache: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.roots = roots_of(root)
        self.tasks = load_all(tasks, self.roots)
        check_trainable(self.tasks)
        groups = tuple(dict.fromkeys(map(group_of, self.tasks)))
        weights = None if weights is None else by_task(weights)
        mixture.check(temperature, cap, weights, tuple(self.tasks))
        require(language_temperature > 0, "data.language_temperature", language_temperature, "be above 0")
        check_sizes(tokens_per_micro_batch, micro_batches_per_step, max_length, stride, encoder)
        self._volume = volumes_of(by_task(volume) if isinstance(volume, dict) else volume, groups)
        require(num_workers >= 0, "data.num_workers", num_workers, "be 0 or more processes")
        require(
            validation_volume is None or validation_volume >= 1,
            "data.validation_volume",
            validation_volume,
            "be at least 1 example",
        )
        self._validation_volume = validation_volume
        self.temperature, self.cap, self.weights = temperature, cap, weights
        self.language_temperature = language_temperature
        self.tokens_per_micro_batch, self.micro_batches_per_step = (
            tokens_per_micro_batch,
            micro_batches_per_step,
        )
        self.max_length, self.stride, self.encoder = max_length, stride, encoder
        self._cache = cache_folder(cache)
        self.num_workers, self.seed = num_workers, seed
        self.stored: dict[str, dict[Split, EncodedSplit]] = {}
        """Each task's encoded splits, once prepared."""
        self._first_step = 0
        self.steps: TrainingSteps | None = None
        self._references: dict[str, list[Any]] = {}
        self._masking: dict[str, Masking | None] = {}

    # Preparing

    def prepare_data(self) -> None:
        """Fetch and encode every split that is not in the cache yet.

        Raises:
            FileNotFoundError: Rows or the tokenizer cannot be found.
            ValueError: A file or a row cannot be read.
        """
        self.stored = {}
        text = TextEncoder(load_tokenizer(self.encoder), self.max_length, self.stride)
        check_vocabulary(self.encoder, text.num_ids)
        with Pool(text) as pool:
            splits = Splits(self.roots, self._cache, text, pool)
            for name in self.tasks:
                self._prepare(name, splits)

    def _prepare(self, name: str, splits: Splits) -> None:
        """Open or make both splits of a task; the training split settles its labels."""
        self.stored[name] = {}
        for split in SPLITS:
            self.stored[name][split] = splits.for_training(self.tasks[name], split)
            self.tasks[name] = with_labels(self.tasks[name], self.stored[name][split])
        self._masking[name] = self.tasks[name].masking(splits.text)

    def setup(self, stage: str) -> None:
        """Open the encoded rows; check that they fit a micro-batch."""
        if not self.stored:
            self.prepare_data()
        for name, splits in self.stored.items():
            longest = max(int(s.features.counts("input_ids").max()) for s in splits.values())
            if longest > self.tokens_per_micro_batch:
                raise ValueError(
                    f"data.tokens_per_micro_batch is {self.tokens_per_micro_batch}, but a row of {name} has "
                    f"{longest} tokens: set it to at least {longest}, shorten that row, or, where its "
                    "texts are cut at data.max_length, lower that"
                )

    # Training

    def num_examples(self) -> dict[str, int]:
        """Training examples of each task, after the volume."""
        return {
            name: min(splits["train"].meta.examples, self._volume[group_of(name)] or sys.maxsize)
            for name, splits in self.stored.items()
        }

    def shares(self) -> dict[str, float]:
        """Each task's probability."""
        among_tasks = (self.temperature, self.cap, self.weights)
        return mixture.shares_by_language(self.num_examples(), *among_tasks, self.language_temperature)

    def rows_in_use(self, name: str, split: Split) -> np.ndarray:
        """Numbers of the rows of features that the volume leaves, ascending."""
        stored = self.stored[name][split]
        volume = self._volume[group_of(name)] if split == "train" else self._validation_volume
        if self.tasks[name].is_parallel:
            kept = stored.subset(volume, self.seed, group_of(name), split)
        else:
            kept = nested_subset(stored.meta.examples, volume, self.seed, name, split)
        return stored.rows_of(kept)

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """This process's micro-batches of each step, from the first step not yet trained."""
        trainer = self._trainer
        self.check_processes(trainer.world_size)
        self.steps = self.build_steps(trainer.max_steps, trainer.global_rank, trainer.world_size)
        num_workers = workers_to_be_had(self.num_workers, trainer.local_rank == 0)
        return DataLoader(
            self.steps,
            batch_size=None,
            sampler=ResumeSampler(self._first_step, trainer.max_steps),
            collate_fn=Parcel if num_workers else as_is,
            num_workers=num_workers,
            worker_init_fn=leave_signals_to_parent,
            pin_memory=self._pins,
        )

    def check_processes(self, world_size: int) -> None:
        """See that so many processes can share a step.

        Raises:
            ValueError: They cannot.
        """
        if self.micro_batches_per_step % world_size:
            sizes = [
                n for n in range(1, self.micro_batches_per_step + 1) if self.micro_batches_per_step % n == 0
            ]
            raise ValueError(
                f"data.micro_batches_per_step is {self.micro_batches_per_step}, which {world_size} processes "
                f"cannot share: use {', '.join(map(str, sizes))} processes, or change it"
            )

    def build_steps(self, num_steps: int, rank: int, world_size: int) -> TrainingSteps:
        """The micro-batches of each step that fall to one process.

        Args:
            num_steps: Optimizer steps of the run.
            rank: Number of the process.
            world_size: Processes.
        """
        rows = {name: self._rows(name) for name in self.stored}
        schedule = mixture.Schedule(self.shares(), num_steps, self.seed)
        sizes = (self.tokens_per_micro_batch, self.micro_batches_per_step)
        return TrainingSteps(schedule, rows, *sizes, self.seed, rank, world_size)

    def _rows(self, name: str) -> TaskRows:
        """A task's training rows."""
        features = self.stored[name]["train"].features
        return TaskRows(
            features, self.rows_in_use(name, "train"), self.tasks[name].inputs, self._masking[name]
        )

    @property
    def _trainer(self) -> Trainer:
        assert self.trainer is not None
        return self.trainer

    @property
    def _pins(self) -> bool:
        """Whether batches are copied to the device while it computes, from memory that stays in place."""
        return self._trainer.strategy.root_device.type == "cuda"

    def state_dict(self) -> dict[str, Any]:
        """The number of steps trained, and what their order depends on."""
        return {"step": self._trainer.global_step, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the steps trained.

        Raises:
            ValueError: The order of the steps would not be that of the checkpoint.
        """
        theirs, ours = state_dict["fingerprint"], self.fingerprint()
        changed = [
            f"{key}: {theirs[key]} in the checkpoint, {ours.get(key)} now"
            for key in sorted(theirs)  # an older version's may lack some
            if theirs[key] != ours.get(key)
        ]
        if changed:
            raise ValueError(
                "the checkpoint cannot be continued, for its batches or scores depend on what has changed "
                f"since: {'; '.join(changed)}. Restore it, or use another trainer.default_root_dir"
            )
        self._first_step = state_dict["step"]

    def fingerprint(self) -> dict[str, Any]:
        """Everything that the order of the batches and the scores depend on, by name."""
        settings = {
            "tasks": list(self.tasks),
            "temperature": self.temperature,
            "cap": self.cap,
            "weights": self.weights,
            "language_temperature": self.language_temperature,
            "tokens_per_micro_batch": self.tokens_per_micro_batch,
            "micro_batches_per_step": self.micro_batches_per_step,
            "seed": self.seed,
        }
        volumes = {f"volume of {group}": volume for group, volume in self._volume.items()}
        rows = {f"rows of {name}": splits["train"].meta.content for name, splits in self.stored.items()}
        tested = {
            f"validation rows of {name}": splits["validation"].meta.content
            for name, splits in self.stored.items()
        }
        return settings | volumes | rows | tested

    # Validation

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """A loader a task: this process's share of the batches, as many on every process."""
        return [
            DataLoader(self._validation(name), batch_size=None, collate_fn=as_is, pin_memory=self._pins)
            for name in self.tasks
        ]

    def _validation(self, name: str) -> ValidationBatches:
        features = self.stored[name]["validation"].features
        rows = self.rows_in_use(name, "validation")
        rank, world = self._trainer.global_rank, self._trainer.world_size
        counts = features.counts("input_ids")
        mine = validation_batches(counts, rows, self.tokens_per_micro_batch, world)[rank]
        return ValidationBatches(name, features, mine, self.tasks[name].inputs, self._masking[name])

    def score(self, name: str, parts: Sequence[Mapping[str, np.ndarray]]) -> Scores:
        """Scores of a task's validation rows.

        Args:
            name: The task.
            parts: What the head predicted, batch by batch in any order, with the `rows` it is for.
        """
        stored = self.stored[name]["validation"]
        if name not in self._references:
            self._references[name] = stored.references()
        rows = np.sort(np.concatenate([part["rows"] for part in parts]))
        buffer = PredictionBuffer(rows)
        for part in parts:
            buffer.add(part["rows"], {key: value for key, value in part.items() if key != "rows"})
        return self.tasks[name].score(buffer.predictions(stored.features, self._references[name]))

    def num_validation_examples(self, name: str) -> int:
        """Validation examples of the task, after the volume."""
        total = self.stored[name]["validation"].meta.examples
        return min(total, self._validation_volume or total)
