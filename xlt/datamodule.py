"""The LightningDataModule: tasks, encoded rows, the mixture, and loaders whose only state is a step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from xlt.batch.batch import Batch
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sampling import mixture
from xlt.data.sampling.batches import validation_batches
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
from xlt.models.encoders.families import facts_of
from xlt.models.encoders.text import check_vocabulary, load_config
from xlt.splits import data_keys
from xlt.splits.cache import cache_folder
from xlt.splits.dev_scores import DevScores
from xlt.splits.encode_workers import Pool
from xlt.splits.encoded_split import EncodedSplit
from xlt.splits.illustrating import ImageCache
from xlt.splits.opening import open_all
from xlt.splits.splits import Splits
from xlt.splits.volumes import Volumes
from xlt.system.checks import require
from xlt.tasks import by_task, load_all


class TransferData(LightningDataModule):
    """A mixture of tasks, sampled by temperature.

    Args:
        tasks: Names of the tasks. A task of your own is named by its module, such as mylab.scitail. mnli/de
            is MNLI in German, with rows in the folder de of a data root. mlm/sw is plain text in Swahili.
        root: Folder or list of folders with <org>/<name>/<config>/<split>.parquet, which take precedence over
            the Hugging Face hub. Defaults to the paths in the variable XLT_DATA.
        temperature: Temperature T of the mixture, above 0. A task with n training examples has a probability
            proportional to min(n, cap)^(1/T). 1 samples in proportion to the number of examples, .inf samples
            all tasks equally often.
        cap: Maximum number of training examples that count for a task's probability, above 0. .inf means no
            limit.
        weights: Relative probability of each task. {mnli: 2, ccg: 1} draws mnli twice as often as ccg. A
            language, such as mlm/sw, may have a weight of its own. If null, temperature and cap decide.
        language_temperature: Temperature of the mixture among the languages of a task, above 0. The default,
            1 / 0.3, is XLM-R's alpha of 0.3.
        volume: Maximum number of training examples of each task in each language, at least 1. A mapping such
            as {mnli: 1000} limits single tasks. Smaller volumes are subsets of larger volumes. The languages
            of a parallel task get translations of the same examples. If null, all examples.
        validation_volume: Maximum number of dev examples of each task, at least 1. If null, all examples.
        volume_seed: Seed of the draw of the volume's training examples, at least 0. Runs with the same
            volume and another volume_seed train on other examples. If null, seed.
        tokens_per_micro_batch: Maximum number of tokens per micro-batch, at least max_length. Raise it until
            the device's memory is nearly full. Dev batches hold up to twice as many tokens.
        micro_batches_per_step: Number of micro-batches per optimizer step, summed over all processes. Must be
            a multiple of the number of processes.
        max_length: Maximum number of tokens in a sequence, from 8 to the encoder's limit, which is 512 for
            XLM-R. Longer pairs are cut. Longer passages are read in several windows.
        stride: Number of tokens by which successive windows of a passage overlap, from 0 to max_length - 1.
        image_tokens: Number of tokens that stand for an image in classification: the square of a whole
            number, such as 1, 16 or 49. The maximum is the size of the vision encoder's grid. Image
            tokens count for tokens_per_micro_batch, but not for max_length. Retrieval reads one vector.
        blind: Train and evaluate the run without images, as a baseline that reads text alone.
        encoder: Encoder whose tokenizer is used. Follows model.encoder.
        vision_encoder: Vision encoder. Follows model.vision_encoder.
        vision_trainable: True if the vision encoder is trained. Follows model.vision_trainable.
        cache: Folder of encoded rows and of features of images. Defaults to the variable XLT_CACHE, or
            ~/.cache/xlt.
        num_workers: Number of processes that prepare batches during training. 0 prepares batches in the
            training process.
        seed: Seed of the order of rows, of masking, of dropout and of volumes. Follows seed_everything.
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
        volume_seed: int | None = None,
        tokens_per_micro_batch: int = 4096,
        micro_batches_per_step: int = 8,
        max_length: int = 384,
        stride: int = 128,
        image_tokens: int = 49,
        blind: bool = False,
        encoder: str = "FacebookAI/xlm-roberta-large",
        vision_encoder: str | None = None,
        vision_trainable: bool = False,
        cache: str | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.roots = roots_of(root)
        self.tasks = load_all(tasks, self.roots)
        data_keys.check_trainable(self.tasks)
        groups = tuple(dict.fromkeys(map(group_of, self.tasks)))
        weights = None if weights is None else by_task(weights)
        mixture.check(temperature, cap, weights, tuple(self.tasks))
        require(language_temperature > 0, "data.language_temperature", language_temperature, "be above 0")
        self._facts = facts_of(load_config(encoder))
        sizes = (tokens_per_micro_batch, micro_batches_per_step, max_length, stride)
        data_keys.check_sizes(*sizes, encoder, self._facts)
        vision = vision_encoder, image_tokens, vision_trainable, blind
        self.vision_settings = data_keys.vision_settings_of(self.tasks, *vision)
        """Settings of the run's images, without the width until the data are prepared."""
        self._volumes = Volumes(volume, validation_volume, groups, seed, volume_seed)
        require(num_workers >= 0, "data.num_workers", num_workers, "be 0 or more processes")
        self.temperature, self.cap, self.weights = temperature, cap, weights
        self.language_temperature = language_temperature
        self.tokens_per_micro_batch = tokens_per_micro_batch
        self.micro_batches_per_step = micro_batches_per_step
        self.max_length, self.stride, self.encoder = max_length, stride, encoder
        self._cache, self.num_workers, self.seed = cache_folder(cache), num_workers, seed
        self.encoded: dict[str, dict[Split, EncodedSplit]] = {}
        """The encoded splits of each task, once prepared."""
        self._first_step = 0
        self.steps: TrainingSteps | None = None
        self._dev_scores = DevScores()
        self.steps_type: type[TrainingSteps] = TrainingSteps
        self._masking: dict[str, Masking | None] = {}

    # Preparing

    def prepare_data(self) -> None:
        """Fetch and encode all splits that are not in the cache.

        Raises:
            FileNotFoundError: Rows or the tokenizer cannot be found.
            ValueError: A file or a row cannot be read.
        """
        images, vision = self._image_cache(), self.vision_settings
        num_tokens = vision.image_tokens if vision else 1
        text = TextEncoder(load_tokenizer(self.encoder), self.max_length, self.stride, num_tokens)
        check_vocabulary(self.encoder, text.num_ids)
        with Pool(text) as pool:
            is_blind = vision is not None and vision.is_blind
            splits = Splits(self.roots, self._cache, text, pool, is_blind)
            self.encoded = open_all(self.tasks, splits, self._volumes, images)
        self._masking = {name: task.masking(text) for name, task in self.tasks.items()}

    def _image_cache(self) -> ImageCache | None:
        """Return the cache of the run's images, and store their width; None for a run without images."""
        settings = self.vision_settings
        if settings is None or settings.is_blind:
            return None
        chosen = settings.vision_encoder, settings.image_tokens, settings.is_trained
        images = ImageCache(*chosen, self._cache)
        self.vision_settings = settings._replace(width=images.width)
        return images

    def setup(self, stage: str) -> None:
        """Open the encoded rows and check that each row fits into a micro-batch.

        Raises:
            ValueError: A row has more tokens than a micro-batch may have.
        """
        if not self.encoded:
            self.prepare_data()
        for name, splits in self.encoded.items():
            longest = max(int(s.features.counts("input_ids").max()) for s in splits.values())
            data_keys.check_row_length(self.tokens_per_micro_batch, name, longest)

    # Training

    def token_ids(self) -> np.ndarray | None:
        """Return the token ids that the run reads, ascending, or None if masking may give any id."""
        if any(self._masking.values()):
            return None
        return self._volumes.token_ids(self.tasks, self.encoded)

    def num_examples(self) -> dict[str, int]:
        """Return the number of training examples of each task, after the volume."""
        return {
            name: self._volumes.num_examples(name, "train", splits["train"])
            for name, splits in self.encoded.items()
        }

    def shares(self) -> dict[str, float]:
        """Return the probability of each task."""
        among_tasks = (self.temperature, self.cap, self.weights)
        return mixture.shares_by_language(self.num_examples(), *among_tasks, self.language_temperature)

    def rows_in_use(self, name: str, split: Split) -> np.ndarray:
        """Return the numbers of the rows of features that belong to the volume, ascending."""
        return self._volumes.rows(self.tasks[name], split, self.encoded[name][split])

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        """Return the loader of this process's micro-batches, from the first step that is not trained yet."""
        trainer = self._trainer
        data_keys.check_world_size(self.micro_batches_per_step, trainer.world_size)
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

    def build_steps(self, num_steps: int, rank: int, world_size: int) -> TrainingSteps:
        """Return the micro-batches that a process trains in each step.

        Args:
            num_steps: Number of optimizer steps of the run.
            rank: Rank of the process.
            world_size: Number of processes.
        """
        rows = {name: self._rows(name, "train") for name in self.encoded}
        schedule = mixture.Schedule(self.shares(), num_steps, self.seed)
        sizes = (self.tokens_per_micro_batch, self.micro_batches_per_step)
        return self.steps_type(schedule, rows, *sizes, self.seed, rank, world_size)

    def _rows(self, name: str, split: Split) -> TaskRows:
        """Return the rows of a task that a split uses."""
        features, inputs = self.encoded[name][split].features, self.tasks[name].inputs
        in_use = self.rows_in_use(name, split)
        return TaskRows(features, in_use, inputs, self._facts.first_position, self._masking[name])

    @property
    def _trainer(self) -> Trainer:
        assert self.trainer is not None
        return self.trainer

    @property
    def _pins(self) -> bool:
        """Return True if batches are copied to the device while the device computes (pinned memory)."""
        return self._trainer.strategy.root_device.type == "cuda"

    def state_dict(self) -> dict[str, Any]:
        """Return the number of trained steps and the fingerprint of their order."""
        return {"step": self._trainer.global_step, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume after the steps that a checkpoint has trained.

        Raises:
            ValueError: The order of the steps would differ from the order in the checkpoint.
        """
        data_keys.check_fingerprint(state_dict["fingerprint"], self.fingerprint())
        self._first_step = state_dict["step"]

    def fingerprint(self) -> dict[str, Any]:
        """Return everything that the order of the batches and the scores depend on, by name."""
        names = ("temperature", "cap", "weights", "language_temperature", "tokens_per_micro_batch")
        names += ("micro_batches_per_step", "seed")
        settings = {"tasks": list(self.tasks)} | {name: getattr(self, name) for name in names}
        rows = {f"rows of {name}": splits["train"].meta.content for name, splits in self.encoded.items()}
        dev_rows = {f"validation rows of {k}": s["validation"].meta.content for k, s in self.encoded.items()}
        return settings | self._volumes.settings() | rows | dev_rows | {"steps": self.steps_type.__name__}

    # Validation

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        """Return a loader of this process's dev batches for each task; every process has equally many."""
        return [
            DataLoader(self._validation(name), batch_size=None, collate_fn=as_is, pin_memory=self._pins)
            for name in self.tasks
        ]

    def _validation(self, name: str) -> ValidationBatches:
        """Return this process's dev batches of a task."""
        rows = self._rows(name, "validation")
        sizes = self.tokens_per_micro_batch, self._trainer.world_size
        batches = validation_batches(rows.features.counts("input_ids"), rows.rows, *sizes)
        return ValidationBatches(name, rows, batches[self._trainer.global_rank])

    def score(self, name: str, parts: Sequence[Mapping[str, np.ndarray]]) -> Scores:
        """Score a task on its dev rows.

        Args:
            name: The task's name.
            parts: The head's predictions of each batch, in any order, with the numbers of the batch's `rows`.
        """
        return self._dev_scores.score(self.tasks[name], self.encoded[name]["validation"], parts)

    def num_validation_examples(self, name: str) -> int:
        """Return the number of dev examples of a task, after the volume."""
        return self._volumes.num_examples(name, "validation", self.encoded[name]["validation"])
