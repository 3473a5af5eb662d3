"""Code-mixing: words, links and phrases worked out by hand, what is replaced and what never is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from xlt.data.examples import Question, TaggedWords, TextPair
from xlt.data.parallel import joined
from xlt.evaluation.perturbations import code_mixing
from xlt.evaluation.perturbations.alignment import aligned, phrases, sentences, words
from xlt.evaluation.perturbations.code_mixing import CodeMixing, Translations
from xlt.evaluation.perturbations.edits import Edit, edited, moved
from xlt.evaluation.perturbations.similarity import Link, Stretch


def read(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


# Words, links, phrases


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("She didn't go, 2nd time.", ["She", "didn't", "go", ",", "2nd", "time", "."]),
        ("l’homme qu'on a vu", ["l’homme", "qu'on", "a", "vu"]),
        ("他在NBA打球。", ["他", "在", "NBA", "打", "球", "。"]),
        ("コンピュータの研究を始めた", ["コンピュータ", "の", "研", "究", "を", "始", "めた"]),
        ("क्षत्रिय राजा", ["क्षत्रिय", "राजा"]),
        ("می‌خواهد برود", ["می‌خواهد", "برود"]),
    ],
)
def test_words_of_a_text(text: str, wanted: list[str]):
    assert read(text) == wanted


def test_sentences_are_ranges_of_words():
    assert sentences("One two. Three? ”Four five") == [range(3), range(3, 5), range(5, 8)]
    assert sentences("一二。三！四") == [range(3), range(3, 5), range(5, 6)]
    assert sentences("") == []


def pairs(first: str, second: str, links: Sequence[Link]) -> list[tuple[str, str]]:
    return [(first[slice(*a)], second[slice(*b)]) for a, b in phrases(first, second, links)]


def test_phrases_of_crossing_links():
    links = [(0, 3), (1, 1), (2, 0), (3, 2)]
    assert pairs("das habe ich gesehen", "I have seen that", links) == [
        ("das", "that"), ("habe", "have"), ("ich", "I"), ("gesehen", "seen"),
    ]  # fmt: skip


def test_a_phrase_holds_all_that_its_words_are_linked_to():
    # "ne … pas" is "not", inside of which "part" stands: the three are one phrase.
    links = [(0, 0), (1, 2), (2, 1), (3, 2)]
    assert pairs("il ne part pas", "he leaves not", links) == [("il", "he"), ("ne part pas", "leaves not")]


def test_a_phrase_begins_and_ends_with_words_that_are_linked():
    assert pairs("of course not", "natürlich nicht", [(1, 0), (2, 1)]) == [
        ("course", "natürlich"),
        ("not", "nicht"),
    ]
    assert pairs("a b", "c d", []) == []


def test_a_phrase_of_more_than_seven_words_is_none():
    text = " ".join("abcdefgh")
    assert pairs(text, "x y", [(0, 0), (7, 0), (3, 1)]) == [("d", "y")]


# The aligner


def lexicon(number: int) -> list[tuple[str, str]]:
    """Sentences of an invented language, whose words are the English ones reversed, in reversed order."""
    names = [f"{a}{b}" for a in ("ba", "do", "ke", "mi", "su") for b in ("lor", "tan", "fes", "rig")]
    draws = np.random.default_rng(0).integers(len(names), size=(number, 6))
    sentences_ = [[names[i] for i in dict.fromkeys(row)] for row in draws.tolist()]
    return [(" ".join(w), " ".join(x[::-1].upper() for x in reversed(w))) for w in sentences_]


class ByPlace:
    """An aligner that links the words with the same number, and keeps what it was asked."""

    key = "by place"

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def links(self, pairs: Sequence[tuple[Stretch, Stretch]]) -> list[list[Link]]:
        self.calls.append([tuple([s.text[slice(*w)] for w in s.words] for s in pair) for pair in pairs])
        return [[(i, i) for i in range(min(len(one.words), len(other.words)))] for one, other in pairs]


def test_links_are_found_once_for_what_the_texts_say(tmp_path: Path):
    aligner: Any = ByPlace()
    texts = [("A b", "C d"), ("", "x"), ("Go. Stop now.", "Geh. Halt jetzt.")]
    wanted = [[(0, 0), (1, 1)], [], [(i, i) for i in range(5)]]
    assert aligned(texts, tmp_path, aligner) == wanted
    assert aligned(texts, tmp_path, aligner) == wanted
    asked = [
        (["A", "b"], ["C", "d"]),
        (["Go", "."], ["Geh", "."]),  # the two sentences apart
        (["Stop", "now", "."], ["Halt", "jetzt", "."]),
    ]
    assert aligner.calls == [asked]
    assert aligned(texts[::-1], tmp_path, aligner) == wanted[::-1]
    assert len(aligner.calls) == 2


def test_another_aligner_has_links_of_its_own(tmp_path: Path):
    one, other = ByPlace(), ByPlace()
    other.key = "another encoder"
    for aligner in (one, other, one):
        aligned([("A b", "C d")], tmp_path, aligner)  # pyright: ignore[reportArgumentType]
    assert (len(one.calls), len(other.calls)) == (1, 1)


# Which examples belong together


def test_examples_with_ids_are_joined_by_id():
    one = [Question("?", "a", (), (), name) for name in "abc"]
    other = [Question("?", "b", (), (), name) for name in "cxa"]
    assert [(a.id, b.id) for a, b in joined(one, other)] == [("a", "a"), ("c", "c")]


def test_as_many_examples_without_ids_are_joined_by_place():
    one = [TextPair(f"a {i}", "b", i % 2) for i in range(4)]
    other = [TextPair(f"c {i}", "d", i % 2) for i in range(4)]
    assert joined(one, other) == list(zip(one, other, strict=True))


def test_a_set_without_labelled_examples_is_not_joined():
    one = [TextPair(f"a {i}", "b", i % 2) for i in range(4)]
    for sides in ((one, []), ([], one)):
        with pytest.raises(ValueError, match="no example with a label"):
            joined(*sides)


def test_examples_of_other_labels_are_not_joined():
    one = [TextPair(f"a {i}", "b", i % 2) for i in range(40)]
    with pytest.raises(ValueError, match="no ids, and put in order 0 % of the labels agree"):
        joined(one, [TextPair(e.first, e.second, 1 - int(e.label)) for e in one])


def paraphrases(mirror: Path, language: str) -> list[TextPair]:
    rows = pq.read_table(mirror / f"google/xtreme/PAWS-X.{language}/validation.parquet").to_pylist()
    return [TextPair(row["sentence1"], row["sentence2"], row["label"]) for row in rows]


def test_pairs_that_lack_some_are_found_among_all_by_their_order(mirror: Path):
    english = paraphrases(mirror, "en")
    kept = np.sort(np.random.default_rng(0).permutation(len(english))[:1900])
    found = joined([english[i] for i in kept], english)
    # Without a translation between them nothing is in doubt but pairs that say the same.
    assert np.mean([a == b for a, b in found]) > 0.999


@pytest.mark.parametrize("language", ["de", "ja", "zh"])
def test_pairs_of_other_languages_have_the_numbers_of_the_english_ones(mirror: Path, language: str):
    own, english = paraphrases(mirror, language), paraphrases(mirror, "en")
    found = joined(own, english)
    assert len(found) == len(own) < len(english)

    def numbers(example: TextPair) -> set[str]:
        return {
            word for word in read(f"{example.first} {example.second}") if len(word) == 4 and word.isdigit()
        }

    with_years = [(numbers(a), numbers(b)) for a, b in found if numbers(b)]
    assert np.mean([a == b for a, b in with_years]) > 0.95
    by_place = [(numbers(a), numbers(b)) for a, b in zip(own, english, strict=False) if numbers(b)]
    assert np.mean([a == b for a, b in by_place]) < 0.5
    assert [b for b in english if b in {pair[1] for pair in found}] == [b for _, b in found]  # in order


# Mixing


EXAMPLES = {
    "de": TextPair("Er hat das Haus gesehen.", "Das Haus ist alt.", 0),
    "en": TextPair("He saw the house.", "The house is old.", 0),
    "zh": TextPair("他看见了房子。", "房子老了。", 0),
}
LINKS = {
    ("de", "en"): [[(0, 0), (1, 1), (2, 2), (3, 3), (4, 1), (5, 4)], [(i, i) for i in range(5)]],
    ("en", "zh"): [[(0, 0), (1, 1), (1, 2), (3, 4), (3, 5), (4, 6)], [(1, 0), (1, 1), (3, 2), (4, 4)]],
}


@pytest.fixture
def translations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Translations:
    """Two languages beside English, with links made by hand."""
    by_texts = {}
    for (one, other), links in LINKS.items():
        a, b = EXAMPLES[one], EXAMPLES[other]
        by_texts[(a.first, b.first), (a.second, b.second)] = links
    monkeypatch.setattr(code_mixing, "aligned", lambda texts, *_: by_texts[tuple(texts)])
    return Translations(lambda language: [EXAMPLES[language]], tmp_path, ByPlace())


def mixing(translations: Any, language: str, *others: str, percent: int = 100, mix: int = 0) -> CodeMixing:
    return CodeMixing(percent, mix, 0, language, others or ("en",), "rows", translations)


def test_english_phrases_take_the_place_of_german_ones(translations: Translations):
    mixed = mixing(translations, "de")(EXAMPLES["de"])
    # "hat das Haus gesehen" is one phrase: two of its words are linked to "saw", and "das Haus" is inside.
    assert mixed == TextPair("He saw the house.", "The house is old.", 0)


def test_words_beside_chinese_characters_are_set_apart(translations: Translations):
    # "see" is two characters, as is "house"; the ones between have no link.
    assert mixing(translations, "zh")(EXAMPLES["zh"]).first == "He saw 了 house。"
    assert mixing(translations, "en", "zh")(EXAMPLES["en"]).first == "他 看见 the 房子."


def test_one_of_the_other_languages_is_mixed_into_english(translations: Translations):
    found = {mixing(translations, "en", "de", "zh", mix=mix)(EXAMPLES["en"]).second for mix in range(12)}
    assert found == {"Das Haus ist alt.", "The 房子 is 老."}


class Words:
    """Translations of which every word's is the word in capitals, between angle brackets."""

    def edits(self, text: str, language: str, other: str) -> list[Edit]:
        return [Edit(*span, f"<{text[slice(*span)].upper()}>") for span in words(text)]


