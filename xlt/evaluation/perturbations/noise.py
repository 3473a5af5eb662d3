"""Typing noise: so many percent of an example's letters are inserted, deleted, replaced or swapped.

A letter is what a reader takes for one: a grapheme cluster (UAX 29) that begins with a letter, together with
marks after it that UAX 29 sets apart, as in Burmese. Clusters are never torn.

What decides an example's label stays: digits, punctuation and white space are untouched, and a run of letters
keeps at least one, so no word vanishes and none is split or joined; gold answers stay verbatim, and their
starts move with the passage; the English side of a pair of translations is left alone.

Each letter is hit with the wanted probability. What happens to it is drawn from the four operations; where
one cannot be done (a word's only letter deleted, a last letter swapped with the next) the next in the list
is. A letter that comes in is one of the distinct letters that the text itself has in the same script, in the
case of the one that was hit. All draws are keyed by the seed and the text, so the same text has the same
noise wherever it stands, and what is hit at 5 percent is hit at 10 percent too.

Source: Belinkov and Bisk (2018), https://arxiv.org/abs/1711.02173, who swap and replace letters at random;
the four operations are the typing errors of Damerau (1964), https://doi.org/10.1145/363958.363994. The
question is that of Cooper Stickland et al. (2023), https://aclanthology.org/2023.eacl-main.100, who draw
errors of words from the edits of Wikipedia in five languages; drawn letter by letter, noise can be had in
every language and at every level.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import regex

from xlt.data.examples import Question, TaggedWords, Text, TextPair
from xlt.data.sampling.order import draw, uniform
from xlt.evaluation.perturbations.edits import Edit, edited, gold_spans, is_apart, moved

E = TypeVar("E")

NOISE_VERSION = 1
"""Version of the code that makes noise: this module and edits. Raise it when a change gives other texts."""

_CLUSTER = regex.compile(r"\X[\p{M}\u200c\u200d]*")

_LETTER = regex.compile(r"[\p{Lu}\p{Ll}\p{Lt}\p{Lo}][\p{L}\p{M}\u200c\u200d]*")


@lru_cache(256)
def clusters(text: str) -> tuple[str, ...]:
    """The text's characters as a reader sees them; together they are the text."""
    return tuple(_CLUSTER.findall(text))


@lru_cache(65536)
def is_letter(cluster: str) -> bool:
    """Whether a cluster is a letter with its marks; a modifier, such as Katakana's long mark, is none."""
    return _LETTER.fullmatch(cluster) is not None


def script_of(cluster: str) -> str:
    """Script of a letter: the first word of its Unicode name, such as LATIN, HANGUL or CJK."""
    return unicodedata.name(cluster[0], "?").partition(" ")[0]


Alphabets = Mapping[str, Sequence[str]]
"""Script to its letters, in lower case."""


@lru_cache(256)
def alphabets(text: str) -> Alphabets:
    """The distinct letters of a text by script, sorted."""
    found: dict[str, set[str]] = {}
    for cluster in clusters(text):
        if is_letter(cluster):
            found.setdefault(script_of(cluster), set()).add(cluster.lower())
    return {script: sorted(letters) for script, letters in found.items()}


@dataclass(frozen=True)
class Noise:
    """A map from an example to the example with noise.

    Args:
        percent: Of the letters, those that are hit.
        seed: What is drawn depends on it.
    """

    percent: int
    seed: int

    @property
    def fingerprint(self) -> str:
        """Return a text that differs from that of noise with other results."""
        return f"{self} version {NOISE_VERSION}"

    def __call__(self, example: E) -> E:
        """The example with noise.

        Raises:
            TypeError: Its shape takes none.
        """
        return _noisy(example, self)

    def text(self, text: str) -> str:
        """A text with noise."""
        return edited(text, self.edits(text))

    def edits(
        self, text: str, kept: Sequence[tuple[int, int]] = (), letters: Alphabets | None = None, *key: object
    ) -> list[Edit]:
        """What noise does to a text.

        Args:
            text: The text.
            kept: First and one after the last character of spans that stay as they are.
            letters: What may come in; the text's own where not given.
            key: What else is drawn by.
        """
        found = clusters(text)
        places = np.cumsum([0, *map(len, found)]).tolist()
        free = [
            is_letter(c) and is_apart(*span, kept) for c, span in zip(found, pairwise(places), strict=True)
        ]
        key = ("noise", self.seed, text, *key)
        hit = (uniform(len(found), "where", *key) < self.percent / 100) & np.array(free, bool)
        if not hit.any():
            return []
        draws = draw(len(found), "what", *key), draw(len(found), "with", *key)
        typist = _Typist(found, places, free, hit, letters or alphabets(text))
        return [typist.edit(i, *(int(numbers[i]) for numbers in draws)) for i in np.flatnonzero(hit).tolist()]


