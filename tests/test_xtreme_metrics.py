"""XTREME's scores against numbers worked out by hand, other ways of computing them, and the original scripts.

`data/xtreme_qa.json` holds, for rows of the mirror, spans of the context as predictions (row, first
character, end) and the exact match and F1 that evaluate-v1.1.py and mlqa_evaluation_v1.py give to each.
"""

import itertools
import json
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from xlt import tasks
from xlt.metrics.mining import best_mining_threshold, mining_scores, ratio_margin_pairs
from xlt.metrics.tagging import span_f1, span_scores
from xlt.metrics.xtreme_qa import mlqa_by_question, normalize_mlqa, squad_v1_by_question
from xlt.tasks.udpos import TAGS as UDPOS_TAGS

LAW = settings(deadline=None, max_examples=300, derandomize=True, database=None)

# Questions


def means(by_question: np.ndarray) -> dict[str, float]:
    """Return the means over the questions by name."""
    return dict(zip(("exact_match", "f1"), by_question.mean(0), strict=True))


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The  Theatre, a “play” — an\tact!", "theatre play act"),
        ("en", "la der của", "la der của"),
        ("es", "¿La casa de los Ángeles y el un, UNAS?", "casa de ángeles y"),
        ("es", "elefante unánime", "elefante unánime"),
        ("de", "Der Anfang des „Endes“, einer dem den", "anfang endes"),
        ("de", "Einerseits die Dienste das Dass", "einerseits dienste dass"),
        ("vi", "Những con chiếc của cái NHÀ là thế", "con nhà thế"),
        ("vi", "cáitên", "cáitên"),
        # A composed article; the same letters as letter and accent are another word.
        ("vi", unicodedata.normalize("NFD", "là") + " x", unicodedata.normalize("NFD", "là") + " x"),
        # The article goes, before a word as within it.
        ("ar", "البيت الكبير", "بيت كبير"),
        ("ar", "مجالس", "مج س"),
        ("ar", "والكتاب، نعم؟", "و كتاب نعم"),
        ("hi", "यह एक घर है। the a", "यह एक घर है the a"),
        ("zh", "《毁灭战士3》", "毁 灭 战 士 3"),
        ("zh", "BFG 9000和电锯", "bfg 9000 和 电 锯"),
        ("zh", "在2008年Beijing  Olympics，the", "在 2008 年 beijing olympicsthe"),
        # Beyond U+9FA5 no character is set apart, nor are those of Japanese.
        ("zh", "龥龦カナ中", "龥 龦カナ 中"),
        # Symbols of ASCII go, others stay.
        ("en", "$5 + 3€ = ~8%", "5 3€ 8"),
        ("de", "", ""),
        ("en", "…«»、", ""),
    ],
)
def test_mlqa_normalisation_by_hand(language: str, text: str, expected: str) -> None:
    assert normalize_mlqa(text, language) == expected


ARTICLES = {
    "en": {"a", "an", "the"},
    "es": {"un", "una", "unos", "unas", "el", "la", "los", "las"},
    "vi": {"của", "là", "cái", "chiếc", "những"},
    "de": {"ein", "eine", "einen", "einem", "eines", "einer", "der", "die", "das", "den", "dem", "des"},
}


def normalized_otherwise(text: str, language: str) -> str:
    """The words found letter by letter, in lists and sets instead of patterns."""
    kept = [c for c in text.lower() if unicodedata.category(c)[0] != "P" and c not in "$+<=>^`|~"]
    if language == "ar":
        kept = list(" ".join("".join(kept).split("ال")))
    if language == "zh":
        kept = list(itertools.chain(*([" ", c, " "] if 0x4E00 <= ord(c) <= 0x9FA5 else [c] for c in kept)))
    runs = ["".join(run) for _, run in itertools.groupby(kept, str.isalnum)]
    articles = ARTICLES.get(language, set())
    return " ".join("".join(" " if run in articles else run for run in runs).split())


OTHERS = ["THE", "Der", "ال", "ا", "ل", "بيت", "घर", "中", "文", "龦", "x", "É", "İ", "3"]
MARKS = [
    " ",
    "  ",
    "\t",
    "\u00a0",
    "\u3000",
    ",",
    "、",
    "،",
    "।",
    "’",
    "-",
    "—",
    "€",
    "$",
    "+",
    "\u0301",
    "\u200c",
]
PIECES = st.sampled_from([*itertools.chain(*ARTICLES.values()), *OTHERS, *MARKS])