TEXT = " ".join(f"word{i}" for i in range(400))


def hit(percent: int, mix: int = 0) -> set[int]:
    mixed = mixing(Words(), "de", percent=percent, mix=mix)(TextPair(TEXT, None, 0)).first
    return {i for i, word in enumerate(mixed.split()) if word.startswith("<")}


def test_as_many_phrases_are_replaced_as_are_wanted():
    for percent in (15, 30, 50):
        counts = [len(hit(percent, mix)) / 4 for mix in range(10)]
        # Of 4,000 phrases: three standard deviations are 2.4 points at most.
        assert abs(np.mean(counts) - percent) < 2.4
        assert len(set(counts)) > 1


def test_what_is_replaced_at_15_percent_is_replaced_at_30_too_and_other_mixes_are_others():
    assert hit(15) < hit(30) < hit(50)
    assert hit(30, 0) != hit(30, 1)
    assert hit(30, 1) == hit(30, 1)


def test_gold_answers_are_never_replaced_and_their_starts_move():
    context = "the old house stands by the sea in Wales"
    answers = ("house stands", "Wales", "ea")
    starts = tuple(context.index(answer) for answer in answers)
    mixed = mixing(Words(), "de")(Question("where is it", context, answers, starts, "q"))
    assert mixed.question == "<WHERE> <IS> <IT>"
    assert mixed.context == "<THE> <OLD> house stands <BY> <THE> sea <IN> Wales"
    assert mixed.answers == answers
    assert mixed.starts == tuple(mixed.context.index(answer) for answer in answers)


