"""Code-mixing: so many percent of an example's phrases become their translations in another language.

A phrase is replaced where a parallel test set has its translation: XNLI, PAWS-X and XQuAD hold each example
in several languages. Into a language English is mixed; into English one of the others, drawn for each
example and mix: no language has a claim to be the one, and so the worst mix may be the worst language too.
Candidates are the phrases of the word alignment that hold a letter on both sides and read differently; each
is replaced with the wanted probability. Gold answers and what overlaps them are never replaced, and their
starts move with the passage.

All draws are keyed by the seed, the number of the mix and the text, so what is replaced at 15 percent is
replaced at 30 percent too. The worst of several mixes estimates what an adversary finds.

Source: Tan and Joty (2021), https://aclanthology.org/2021.naacl-main.282 (BUMBLEBEE: phrases of aligned
reference translations take the place of the example's own); here mixes are drawn, where theirs search for
the most harmful.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import singledispatch
from pathlib import Path
from typing import Any, TypeVar

import regex

from xlt.data.examples import Question, TextPair
from xlt.data.parallel import joined, texts_of
from xlt.data.sampling.order import draw, uniform
from xlt.evaluation.perturbations import alignment
from xlt.evaluation.perturbations.alignment import aligned, phrases
from xlt.evaluation.perturbations.edits import Edit, edited, gold_spans, is_apart, moved
from xlt.evaluation.perturbations.similarity import Aligner, Link

E = TypeVar("E")

MIXING_VERSION = 1
"""Version of the code that mixes: this module, alignment, edits and xlt.data.parallel. Raise it when a change
gives other texts."""

_HAS_LETTER = regex.compile(r"\p{L}")
_IN_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]")


class Translations:
    """The examples of a task in its languages, and the phrases by which their texts translate each other.

    Args:
        read: All examples in a language.
        folder: Folder of the alignments.
        aligner: The encoder that aligns words.
    """

    def __init__(self, read: Callable[[str], Sequence[Any]], folder: Path, aligner: Aligner) -> None:
        self._read, self._folder, self._aligner = read, folder, aligner
        self._examples: dict[str, Sequence[Any]] = {}
        self._pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._aligned: dict[tuple[str, str], dict[str, tuple[str, list[Link]]]] = {}

    def pairs(self, one: str, other: str) -> list[tuple[str, str]]:
        """The distinct pairs of texts in two languages.

        Raises:
            ValueError: It cannot be told which translate each other.
        """
        if (one, other) not in self._pairs:
            examples = joined(self._in(one), self._in(other))
            texts = [zip(texts_of(a), texts_of(b), strict=True) for a, b in examples]
            self._pairs[one, other] = list(dict.fromkeys(pair for pairs in texts for pair in pairs))
        return self._pairs[one, other]

    def _in(self, language: str) -> Sequence[Any]:
        if language not in self._examples:
            self._examples[language] = self._read(language)
        return self._examples[language]

    def edits(self, text: str, language: str, other: str) -> list[Edit]:
        """Each phrase of a text in a language, as its translation into the other."""
        self.align(*sorted((language, other)))
        translation, links = self._aligned[language, other].get(text, ("", []))
        pairs = phrases(text, translation, links)
        found = [Edit(*span, translation[slice(*theirs)]) for span, theirs in pairs]
        return [edit for edit in found if _changes(text[edit.start : edit.end], edit.text)]

    def align(self, one: str, other: str) -> None:
        """Align the texts of two languages, which ascend, once for both directions."""
        if (one, other) in self._aligned:
            return
        pairs = self.pairs(one, other)
        forward: dict[str, tuple[str, list[Link]]] = {}
        backward: dict[str, tuple[str, list[Link]]] = {}
        for (first, second), links in zip(pairs, aligned(pairs, self._folder, self._aligner), strict=True):
            forward.setdefault(first, (second, links))
            backward.setdefault(second, (first, [(j, i) for i, j in links]))
        self._aligned |= {(one, other): forward, (other, one): backward}


def _changes(text: str, other: str) -> bool:
    """Whether one phrase for the other changes what is read."""
    both_speak = _HAS_LETTER.search(text) and _HAS_LETTER.search(other)
    return bool(both_speak) and text.casefold() != other.casefold()


@dataclass(frozen=True)
class CodeMixing:
    """A map from an example to a code-mixed one.

    Args:
        percent: Of the phrases, those that are replaced.
        mix: Number of the mix.
        seed: What is drawn depends on it.
        language: The examples' language.
        others: Languages one of which is mixed in.
        rows: Fingerprints of their rows and of the encoder that aligns words.
        translations: Where phrases come from.
    """

    percent: int
    mix: int
    seed: int
    language: str
    others: tuple[str, ...]
    rows: str
    translations: Translations = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Return a text that differs from that of a mixing with other results."""
        return f"{self} version {MIXING_VERSION} {alignment.VERSION}"

    @property
    def alignments(self) -> list[tuple[str, str]]:
        """The pairs of languages, each ascending, whose alignments the mixing needs."""
        return [(min(self.language, other), max(self.language, other)) for other in self.others]

    def __call__(self, example: E) -> E:
        """The example, code-mixed.

        Raises:
            TypeError: Its shape cannot be.
        """
        number = int(draw(1, "language", self.seed, self.mix, texts_of(example))[0])
        return _mixed(example, self, self.others[number % len(self.others)])

    def edits(self, text: str, other: str, kept: Sequence[tuple[int, int]] = ()) -> list[Edit]:
        """What mixing does to a text.

        Args:
            text: The text.
            other: The language that is mixed in.
            kept: First and one after the last character of spans that stay as they are.
        """
        found = self.translations.edits(text, self.language, other)
        found = [edit for edit in found if is_apart(edit.start, edit.end, kept)]
        hit = uniform(len(found), "mix", self.seed, self.mix, text) < self.percent / 100
        return _spaced(text, [edit for edit, is_hit in zip(found, hit, strict=True) if is_hit])

    def text(self, text: str, other: str) -> str:
        """A text, code-mixed."""
        return edited(text, self.edits(text, other))


