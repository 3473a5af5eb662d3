"""Compute the teacher's vectors that the cache lacks, and add vectors to encoded splits.

A teacher reads each text once, however many rows, splits, tasks and runs share the text. One process
computes, under a lock, and saves every CHUNK texts. Other processes wait for the lock, and find the vectors
then. S sequences, E width of the teacher.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from xlt.batch.packing import pack
from xlt.data.array_store import ArrayStore, distinct
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sampling.batches import sorted_batches
from xlt.data.sources import RawSplit
from xlt.data.teacher import TaughtFeatures, Teacher, Teaching, text_keys
from xlt.kinds.task import Task
from xlt.models.encoders.families import facts_of
from xlt.models.encoders.text import Encoder, load_config, sum_by_sequence
from xlt.splits.encoded_split import FEATURES, EncodedSplit
from xlt.splits.reading import read_examples
from xlt.system.checks import NotFiniteError, require
from xlt.system.hashing import hash_of
from xlt.system.lock import locked
from xlt.system.precision import FixedPrecision, chosen_precision

log = logging.getLogger(__name__)

VECTORS_VERSION = 1
"""Version of the code that makes vectors of texts. Raise it when the same text gets another vector."""

CHUNK = 2048
"""Number of texts whose vectors are saved at a time."""

TOKENS = 8192
"""Maximum number of tokens of a batch of texts."""

PATIENCE = 7 * 24 * 3600.0
"""Seconds to wait for another process that computes vectors."""


class Teachers:
    """The teachers of a run's tasks.

    Args:
        tasks: The tasks by name.
        cache: Folder of encoded rows.

    Raises:
        FileNotFoundError: A teacher cannot be loaded.
        ValueError: A teacher cannot be loaded, or tasks with a common head have different teachers.
    """

    def __init__(self, tasks: Mapping[str, Task[Any]], cache: Path) -> None:
        self._vectors: dict[Teacher, _Vectors] = {}
        by_head: dict[str, tuple[str, Teacher]] = {}
        for name, task in tasks.items():
            teaching = task.teaching()
            if teaching is None:
                continue
            own = teaching.teacher
            first, teacher = by_head.setdefault(task.head_key, (name, own))
            if teacher != own:
                raise ValueError(
                    f"{first} and {name} share a head, but have the teachers {teacher.encoder!r} and "
                    f"{own.encoder!r}. Give one of them another head_name in its file, or the same teacher "
                    "with the same settings"
                )
            if own not in self._vectors:
                self._vectors[own] = _Vectors(own, cache, name)

    def teach(
        self, task: Task[Any], raw_splits: Sequence[RawSplit], encoded: EncodedSplit, rows: np.ndarray
    ) -> None:
        """Add the teacher's vectors to an encoded split of a task, if the task has a teacher.

        Args:
            task: The task.
            raw_splits: The raw rows of the split.
            encoded: The encoded split.
            rows: Numbers of the rows in use, ascending.

        Raises:
            ValueError: A row cannot be read, or the teacher's vectors are not finite.
        """
        teaching = task.teaching()
        if teaching is None:
            return
        vectors = self._vectors[teaching.teacher]
        vectors.complete(task, raw_splits, encoded, rows, teaching)
        path = encoded.folder / FEATURES
        encoded.features = TaughtFeatures(path, vectors.store, rows, teaching.num_negatives)
        # A resume with another teacher is refused, as with other rows.
        content = f"{encoded.meta.content} {vectors.store.folder.name}"
        encoded.meta.content = hashlib.sha256(content.encode()).hexdigest()


class _Vectors:
    """The vectors of a teacher, which is loaded when a text lacks its vector.

    Args:
        teacher: The teacher.
        cache: Folder of encoded rows.
        task: Name of a task of the teacher, for errors.

    Raises:
        FileNotFoundError: The teacher cannot be loaded.
        ValueError: The teacher cannot be loaded, or its limit does not fit it.
    """

    def __init__(self, teacher: Teacher, cache: Path, task: str) -> None:
        self._teacher, self._model = teacher, None
        try:
            config = load_config(teacher.encoder)
            tokenizer = load_tokenizer(teacher.encoder)
            weights = hash_of(teacher.encoder)
        except (FileNotFoundError, ValueError) as error:
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(
                f"the teacher {teacher.encoder!r} of {task} cannot be loaded: {error}. Write the folder "
                "(make encoder writes encoders/e5-small), or name another teacher in a task of your own "
                "(docs/distil.md)"
            ) from error
        limit = facts_of(config).max_tokens
        fits, rule = 8 <= teacher.max_length <= limit, f"be from 8 to {limit} tokens"
        require(fits, f"max_length of the teacher of {task}", teacher.max_length, rule)
        self._text = TextEncoder(tokenizer, teacher.max_length, 0)
        parts = [VECTORS_VERSION, weights, self._text.definition, teacher.prefix, teacher.max_length]
        self._precision: FixedPrecision = chosen_precision(teacher.precision, "auto")
        digest = hashlib.sha256(repr([*parts, self._precision]).encode()).hexdigest()
        self.store = ArrayStore(cache / f"teacher-{digest[:16]}", (config.hidden_size,))

    def complete(
        self,
        task: Task[Any],
        raw_splits: Sequence[RawSplit],
        encoded: EncodedSplit,
        rows: np.ndarray,
        teaching: Teaching,
    ) -> None:
        """Compute the vectors that the rows in use of a split lack."""
        keys = text_keys(encoded.features, rows)
        if (self.store.find(keys) >= 0).all():
            return
        self.store.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.store.folder / "lock", PATIENCE, "data.cache"):
            self.store.refresh()  # another process may have computed them meanwhile
            lacking = rows[self.store.find(keys) < 0]
            wanted = lacking[distinct(text_keys(encoded.features, lacking))]
            texts = _texts_of(task, raw_splits, wanted, teaching)
            self._add(task.name, text_keys(encoded.features, wanted), texts)
            self.store.refresh()

    def _add(self, name: str, keys: np.ndarray, texts: Sequence[str]) -> None:
        """Compute the vectors of new texts, and save them chunk by chunk."""
        self._model = self._model or _Model(self._teacher, self._text, self._precision)
        for chunk in (slice(i, i + CHUNK) for i in range(0, len(texts), CHUNK)):
            start = time.perf_counter()
            vectors, num_tokens = self._model.vectors(texts[chunk])
            self.store.add(keys[chunk], vectors)
            log.info(
                "%s: teacher vectors of %s of %s new texts, %s tokens per second",
                name,
                f"{min(chunk.stop, len(texts)):,}",
                f"{len(texts):,}",
                f"{num_tokens / (time.perf_counter() - start):,.0f}",
            )


class _Model:
    """The teacher on the best device.

    Args:
        teacher: The teacher.
        text: Its tokenizer and its limit.
        precision: Precision of the computation.
    """

    def __init__(self, teacher: Teacher, text: TextEncoder, precision: FixedPrecision) -> None:
        self._teacher, self._text, self._precision = teacher, text, precision
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder = Encoder(teacher.encoder).eval().to(self._device)

    @torch.inference_mode()
    def vectors(self, texts: Sequence[str]) -> tuple[np.ndarray, int]:
        """Return the vector of each text, shape (S, E) float16, and the number of tokens of all texts.

        Raises:
            NotFiniteError: A vector is not finite.
        """
        ids = [np.array(p.ids) for p in self._text.singles([self._teacher.prefix + text for text in texts])]
        lengths = np.array([len(sequence) for sequence in ids])
        found = np.zeros((len(texts), self._encoder.config.hidden_size), np.float16)
        for rows in sorted_batches(lengths, np.arange(len(texts)), TOKENS):
            found[rows] = self._means([ids[row] for row in rows]).half().cpu().numpy()
        if not np.isfinite(found).all():
            raise NotFiniteError(
                f"the teacher {self._teacher.encoder!r} gives vectors that are not finite in "
                f"{self._precision}: name another teacher or the precision 32-true in the task's file"
            )
        return found, int(lengths.sum())

    def _means(self, sequences: Sequence[np.ndarray]) -> torch.Tensor:
        """Return the mean of the last layer's states of each sequence, of length 1."""
        packing = pack([len(sequence) for sequence in sequences])
        positions = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
        ids = torch.from_numpy(np.concatenate(sequences))[None].to(self._device)
        places = torch.from_numpy(positions)[None].to(self._device) + self._encoder.facts.first_position
        packing = packing._replace(
            **{
                name: getattr(packing, name).to(self._device)
                for name in ("lengths", "starts", "boundaries", "order")
            }
        )
        is_mixed = self._precision == "bf16-mixed"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=is_mixed):
            states = self._encoder(ids, places, packing)
        return F.normalize(sum_by_sequence(states, packing), dim=-1)


def _texts_of(
    task: Task[Any], raw_splits: Sequence[RawSplit], rows: np.ndarray, teaching: Teaching
) -> list[str]:
    """Return the texts that the teacher reads of some rows, in their order.

    Args:
        task: The task.
        raw_splits: The raw rows of the split.
        rows: Numbers of the rows, ascending. Each labelled example has one row.
        teaching: The function from an example to its text.
    """
    labelled = (example for example in read_examples(task, raw_splits) if task.is_labelled(example))
    wanted = set(rows.tolist())
    return [teaching.text_of(example) for number, example in enumerate(labelled) if number in wanted]