def test_phrases_without_letters_or_alike_are_no_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, other = TextPair("Anna , 1 haus", "x", 0), TextPair("anna . 2 house", "x", 0)
    monkeypatch.setattr(code_mixing, "aligned", lambda texts, *_: [[(i, i) for i in range(4)]] * len(texts))
    found = Translations(lambda language: [one if language == "de" else other], tmp_path, ByPlace())
    assert found.edits("Anna , 1 haus", "de", "en") == [Edit(9, 13, "house")]
    assert found.edits("a text that is not there", "de", "en") == []


def test_an_example_without_two_texts_is_refused():
    with pytest.raises(TypeError, match="a TaggedWords has no texts"):
        mixing(Words(), "de")(TaggedWords(("a",), ("X",)))


def test_the_fingerprint_tells_mixes_apart_and_not_where_alignments_are(translations: Translations):
    prints = {mixing(translations, "de", percent=p, mix=m).fingerprint for p in (15, 30) for m in (0, 1)}
    assert len(prints) == 4
    assert mixing(Words(), "de").fingerprint == mixing(translations, "de").fingerprint


def test_edits_of_a_worked_example():
    edits = [Edit(0, 1, "xyz"), Edit(2, 4, ""), Edit(5, 5, "!")]
    assert edited("abcdefg", edits) == "xyzbe!fg"
    assert moved((1, 4, 6), edits) == (3, 4, 7)
