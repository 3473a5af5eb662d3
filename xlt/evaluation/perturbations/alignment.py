"""Phrases of two texts that translate each other, read off the links between their words.

Words are runs of letters, marks and digits, and of apostrophes between them. In scripts that put no spaces
between words, each Chinese character is a word, as in MLQA's mixed segmentation, and several characters may
be linked to one word; each run of Katakana or of Hiragana is a word. Thai, Lao, Khmer and Burmese would need
a dictionary and are not mixed. Texts are cut into sentences if the sentences of both seem to be the same.

Source of phrases: Och and Ney (2004), https://aclanthology.org/J04-4002 (consistent phrase pairs).
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import regex

from xlt.evaluation.perturbations.similarity import Aligner, Link, Span, Stretch
from xlt.system.files import write_atomically

VERSION = 1
"""Raise it when the words or the sentences of a text change."""

Texts = Sequence[tuple[str, str]]
"""Pairs of texts that translate each other."""

WITHOUT_WORDS = ("th", "lo", "km", "my")
"""Languages whose words cannot be told apart here."""

_KATAKANA, _UNSPACED = r"[\p{Katakana}ー]", r"[\p{Han}\p{Hiragana}\p{Katakana}ー]"
_IN_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d]--{_UNSPACED}]+"
_WORD = regex.compile(
    rf"\p{{Han}}\p{{M}}*|{_KATAKANA}+|\p{{Hiragana}}+|{_IN_WORD}(?:['’]{_IN_WORD})*|\S", regex.V1
)
_SENTENCE_END = regex.compile(r"[.!?؟]+[\"'”»)\]]*\s+|[。！？।]+[”」』）]*\s*")

UNLIKE = 2.0
"""Maximum ratio of two sentences' shares of their texts; sentences beyond it are not the same."""

MOST_IN_PHRASE = 7
"""Maximum number of words of a phrase on either side (Och and Ney 2004, section 3.1)."""


def words(text: str) -> list[Span]:
    """Return the spans of the text's words, punctuation marks among them."""
    return [match.span() for match in _WORD.finditer(text)]


def sentences(text: str) -> list[range]:
    """Return the word numbers of each of the text's sentences."""
    starts = [start for start, _ in words(text)]
    ends = [bisect_left(starts, match.end()) for match in _SENTENCE_END.finditer(text)]
    return [range(*span) for span in pairwise([0, *ends, len(starts)]) if span[0] < span[1]]


def _stretches(first: str, second: str) -> list[tuple[range, range]]:
    """Return the word numbers of matching sentences, or of the whole texts if the sentences do not match."""
    one, other = sentences(first), sentences(second)
    whole = [sum(map(len, side)) for side in (one, other)]
    shares = [(len(a) / whole[0], len(b) / whole[1]) for a, b in zip(one, other, strict=False)]
    if len(one) != len(other) or any(max(pair) > UNLIKE * min(pair) for pair in shares):
        one, other = [range(whole[0])], [range(whole[1])]
    pairs = zip(one, other, strict=True)
    return [(a, b) for a, b in pairs if len(a) and len(b)]


def aligned(texts: Texts, folder: Path, aligner: Aligner) -> list[list[Link]]:
    """Return the links between the words of each pair of texts, in order.

    Links are kept in a file of the folder with one line per pair, which later calls for the same texts read.

    Args:
        texts: Pairs of texts.
        folder: Folder of the links.
        aligner: The encoder that finds links.
    """
    digest = hashlib.sha256(f"{VERSION} {aligner.key} {list(texts)!r}".encode())
    path = folder / f"{digest.hexdigest()[:16]}.links"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = (" ".join(f"{i}-{j}" for i, j in links) for links in _links(texts, aligner))
        write_atomically(path, "".join(f"{line}\n" for line in found))
    return _read(path)


def _read(path: Path) -> list[list[Link]]:
    """Return the links on each line."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    cut = [[link.split("-") for link in line.split()] for line in lines]
    return [[(int(i), int(j)) for i, j in links] for links in cut]


def _links(texts: Texts, aligner: Aligner) -> list[list[Link]]:
    """Return the links of each pair of texts, ascending."""
    stretches = [(n, *pair) for n, both in enumerate(texts) for pair in _stretches(*both)]
    pairs = [(_stretch(texts[n][0], one), _stretch(texts[n][1], other)) for n, one, other in stretches]
    found: list[list[Link]] = [[] for _ in texts]
    for (n, one, other), links in zip(stretches, aligner.links(pairs), strict=True):
        found[n] += [(one[i], other[j]) for i, j in links]
    return found


def _stretch(text: str, numbers: range) -> Stretch:
    """Return the stretch of a text that holds the words with these numbers."""
    spans = words(text)[numbers.start : numbers.stop]
    first = spans[0][0]
    return Stretch(text[first : spans[-1][1]], [(start - first, end - first) for start, end in spans])


def phrases(first: str, second: str, links: Iterable[Link]) -> list[tuple[Span, Span]]:
    """Return spans of the first text with the spans of their translations in the second; no two overlap.

    From left to right, each is the shortest consistent pair: no word in it is linked to a word outside, and
    the words at its ends are linked.
    """
    spans = words(first), words(second)
    partners = tuple([set[int]() for _ in side] for side in spans)
    for i, j in links:
        partners[0][i].add(j)
        partners[1][j].add(i)
    found, place = [], 0
    while place < len(spans[0]):
        pair = _shortest(place, *partners)
        if pair is None:
            place += 1
            continue
        last, low, high = pair
        found.append(
            ((spans[0][place][0], spans[0][last][1]), (spans[1][low][0], spans[1][high][1])),
        )
        place = last + 1
    return found


def _shortest(
    place: int, partners: Sequence[set[int]], theirs: Sequence[set[int]]
) -> tuple[int, int, int] | None:
    """Return the last word of the shortest consistent phrase from here, and its translation's ends."""
    linked: set[int] = set()
    for last in range(place, min(place + MOST_IN_PHRASE, len(partners))):
        linked |= partners[last]
        if not linked:
            return None
        low, high = min(linked), max(linked)
        if high - low >= MOST_IN_PHRASE:
            return None
        back = set[int]().union(*theirs[low : high + 1])
        if partners[last] and min(back) >= place and max(back) <= last:
            return last, low, high
    return None