@LAW
@given(
    st.lists(PIECES, max_size=12).map("".join), st.sampled_from(["ar", "de", "en", "es", "hi", "vi", "zh"])
)
def test_mlqa_normalisation_is_that_of_another_way(text: str, language: str) -> None:
    assert normalize_mlqa(text, language) == normalized_otherwise(text, language)


@LAW
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["a b", "b", "c b b", "", "the"])), min_size=1)
)
def test_word_f1_is_that_of_matched_words(rows: list[tuple[str, str]]) -> None:
    predictions, gold = ["x y " + word for word, _ in rows], [["z " + answer] for _, answer in rows]

    def f1(prediction: str, answer: str) -> Fraction:
        words, left = prediction.split(), [w for w in answer.split() if w not in ("a", "the")]
        words = [w for w in words if w != "a"]
        total = len(words) + len(left)
        hits = sum(word in left and left.remove(word) is None for word in words)
        return Fraction(2 * hits, total)

    expected = 100 * float(sum(f1(p, a) for p, (a,) in zip(predictions, gold, strict=True))) / len(rows)
    for found in (squad_v1_by_question(predictions, gold), mlqa_by_question(predictions, gold, "en")):
        assert means(found)["f1"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("language", "prediction", "gold", "match", "f1"),
    [
        # house, big against house: 2 / 3.
        ("es", "la casa grande", ["el casa"], 0, 2 / 3),
        # The best gold answer, for each of the two scores.
        ("de", "das Haus am See", ["Haus am Berg", "ein Haus am See"], 1, 1),
        # 3 of 5 characters against 3: 6 / 8.
        ("zh", "《毁灭战士3》", ["毁灭3"], 0, 6 / 8),
        ("zh", "2008年", ["2008 年"], 1, 1),
        # bayt; kabir, bayt: 2 / 3.
        ("ar", "البيت", ["بيت كبير"], 0, 2 / 3),
        ("hi", "घर।", ["घर"], 1, 1),
        ("vi", "của là", ["những"], 1, 0),
        ("en", "", ["The."], 1, 0),
        ("en", "", ["house"], 0, 0),
        # A gold answer that holds no word does not count for the words.
        ("en", "house", ["the", "house"], 1, 1),
        ("en", "house", ["the"], 0, 0),
        # Unicode's quotation marks go in MLQA.
        ("en", "“house”", ["house"], 1, 1),
    ],
)
def test_mlqa_scores_by_hand(language: str, prediction: str, gold: list[str], match: int, f1: float) -> None:
    found = means(mlqa_by_question([prediction, "no"], [gold, ["yes"]], language))
    assert found == pytest.approx({"exact_match": 50 * match, "f1": 50 * f1})


@pytest.mark.parametrize(
    ("prediction", "gold", "match", "f1"),
    [
        ("The house.", ["a house"], 1, 1),
        # English articles in every language, and no others.
        ("a casa", ["casa"], 1, 1),
        ("la casa", ["casa"], 0, 2 / 3),
        # ASCII punctuation alone.
        ("“house”", ["house"], 0, 0),
        ("1914–1918", ["1914-1918", "1914–1918"], 1, 1),
        # A word of Chinese has no parts.
        ("毁灭战士3", ["毁灭战士"], 0, 0),
        ("", ["the"], 1, 0),
        ("", ["house"], 0, 0),
        ("the", [""], 1, 0),
        # to, be, to against to, be; then against be, to, to.
        ("to be to", ["to be"], 0, 0.8),
        ("to be to", ["be to to"], 0, 1),
    ],
)
def test_squad_v1_scores_by_hand(prediction: str, gold: list[str], match: int, f1: float) -> None:
    found = means(squad_v1_by_question([prediction, "x"], [gold, ["x"]]))
    assert found == pytest.approx({"exact_match": 50 * (match + 1), "f1": 50 * (f1 + 1)})


def test_a_language_without_rules_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'sw'.* ar, de, en, es, hi, vi, zh"):
        mlqa_by_question(["x"], [["x"]], "sw")


def test_questions_without_gold_or_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="no gold answer"):
        squad_v1_by_question(["x"], [[]])
    with pytest.raises(ValueError, match="longer"):
        mlqa_by_question(["x"], [["x"], ["y"]], "en")


STORED = json.loads((Path(__file__).parent / "data" / "xtreme_qa.json").read_text())