class _Typist:
    """Makes the edits of one text, letter by letter from its start.

    Args:
        found: The text's clusters.
        places: First character of each, and the text's length.
        free: Whether each may change.
        hit: Whether each does.
        letters: What may come in.
    """

    def __init__(
        self,
        found: Sequence[str],
        places: Sequence[int],
        free: Sequence[bool],
        hit: np.ndarray,
        letters: Alphabets,
    ) -> None:
        self._found, self._places, self._free, self._hit = found, places, free, hit
        self._letters = letters
        ends = np.cumsum([not is_letter(cluster) for cluster in found])
        self._run = ends.tolist()
        self._left = Counter(run for run, c in zip(self._run, found, strict=True) if is_letter(c))

    def edit(self, i: int, what: int, which: int) -> Edit:
        """The edit of a letter that is hit.

        Args:
            i: Its number.
            what: Drawn number of the operation.
            which: Drawn number of the letter that comes in.
        """
        operations = (self._deleted, self._replaced, self._swapped, self._inserted)
        for k in range(len(operations)):
            made = operations[(what + k) % len(operations)](i, which)
            if made is not None:
                return made
        raise AssertionError("a letter can always be put in")

    def _deleted(self, i: int, which: int) -> Edit | None:
        if self._left[self._run[i]] < 2:
            return None
        self._left[self._run[i]] -= 1
        return Edit(self._places[i], self._places[i + 1], "")

    def _replaced(self, i: int, which: int) -> Edit | None:
        own = self._found[i].lower()
        others = [letter for letter in self._alphabet(i) if letter != own]
        if not others:
            return None
        return Edit(self._places[i], self._places[i + 1], self._as(i, others[which % len(others)]))

    def _swapped(self, i: int, which: int) -> Edit | None:
        """With the next, unless that is hit itself, is kept, or is the same."""
        j = i + 1
        if j == len(self._found) or not self._free[j] or self._hit[j] or self._found[i] == self._found[j]:
            return None
        return Edit(self._places[i], self._places[j + 1], self._found[j] + self._found[i])

    def _inserted(self, i: int, which: int) -> Edit:
        letters = self._alphabet(i)
        return Edit(self._places[i], self._places[i], self._as(i, letters[which % len(letters)]))

    def _alphabet(self, i: int) -> Sequence[str]:
        return self._letters[script_of(self._found[i])]

    def _as(self, i: int, letter: str) -> str:
        """A letter in the case of the one it stands beside or for, where both cases have one."""
        large = letter.upper()
        return large if self._found[i].isupper() and len(large) == len(letter) else letter


@singledispatch
def _noisy(example: Any, noise: Noise) -> Any:  # noqa: ARG001 (for the shapes below)
    """The example with noise."""
    raise TypeError(f"there is no noise for a {type(example).__name__}")


@_noisy.register
def _(example: TextPair, noise: Noise) -> TextPair:
    """The text, or both of a pair."""
    second = None if example.second is None else noise.text(example.second)
    return replace(example, first=noise.text(example.first), second=second)


@_noisy.register
def _(example: Text, noise: Noise) -> Text:
    """The text; its translation stays."""
    return replace(example, text=noise.text(example.text))


@_noisy.register
def _(example: TaggedWords, noise: Noise) -> TaggedWords:
    """Each word in its place, with letters of the whole sentence."""
    sentence = " ".join(example.words)
    letters = alphabets(sentence)
    words = [
        edited(word, noise.edits(word, (), letters, i, sentence)) for i, word in enumerate(example.words)
    ]
    return replace(example, words=tuple(words))


@_noisy.register
def _(example: Question, noise: Noise) -> Question:
    """Question and passage; the gold answers stay, and their starts move."""
    edits = noise.edits(example.context, gold_spans(example))
    return replace(
        example,
        question=noise.text(example.question),
        context=edited(example.context, edits),
        starts=moved(example.starts, edits),
    )
