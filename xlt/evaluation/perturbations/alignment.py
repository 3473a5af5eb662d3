"""Which stretches of two texts translate each other: words aligned by eflomal, phrases read off the links.

Words are runs of letters, marks and digits, and of apostrophes between them. Of the scripts that put no
spaces between words, each Chinese character is a word, as in MLQA's mixed segmentation, and several may be
aligned to one word; so is each run of Katakana and of Hiragana. Thai, Lao, Khmer and Burmese would need a
dictionary: they are not mixed. Passages are cut into sentences where those of both seem to be the same.

Source: eflomal, Östling and Tiedemann (2016), https://ufal.mff.cuni.cz/pbml/106/art-ostling-tiedemann.pdf;
grow-diag-final-and, Koehn et al. (2005), https://aclanthology.org/2005.iwslt-1.8; consistent phrase pairs,
Och and Ney (2004), https://aclanthology.org/J04-4002.
"""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import regex

Span = tuple[int, int]
"""First character, and one after the last."""

Link = tuple[int, int]
"""Numbers of two words that are aligned."""

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
"""Sentences of which one takes up so many times the other's share of its text are not the same."""

MOST_WORDS = 1000
"""Words of the longest sentence that eflomal takes; longer ones are left unaligned."""

MOST_IN_PHRASE = 7
"""Words of the longest phrase on either side (Och and Ney 2004, section 3.1)."""

_NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def check_aligner() -> None:
    """Raise ValueError where eflomal is not installed."""
    if find_spec("eflomal") is None:
        raise ValueError(
            "mixing languages needs the word aligner eflomal, which is not installed: pip install "
            "'xlt[study]', or leave mix-... out of perturbations"
        )


def words(text: str) -> list[Span]:
    """The text's words, punctuation marks among them."""
    return [match.span() for match in _WORD.finditer(text)]


def sentences(text: str) -> list[range]:
    """Numbers of the words of each of the text's sentences."""
    starts = [start for start, _ in words(text)]
    ends = [bisect_left(starts, match.end()) for match in _SENTENCE_END.finditer(text)]
    return [range(*span) for span in pairwise([0, *ends, len(starts)]) if span[0] < span[1]]


def _stretches(first: str, second: str) -> list[tuple[range, range]]:
    """Numbers of the words of both texts that are aligned to each other."""
    one, other = sentences(first), sentences(second)
    whole = [sum(map(len, side)) for side in (one, other)]
    shares = [(len(a) / whole[0], len(b) / whole[1]) for a, b in zip(one, other, strict=False)]
    if len(one) != len(other) or any(max(pair) > UNLIKE * min(pair) for pair in shares):
        one, other = [range(whole[0])], [range(whole[1])]
    pairs = zip(one, other, strict=True)
    return [(a, b) for a, b in pairs if len(a) and len(b) and max(len(a), len(b)) <= MOST_WORDS]


def aligned(texts: Texts, folder: Path) -> list[list[Link]]:
    """The links between the words of each pair, in order, found once for what the pairs say.

    eflomal samples by the system's random numbers and takes no seed: of two runs about one phrase in five
    differs. The links found first are kept in the folder, and hold; another machine has the same mixes if it
    is given the folder.

    Args:
        texts: Pairs of texts.
        folder: Where links are kept, a line a pair.
    """
    digest = hashlib.sha256(Path(__file__).read_bytes() + version("eflomal").encode())
    digest.update(repr(list(texts)).encode())
    path = folder / f"{digest.hexdigest()[:16]}.links"
    if not path.is_file():
        _keep(path, (" ".join(f"{i}-{j}" for i, j in sorted(links)) for links in _links(texts)))
    return _read(path)


def _keep(path: Path, lines: Iterable[str]) -> None:
    """Write a file whole, unless another process was first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if path.is_file():
        scratch.unlink()
    else:
        scratch.replace(path)


def _read(path: Path) -> list[list[Link]]:
    """The links on each line."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    cut = [[link.split("-") for link in line.split()] for line in lines]
    return [[(int(i), int(j)) for i, j in links] for links in cut]


def _links(texts: Texts) -> list[set[Link]]:
    """The symmetrised links of each pair of texts."""
    stretches = [(n, *pair) for n, both in enumerate(texts) for pair in _stretches(*both)]
    found: list[set[Link]] = [set() for _ in texts]
    if not stretches:
        return found
    first = _lines([(texts[n][0], one) for n, one, _ in stretches])
    second = _lines([(texts[n][1], other) for n, _, other in stretches])
    for (n, one, other), *ways in zip(stretches, *_both_ways(first, second), strict=True):
        found[n] |= {(one[i], other[j]) for i, j in symmetrised(*ways)}
    return found


def _lines(stretches: Sequence[tuple[str, range]]) -> list[str]:
    """A line of words for each stretch of a text, every word written as its number."""
    numbers: dict[str, int] = {}
    lines = []
    for text, numbers_of_words in stretches:
        spans = words(text)[numbers_of_words.start : numbers_of_words.stop]
        found = [text[start:end].lower() for start, end in spans]
        lines.append(" ".join(f"w{numbers.setdefault(word, len(numbers))}" for word in found))
    return lines


def _both_ways(one: Sequence[str], other: Sequence[str]) -> tuple[list[set[Link]], list[set[Link]]]:
    """Links of the lines, from the first to the second and back, each as (first's word, second's)."""
    from eflomal import Aligner  # an extra of the package

    with TemporaryDirectory() as folder:
        forward, backward = Path(folder, "forward"), Path(folder, "backward")
        Aligner().align(one, other, str(forward), str(backward))
        first, second = ([set(links) for links in _read(path)] for path in (forward, backward))
    return first, second


def symmetrised(forward: set[Link], backward: set[Link]) -> set[Link]:
    """The links that both directions have, grown by grow-diag-final-and.

    Neighbours, diagonal ones too, of links found are added from either direction while one of their words
    has no link yet; at last the links whose words both have none.
    """
    union, found = forward | backward, forward & backward
    rows, columns = {i for i, _ in found}, {j for _, j in found}

    def add(link: Link) -> None:
        found.add(link)
        rows.add(link[0])
        columns.add(link[1])

    waiting = sorted(found)
    for row, column in waiting:  # grows as it is walked through
        for i, j in ((row + down, column + right) for down, right in _NEIGHBOURS):
            if (i, j) in union and (i, j) not in found and (i not in rows or j not in columns):
                add((i, j))
                waiting.append((i, j))
    for i, j in [*sorted(forward), *sorted(backward)]:
        if i not in rows and j not in columns:
            add((i, j))
    return found


def phrases(first: str, second: str, links: Iterable[Link]) -> list[tuple[Span, Span]]:
    """Stretches of the first text with their translations in the second, none of which overlap.

    From left to right the shortest pair that is consistent: none of its words is linked to one outside, and
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
    """Last word of the shortest consistent phrase that begins here, and the translation's first and last."""
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