@pytest.mark.parametrize("config", STORED)
def test_scores_of_real_answers_are_those_of_the_original_scripts(config: str, mirror: Path) -> None:
    path = mirror / "google" / "xtreme" / config / "validation.parquet"
    contexts, answers = (pq.read_table(path)[name].to_pylist() for name in ("context", "answers"))
    predictions = [contexts[row][begin:end] for row, begin, end, *_ in STORED[config]]
    gold = [answers[row]["text"] for row, *_ in STORED[config]]
    scores = tasks.load("/".join(config.lower().split(".")[:2]))._metrics
    for prediction, wanted, (*_, match, f1) in zip(predictions, gold, STORED[config], strict=True):
        found = scores([prediction], [wanted])
        assert found == pytest.approx({"exact_match": 100 * match, "f1": 100 * f1}, abs=1e-6)
    means = {"exact_match": np.mean([row[3] for row in STORED[config]])}
    means["f1"] = np.mean([row[4] for row in STORED[config]])
    found = scores(predictions, gold)
    assert found == pytest.approx({name: 100 * value for name, value in means.items()}, abs=1e-6)


# Tags

PANX = ["O", *(f"{place}-{name}" for place in "BI" for name in ("PER", "ORG", "LOC"))]


def tagged(tags: Sequence[str]) -> st.SearchStrategy[list[list[tuple[str, str]]]]:
    """Sentences of a predicted and a true tag a word; few tags in each example, so that some agree."""

    def sentences(chosen: list[str]) -> st.SearchStrategy[list[list[tuple[str, str]]]]:
        word = st.tuples(st.sampled_from(chosen), st.sampled_from(chosen))
        same = st.sampled_from(chosen).map(lambda tag: (tag, tag))
        return st.lists(st.lists(word | same, max_size=8), min_size=1, max_size=4)

    return st.lists(st.sampled_from(tags), min_size=1, max_size=4).flatmap(sentences)


@pytest.mark.parametrize(
    ("prediction", "gold", "f1"),
    [
        # One of two predicted spans is one of two true ones.
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-ORG", 50),
        # I after O begins a span; its name has to be right as well as its bounds.
        ("O I-PER I-PER", "O B-PER I-PER", 100),
        ("B-PER B-PER", "B-PER I-PER", 0),
        ("O O", "B-PER O", 0),
        ("O O", "O O", 0),
        # One wrong word spoils the span of two; DET of three spans found, DET and NOUN true: 2 / 5.
        ("DET NOUN VERB", "DET NOUN NOUN", 40),
        # S makes spans of one word, so one of two is right.
        ("SYM SYM", "SYM NOUN", 50),
        ("INTJ INTJ", "INTJ NOUN", 0),
        # Both conjunctions are of type CONJ; X alone in its sentence is no span.
        ("CCONJ NOUN", "SCONJ NOUN", 100),
        ("X", "X", 0),
        ("NOUN X NOUN", "NOUN X NOUN", 100),
    ],
)
def test_span_f1_by_hand(prediction: str, gold: str, f1: float) -> None:
    assert span_f1([prediction.split()], [gold.split()]) == pytest.approx(f1)


ANY_TAG = [*UDPOS_TAGS, *PANX, "_", "B", "I", "E", "S", "-", ".", "I-", "B-A-B", "E-PER", "S-PER", "E-LOC"]


@LAW
@given(tagged(UDPOS_TAGS) | tagged(PANX) | tagged(ANY_TAG))
def test_span_scores_are_seqevals_for_any_tags(sentences: list[list[tuple[str, str]]]) -> None:
    predictions, gold = ([[pair[i] for pair in words] for words in sentences] for i in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = precision_recall_fscore_support(
            gold, predictions, average="micro", zero_division=0
        )
    expected = {"f1": 100 * float(f1), "precision": 100 * float(precision), "recall": 100 * float(recall)}
    assert span_scores(predictions, gold) == expected  # to the last bit
    assert span_f1(predictions, gold) == expected["f1"]


def test_a_sentence_with_too_few_predictions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"predictions have \[1, 1\] tags .* sentences have \[1, 2\]"):
        span_scores([["O"], ["O"]], [["O"], ["O", "O"]])


def test_spans_end_with_their_sentence() -> None:
    # Three spans found, two true, one common: 2 / 5.
    assert span_f1([["NOUN"], ["NOUN", "VERB"]], [["NOUN"], ["NOUN", "NOUN"]]) == pytest.approx(40)


# Mining