def _spaced(text: str, found: Sequence[Edit]) -> list[Edit]:
    """The edits with a space where a word would else run into another, as beside Chinese characters."""
    spaced: list[Edit] = []
    starts = {edit.start for edit in found}
    for edit in found:
        before = text[edit.start - 1 : edit.start] if edit.start else ""
        if spaced and spaced[-1].end == edit.start:
            before = spaced[-1].text[-1]
        after = "" if edit.end in starts else text[edit.end : edit.end + 1]
        left = " " if _meet(before, edit.text[0]) else ""
        right = " " if _meet(edit.text[-1], after) else ""
        spaced.append(edit._replace(text=left + edit.text + right))
    return spaced


def _meet(one: str, other: str) -> bool:
    """Whether both characters are of words."""
    return bool(_IN_WORD.match(one) and _IN_WORD.match(other))


@singledispatch
def _mixed(example: Any, mixing: CodeMixing, other: str) -> Any:  # noqa: ARG001 (for the shapes below)
    """The example with phrases of the other language."""
    raise TypeError(f"a {type(example).__name__} cannot be code-mixed")


@_mixed.register
def _(example: TextPair, mixing: CodeMixing, other: str) -> TextPair:
    """The text, or both of a pair."""
    second = None if example.second is None else mixing.text(example.second, other)
    return replace(example, first=mixing.text(example.first, other), second=second)


@_mixed.register
def _(example: Question, mixing: CodeMixing, other: str) -> Question:
    """Question and passage; the gold answers stay, and their starts move."""
    found = mixing.edits(example.context, other, gold_spans(example))
    return replace(
        example,
        question=mixing.text(example.question, other),
        context=edited(example.context, found),
        starts=moved(example.starts, found),
    )
