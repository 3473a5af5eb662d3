"""Perturbed test sets by name: `noise-5` changes 5 percent of the letters, `mix-15-0` is code-mixed.

`corrupt-fog-3`, `no-image` and `other-image` change images. A perturbation maps examples to examples when
rows are read (modules noise, code_mixing and images), so their number and order do not change. Test sets that
cannot be perturbed are listed as missing, with the reason.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from xlt.data.multilingual import ENGLISH
from xlt.data.sources import RawSplit, Split
from xlt.evaluation.perturbations.alignment import WITHOUT_WORDS
from xlt.evaluation.perturbations.code_mixing import CodeMixing, Translations
from xlt.evaluation.perturbations.images import (
    NO_IMAGE,
    NO_IMAGES,
    OTHER_IMAGE,
    Corruption,
    ImageName,
    NoImage,
    OtherImage,
    image_name,
    why_not,
)
from xlt.evaluation.perturbations.noise import Noise
from xlt.evaluation.perturbations.similarity import Aligner
from xlt.kinds.task import Task
from xlt.splits.reading import read_examples, without_images
from xlt.splits.splits import Splits
from xlt.system.checks import require

log = logging.getLogger(__name__)

MIX = "mix"


class Inapplicable(Exception):
    """Raised when a task in a language cannot be perturbed; the message is the reason."""


class Name(NamedTuple):
    """Name of a perturbation, in its parts.

    Args:
        kind: `noise` or `mix`.
        percent: Percentage of letters or phrases.
        mix: Number of the mix; 0 for noise.
    """

    kind: str
    percent: int
    mix: int = 0

    @property
    def level(self) -> str:
        """The name without the number of the mix: `noise-5` or `mix-15`."""
        return f"{self.kind}-{self.percent}"

    def __str__(self) -> str:
        """Return the name: `noise-5` or `mix-15-0`."""
        return self.level + (f"-{self.mix}" if self.kind == MIX else "")


def names_of(perturbations: Iterable[str], num_mixes: int) -> list[Name | ImageName]:
    """Return the names of all perturbations, with `num_mixes` names for each mix.

    Args:
        perturbations: `noise-PERCENT`, `mix-PERCENT`, `corrupt-KIND-SEVERITY`, `no-image` or `other-image`.
        num_mixes: Number of mixes of each `mix-PERCENT`.

    Raises:
        ValueError: A name is unknown, a percentage is not 1 to 100, `num_mixes` is below 1, or corrupt-tta is
            not installed.
    """
    require(num_mixes >= 1, "num_mixes", num_mixes, "be at least 1")
    found: list[Name | ImageName] = []
    for text in dict.fromkeys(perturbations):
        of_images = image_name(text)
        if of_images is not None:
            found.append(of_images)
            continue
        kind, _, percent = text.partition("-")
        if kind not in ("noise", MIX) or not re.fullmatch(r"[0-9]+", percent):
            raise ValueError(
                f"perturbations names {text!r}: it must be noise-PERCENT or mix-PERCENT, such as noise-5 or "
                "mix-15, corrupt-KIND-SEVERITY, such as corrupt-fog-3, no-image, or other-image"
            )
        require(1 <= int(percent) <= 100, f"perturbations {text}", f"{percent} percent", "be 1 to 100")
        found += [Name(kind, int(percent), mix) for mix in range(num_mixes if kind == MIX else 1)]
    return found


class Perturbations:
    """Perturbed rows of tasks.

    Args:
        names: Names of the perturbations, by task.
        splits: Opens the rows.
        folder: Folder of the alignments.
        aligner: The encoder that aligns words.
        seed: Seed of all draws.
        languages: Languages that are tested; others are not mixed into English. If None, all of a task's.
    """

    def __init__(
        self,
        names: Mapping[str, Sequence[Name | ImageName]],
        splits: Splits,
        folder: Path,
        aligner: Aligner,
        seed: int,
        languages: Sequence[str] | None = None,
    ) -> None:
        self.names, self._languages = names, languages
        self._splits, self._folder, self._aligner, self._seed = splits, folder, aligner, seed
        self._known: dict[tuple[str, Split], Translations] = {}

    def perturbed(
        self, name: Name | ImageName, task: Task[Any], split: Split, raw_splits: Sequence[RawSplit]
    ) -> tuple[RawSplit, ...]:
        """Return the perturbed rows of a task in a language.

        Args:
            name: Name of the perturbation.
            task: The task in the language.
            split: Split of the rows.
            raw_splits: The rows.

        Raises:
            Inapplicable: The rows cannot be perturbed.
        """
        if not task.can_be_perturbed:
            raise Inapplicable(
                f"the task of {task.group} is to find pairs of sentences: its texts stay unchanged"
            )
        if isinstance(name, ImageName):
            perturb = self._of_images(name, task, raw_splits)
        elif name.kind == MIX:
            perturb = self._mixing(name, task, split)
        else:
            perturb = Noise(name.percent, self._seed)
        return tuple(
            replace(
                raw,
                name=f"{raw.name} {name}",
                fingerprint=f"{raw.fingerprint} {perturb.fingerprint}",
                perturb=perturb,
            )
            for raw in raw_splits
        )

    def align(self, raw_splits: Iterable[RawSplit]) -> None:
        """Make the word alignments that code-mixed rows need. Each takes some seconds.

        A terminal shows a progress bar, a file or a pipe gets a line for each alignment.

        Args:
            raw_splits: Rows, perturbed or not. Only code-mixed rows need alignments.
        """
        mixings = [raw.perturb for raw in raw_splits if isinstance(raw.perturb, CodeMixing)]
        wanted = dict.fromkeys((m.translations, *pair) for m in mixings for pair in m.alignments)
        groups = {translations: group for (group, _), translations in self._known.items()}
        with tqdm(total=len(wanted), desc="aligning words", disable=None, leave=False) as bar:
            for number, (translations, one, other) in enumerate(wanted, 1):
                what = f"{groups[translations]} {one}-{other}"
                bar.set_postfix_str(what)
                if bar.disable:
                    num_pairs = len(translations.pairs(one, other))
                    log.info(
                        "aligning words, %d of %d: %s, %s pairs of texts",
                        number,
                        len(wanted),
                        what,
                        f"{num_pairs:,}",
                    )
                translations.align(one, other)
                bar.update()
        self._aligner.release()

    def _of_images(
        self, name: ImageName, task: Task[Any], raw_splits: Sequence[RawSplit]
    ) -> Corruption | NoImage | OtherImage:
        """Return the perturbation of the images of a task in a language."""
        reason = why_not(name, read_examples(task, raw_splits)) if task.imagery() else NO_IMAGES
        if reason:
            raise Inapplicable(reason)
        if name.kind == NO_IMAGE:
            return NoImage()
        if name.kind == OTHER_IMAGE:
            rows = " ".join(raw.fingerprint for raw in raw_splits)
            return OtherImage(self._seed, rows, lambda: read_examples(task, raw_splits))
        return Corruption(name.corruption, name.severity, self._seed)

    def _mixing(self, name: Name, task: Task[Any], split: Split) -> CodeMixing:
        """Return the mixing of a task in a language."""
        if not task.is_parallel:
            raise Inapplicable(f"{task.group} is not parallel: its examples have no translations to mix in")
        if task.language in WITHOUT_WORDS:
            raise Inapplicable(f"the words of {task.language} cannot be told apart without a dictionary")
        translations = self._translations(task, split)
        rows = self._others(task, split)
        if not rows and self._languages is not None:
            raise Inapplicable(
                f"none of the languages asked for ({', '.join(self._languages)}) can be mixed into "
                f"{task.language}: name another one in which {task.group} has rows"
            )
        if not rows:
            raise Inapplicable(
                f"{task.group} has rows in no language that could be mixed into {task.language}"
            )
        for other in rows:
            try:
                translations.pairs(task.language, other)
            except ValueError as error:
                raise Inapplicable(f"{task.name} and {task.group}/{other}: {error}") from error
        known = "; ".join([*rows.values(), self._aligner.key])
        return CodeMixing(name.percent, name.mix, self._seed, task.language, tuple(rows), known, translations)

    def _others(self, task: Task[Any], split: Split) -> dict[str, str]:
        """Return the languages to mix in, with the fingerprints of their rows."""
        known = [code for code in task.languages if code not in WITHOUT_WORDS]
        wanted = [code for code in known if (code == ENGLISH) != (task.language == ENGLISH)]
        if task.language == ENGLISH and self._languages is not None:
            wanted = [code for code in wanted if code in self._languages]
        found: dict[str, str] = {}
        for code in wanted:
            try:
                raw_splits = self._splits.raw_splits(_in(task, code), split)
            except FileNotFoundError as error:
                if task.language != ENGLISH:
                    raise Inapplicable(str(error)) from error
            else:
                found[code] = " ".join(raw.fingerprint for raw in raw_splits)
        return found

    def _translations(self, task: Task[Any], split: Split) -> Translations:
        """Return the examples of a task in its languages, which all its perturbations share."""
        key = task.group, split
        if key not in self._known:
            self._known[key] = Translations(
                lambda code: self._read(_in(task, code), split), self._folder, self._aligner
            )
        return self._known[key]

    def _read(self, task: Task[Any], split: Split) -> list[Any]:
        """The labelled examples of a task in a language."""
        raw_splits = self._splits.raw_splits(task, split)
        examples = read_examples(task, raw_splits)
        return without_images(example for example in examples if task.is_labelled(example))


def _in(task: Task[Any], language: str) -> Task[Any]:
    """Return the task in another language."""
    return replace(task, name=f"{task.group}/{language}")