def test_mining_scores_by_hand() -> None:
    gold = [("a", "x"), ("b", "y"), ("c", "z")]
    # One of two is right, one of three is found; a pair said twice is said once.
    found = mining_scores([("a", "x"), ("a", "y"), ("a", "x")], gold)
    assert found == pytest.approx({"f1": 40, "precision": 50, "recall": 100 / 3})
    nothing = {"f1": 0, "precision": 0, "recall": 0}
    # The order within a pair counts.
    assert mining_scores([("x", "a")], gold) == nothing
    assert mining_scores([], gold) == mining_scores(gold, []) == mining_scores([], []) == nothing


def candidates(true: str) -> list[tuple[str, str]]:
    """A pair for each letter; "+" marks the gold ones."""
    return [(f"s{place}", "+" if mark == "+" else "-") for place, mark in enumerate(true)]


@pytest.mark.parametrize(
    ("true", "scores", "missing", "threshold"),
    [
        # F1 by number taken: 1/2 -> 2/3, 2/4 -> 1/2, 3/5 -> 4/5: after the third, and no fourth comes.
        ("+-+", [3, 2, 1], 0, 1),
        # 2/3, 1, 4/5: between the second and the third.
        ("++-", [3, 2, 1], 0, 1.5),
        # The same in any order of the candidates.
        ("-++", [1, 3, 2], 0, 1.5),
        # 1/2 after one and after four candidates (2 / (1 + 3) and 4 / (4 + 3) is more): after the fourth.
        ("+--+-", [5, 4, 3, 2, 1], 1, 1.5),
        # 2 / 4 after one, 4 / 8 after five would be equal: the first counts.
        ("+---+-", [6, 5, 4, 3, 2, 1], 1, 5.5),
        # Equal scores: best between two of them, so their score, at which both are taken.
        ("+-", [2, 2], 0, 2),
        ("++--", [3, 2, 2, 1], 0, 2),
        ("--", [2, 1], 1, 0),
        ("", [], 1, 0),
    ],
)
def test_mining_threshold_by_hand(true: str, scores: list[float], missing: int, threshold: float) -> None:
    pairs = candidates(true)
    gold = [pair for pair in pairs if pair[1] == "+"] + [("?", str(i)) for i in range(missing)]
    values = np.array(scores, dtype=float)
    assert best_mining_threshold(pairs, values, gold) == threshold
    assert best_mining_threshold(pairs, values.tolist(), set(gold)) == threshold


def test_a_repeated_candidate_counts_once_with_its_highest_score() -> None:
    # a 4, c 3, b 2: F1 1 after the first.
    pairs = [("b", "y"), ("a", "x"), ("c", "z"), ("a", "x")]
    assert best_mining_threshold(pairs, [2.0, 1.0, 3.0, 4.0], [("a", "x")]) == 3.5


def exact_f1(taken: Sequence[bool], num_gold: int) -> Fraction:
    """F1 as a fraction."""
    return Fraction(2 * sum(taken), len(taken) + num_gold)


@LAW
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 1000)), min_size=1, max_size=12, unique_by=lambda x: x[1]
    ),
    st.integers(0, 4),
)
def test_no_threshold_is_better_where_scores_differ(rows: list[tuple[bool, int]], missing: int) -> None:
    pairs = candidates("".join("+" if true else "-" for true, _ in rows))
    gold = [pair for pair in pairs if pair[1] == "+"] + [("?", str(i)) for i in range(missing)]

    def scored(threshold: float) -> Fraction:
        taken = [true for true, score in rows if score >= threshold]
        return exact_f1(taken, len(gold)) if taken else Fraction(0)

    found = best_mining_threshold(pairs, [float(score) for _, score in rows], gold)
    if not any(true for true, _ in rows):
        assert found == 0
    else:
        assert scored(found) == max(scored(score) for _, score in rows)


@LAW
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 4)), min_size=1, max_size=10), st.integers(0, 3))
def test_the_threshold_lies_after_a_best_start_where_scores_are_equal(
    rows: list[tuple[bool, int]], missing: int
) -> None:
    pairs = candidates("".join("+" if true else "-" for true, _ in rows))
    gold = [pair for pair in pairs if pair[1] == "+"] + [("?", str(i)) for i in range(missing)]
    ranked = sorted(rows, key=lambda row: row[1], reverse=True)
    starts = {
        number: exact_f1([true for true, _ in ranked[:number]], len(gold))
        for number in range(1, len(ranked) + 1)
        if any(true for true, _ in ranked)
    }
    best = {number for number, f1 in starts.items() if f1 == max(starts.values())}
    ends = [score for _, score in ranked] + [ranked[-1][1]]
    # Equal fractions may round to unequal numbers, of which the original takes the larger.
    allowed = {(ends[number - 1] + ends[number]) / 2 for number in best} or {0}
    assert best_mining_threshold(pairs, [float(score) for _, score in rows], gold) in allowed


