"""Language LoRA in an evaluation: the LoRA of each test language, below the LoRA of a task.

The idea is that of MAD-X (Pfeiffer et al. 2020, arXiv 2005.00052), with LoRA instead of bottleneck adapters.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xlt.data.multilingual import ENGLISH
from xlt.evaluation.models import tasks_of
from xlt.evaluation.plan import Cell
from xlt.kinds.task import Task
from xlt.models.adapters import WEIGHTS, adapter_folder, load_adapter
from xlt.system.hashing import hash_file
from xlt.tasks import load

log = logging.getLogger(__name__)


class LanguageLoras:
    """The language LoRAs that replace those of the runs' training, by language.

    Args:
        loras: Folder of the run with a language's LoRA, by ISO 639-1 code.
        runs: Folders of the runs to evaluate.
        tasks: The tasks to evaluate.

    Raises:
        FileNotFoundError: A folder has no LoRA.
        ValueError: No task is evaluated in a language, a run was trained without a language LoRA, or a
            language LoRA was trained on another encoder.
    """

    def __init__(self, loras: Mapping[str, str], runs: Sequence[str], tasks: Iterable[Task[Any]]) -> None:
        self._loras, self._hashes = dict(loras), {}
        self._own: dict[str, str] = {}
        if not loras:
            return
        known = {language for task in tasks for language in task.languages}
        unknown = sorted(set(loras) - known)
        if unknown:
            raise ValueError(
                f"language_loras names {', '.join(unknown)}, but no task is evaluated in this language. "
                f"Choose from {', '.join(sorted(known))}"
            )
        if not runs:
            raise ValueError(
                "language_loras is set, but runs is not: set runs to runs with model.language_lora"
            )
        for run in runs:
            own = load_adapter(run)
            if not own.language_lora:
                raise ValueError(
                    f"language_loras is set, but {run} was trained without model.language_lora, which "
                    "language_loras replaces. Evaluate this run separately"
                )
            self._own[run] = own.language_lora
            for path in loras.values():
                load_adapter(path).check_encoder(own.encoder_hash, f"{own.encoder}, the encoder of {run},")
        for language, path in loras.items():
            _check_language(language, path)
        self._hashes = {path: hash_file(adapter_folder(path) / WEIGHTS) for path in loras.values()}

    def of(self, cell: Cell) -> str | None:
        """Return the language LoRA of a cell; None for the run's own, or for a model without LoRA."""
        return self._loras.get(cell.language) if cell.model in self._own else None

    def settings(self, cell: Cell) -> list[str]:
        """Return the part of a cell's fingerprint that tells its language LoRA; empty for the run's own."""
        path = self.of(cell)
        return [] if path is None else [f"language LoRA {self._hashes[path]}"]

    def summary(self, cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, str]]]:
        """Return the language LoRA of each language, by run, under `language_loras`; empty if none is set.

        A language without a LoRA of its own has that of the run's training, which is logged.
        """
        found: dict[str, dict[str, str]] = {}
        for cell in cells:
            if cell.model in self._own:
                found.setdefault(cell.model, {})[cell.language] = self.of(cell) or self._own[cell.model]
        for run, used in found.items():
            others = sorted(set(used) - set(self._loras))
            if others:
                log.info("%s: %s keep the LoRA of the training, %s", run, ", ".join(others), self._own[run])
        return {"language_loras": found} if found else {}


def _check_language(language: str, path: str) -> None:
    """Raise ValueError if a run with a LoRA, whose config tells its tasks, was not trained in a language."""
    tasks = [load(name) for name in tasks_of(path)]
    if tasks and not any((task.language or ENGLISH) == language for task in tasks):
        names = ", ".join(task.name for task in tasks)
        raise ValueError(
            f"language_loras gives {path} to {language}, but that run was trained on {names}: name a run of "
            f"a task in this language, such as mlm/{language}"
        )