def neighbours(cosines: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """The highest cosines of each row, and where they are."""
    indices = np.argsort(-cosines, axis=1, kind="stable")[:, :num]
    return np.take_along_axis(cosines, indices, axis=1).astype(np.float32), indices


def mined_naively(cosines: Sequence[Sequence[int]], num: int) -> Iterator[tuple[int, int, Fraction]]:
    """Margins as fractions, and a loop over all candidates."""
    columns = list(zip(*cosines, strict=True))

    def nearest(values: Sequence[int]) -> list[int]:
        return sorted(range(len(values)), key=lambda place: -values[place])[:num]

    def mean(values: Sequence[int]) -> Fraction:
        return Fraction(sum(sorted(values)[-num:]), num)

    def margin(query: int, key: int) -> Fraction:
        return cosines[query][key] / ((mean(cosines[query]) + mean(columns[key])) / 2)

    found = [(q, max(nearest(row), key=lambda k: margin(q, k))) for q, row in enumerate(cosines)]
    found += [(max(nearest(column), key=lambda q: margin(q, k)), k) for k, column in enumerate(columns)]
    taken: set[tuple[str, int]] = set()
    for query, key in sorted(found, key=lambda pair: -margin(*pair)):
        if not taken & {("query", query), ("key", key)}:
            taken |= {("query", query), ("key", key)}
            yield query, key, margin(query, key)


@st.composite
def cosine_tables(draw: st.DrawFn) -> tuple[list[list[int]], int]:
    """Small whole numbers, with many equal ones; powers of two as numbers of neighbours keep means exact."""
    num = draw(st.sampled_from([1, 2, 4]))
    queries, keys = draw(st.integers(num, 7)), draw(st.integers(num, 7))
    row = st.lists(st.integers(1, draw(st.sampled_from([2, 9, 99]))), min_size=keys, max_size=keys)
    return draw(st.lists(row, min_size=queries, max_size=queries)), num


@LAW
@given(cosine_tables())
def test_margin_pairs_are_those_of_a_loop_over_all_candidates(table: tuple[list[list[int]], int]) -> None:
    cosines, num = table
    values = np.array(cosines)
    pairs, margins = ratio_margin_pairs(*neighbours(values, num), *neighbours(values.T, num))
    expected = list(mined_naively(cosines, num))
    assert pairs.tolist() == [[query, key] for query, key, _ in expected]
    assert margins == pytest.approx([float(margin) for *_, margin in expected], rel=1e-6)


def test_margin_pairs_by_hand() -> None:
    # Two neighbours. Query 1 is near to everything: its cosine of .9 is worth less than query 0's of .8.
    cosines = np.array([[0.8, 0.2, 0.2], [0.9, 0.9, 0.8]])
    pairs, margins = ratio_margin_pairs(*neighbours(cosines, 2), *neighbours(cosines.T, 2))
    # Means: queries .5, .9; keys .85, .55, .5. Query 0 - key 0: .8 / .675; query 1 - key 0: .9 / .875, key 1:
    # .9 / .725, key 2: .8 / .7. So query 1 goes with key 1, the best; then query 0 with key 0; key 2 is left.
    assert pairs.tolist() == [[1, 1], [0, 0]]
    assert margins == pytest.approx([0.9 / 0.725, 0.8 / 0.675], rel=1e-6)


def test_only_positive_margins_make_pairs() -> None:
    cosines = np.array([[0.5, 0.25], [0.25, -0.125]])
    pairs, _ = ratio_margin_pairs(*neighbours(cosines, 2), *neighbours(cosines.T, 2))
    # The other two sentences would be left to each other, at a margin below 0, had they been candidates.
    assert pairs.tolist() == [[0, 0]]
    pairs, margins = ratio_margin_pairs(
        *neighbours(np.array([[0.5, -0.25]]), 1), *neighbours(np.array([[0.5], [-0.25]]), 1)
    )
    # Key 1 alone with query 0: -.25 / .125.
    assert pairs.tolist() == [[0, 0]]
    assert margins.tolist() == [1]
