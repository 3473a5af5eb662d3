"""Noise: what it leaves alone in every script, how much it changes, what it depends on."""

# ruff: noqa: E501 (sentences in many scripts)

import unicodedata
from dataclasses import fields
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlt.data.examples import Question, Sentence, TaggedWords, Text, TextPair
from xlt.evaluation.perturbations.noise import Noise

SAMPLES = {
    "ar": "وُلِدَ العالِم في مدينة صغيرة قرب البحر سنة 1879، ثم انتقل مع أسرته إلى العاصمة ليدرس في جامعتها الكبيرة.",
    "bn": "বাংলা ভাষায় প্রায় ২৫ কোটি মানুষ কথা বলেন, এবং এর সাহিত্য হাজার বছরের পুরনো একটি ঐতিহ্য বহন করে।",
    "de": "Der Fluß fließt seit 1850 durch drei große Städte, bevor er hinter der Brücke in die Nordsee mündet.",
    "el": "Η πόλη χτίστηκε πριν από 2500 χρόνια κοντά στη θάλασσα, και οι κάτοικοί της ζούσαν από το εμπόριο.",
    "en": "The committee didn't publish its 2nd report until May 1998, although most members had signed it long before.",
    "fa": "او می‌خواهد کتاب‌هایش را به کتابخانه‌ی شهر بدهد، اما هنوز 12 جلد از آن‌ها را پیدا نکرده است و نمی‌داند کجاست.",
    "he": "הספרייה הלאומית נוסדה בשנת 1892 בירושלים, והיא שומרת היום יותר מחמישה מיליון ספרים וכתבי יד עתיקים.",
    "hi": "भारत की राजधानी नई दिल्ली है, जहाँ 1911 में क्षत्रिय राजाओं के दरबार के बाद नए शहर का निर्माण शुरू हुआ था।",
    "ja": "彼は1985年に東京の大学を卒業して、アメリカへ留学し、コンピュータの研究を始めたと言われている。",
    "ka": "თბილისი საქართველოს დედაქალაქია, რომელიც მეხუთე საუკუნეში მდინარე მტკვრის პირას დაარსდა 458 წელს.",
    "ko": "그는 1988년에 서울에서 태어나 부산에서 자랐으며, 지금은 작은 출판사에서 번역가로 일하고 있다고 한다.",
    "ml": "കേരളത്തിന്റെ തലസ്ഥാനമായ തിരുവനന്തപുരം 7 കുന്നുകളിലായി പരന്നുകിടക്കുന്ന മനോഹരമായ ഒരു നഗരമാണ്.",
    "my": "မြန်မာနိုင်ငံ၏ မြို့တော်ဟောင်းမှာ ရန်ကုန်မြို့ဖြစ်ပြီး လူဦးရေ ၅ သန်းကျော် နေထိုင်ကြသည်။",
    "ru": "Город был основан в 1703 году на берегу реки, и уже через 9 лет он стал столицей большого государства.",
    "ta": "சென்னையில் 1996 ஆம் ஆண்டு நடைபெற்ற விழாவில் பேசும்போது அவர் இதைக் கூறினார் என்று செய்திகள் வந்தன.",
    "te": "హైదరాబాదు నగరం 1591 లో స్థాపించబడింది, ఇప్పుడు అది తెలంగాణ రాష్ట్రానికి రాజధానిగా ఉంది.",
    "th": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย มีประชากรมากกว่า 8 ล้านคน และน้ำท่วมบ่อยในฤดูฝน",
    "zh": "黑豹队的防守只丢了308分，在联赛中排名第六，同时也以24次拦截领先国家橄榄球联盟，并且四次入选职业碗。",
}

ANYTHING = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=60)
TEXTS = st.one_of(
    ANYTHING, st.sampled_from(sorted(SAMPLES.values())), st.lists(ANYTHING, max_size=4).map(" ".join)
)
LEVELS = st.sampled_from([5, 10, 20, 100])
SEEDS = st.integers(0, 5)


def is_of_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM" or character in "\u200c\u200d"


def shape(text: str) -> str:
    """The text with every run of letters and marks as one ✶: all that noise may not touch."""
    return "".join(
        "✶" if of_word else "".join(characters) for of_word, characters in groupby(text, is_of_word)
    )


def syllables(text: str) -> set[str]:
    """What noise may not tear: a character with the marks and joiners after it, in lower case."""
    found: list[str] = []
    for character in text:
        if found and (unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"):
            found[-1] += character
        else:
            found.append(character)
    return {syllable.lower() for syllable in found}


def scripts(text: str) -> set[str]:
    return {unicodedata.name(c).split()[0] for c in text if unicodedata.category(c)[0] == "L"}


def distance(one: list[str], other: list[str]) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two (optimal string alignment)."""
    table = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(row[-1] + 1, table[-1][j] + 1, table[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and (a, one[i - 2]) == (other[j - 2], b):
                cost = min(cost, table[-2][j - 2] + 1)
            row.append(cost)
        table.append(row)
    return table[-1][-1]


@settings(deadline=None, max_examples=300)
@given(TEXTS, LEVELS, SEEDS)
def test_digits_punctuation_white_space_and_the_number_of_words_stay(text: str, percent: int, seed: int):
    noisy = Noise(percent, seed).text(text)
    assert shape(noisy) == shape(text)
    assert len(noisy.split()) == len(text.split())


@pytest.mark.parametrize("language", SAMPLES)
def test_letters_keep_their_marks_and_their_script(language: str):
    text = SAMPLES[language]
    for seed in range(10):
        noisy = Noise(20, seed).text(text)
        assert noisy != text
        assert syllables(noisy) <= syllables(text)
        for word, was in zip(noisy.split(), text.split(), strict=True):
            assert scripts(word) <= scripts(was)


@pytest.mark.parametrize("percent", [5, 10, 20])
def test_as_many_letters_change_as_are_wanted(percent: int):
    letters = changed = 0
    for language in ("de", "el", "en", "he", "ja", "ka", "ko", "ru", "zh"):  # a character is a letter
        text = unicodedata.normalize("NFC", SAMPLES[language])
        for seed in range(12):
            changed += distance(list(text), list(Noise(percent, seed).text(text)))
            letters += sum(unicodedata.category(c) in ("Lu", "Ll", "Lo") for c in text)
    # Of about 8,000 letters; neighbouring edits may be bridged by fewer.
    assert 0.85 * percent < 100 * changed / letters < 1.1 * percent


@given(TEXTS, SEEDS)
@settings(deadline=None)
def test_what_is_changed_at_5_percent_is_changed_at_10_too(text: str, seed: int):
    hit = [{edit.start for edit in Noise(percent, seed).edits(text)} for percent in (5, 10)]
    assert hit[0] <= hit[1]


def test_noise_depends_on_text_and_seed_alone():
    texts = list(SAMPLES.values())
    alone = [Noise(10, 3).text(text) for text in texts[::-1]][::-1]
    assert [Noise(10, 3).text(text) for text in texts] == alone
    assert all(Noise(10, 4).text(text) != noisy for text, noisy in zip(texts, alone, strict=True))
    assert Noise(10, 3).text("The old house by the sea is not there") == Noise(10, 3).text(
        "The old house by the sea is not there"
    )


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS, LEVELS, st.data())
def test_gold_answers_stay_verbatim_and_their_starts_move(
    before: str, answer: str, after: str, percent: int, data: st.DataObject
):
    context = before + answer + after
    second = data.draw(st.integers(0, len(context)))
    length = data.draw(st.integers(0, len(context) - second))
    answers = (answer, context[second : second + length])
    example = Question("What is it?", context, answers, (len(before), second), "q1")
    noisy = Noise(percent, 0)(example)  # a Question refuses answers that do not stand at their starts
    assert (noisy.answers, noisy.id) == (answers, "q1")
    assert shape(noisy.context) == shape(context)


def test_passage_and_question_of_a_real_language_are_noisy():
    context = SAMPLES["hi"]
    start = context.index("दिल्ली")
    noisy = Noise(20, 0)(Question("राजधानी कौन सी है?", context, ("दिल्ली",), (start,), "q"))
    assert noisy.context != context
    assert noisy.question != "राजधानी कौन सी है?"
    assert noisy.context[noisy.starts[0] :].startswith("दिल्ली")


WORDS = st.lists(
    st.one_of(ANYTHING.filter(bool), st.sampled_from(["a", "東", "น้ำ", "U.S.", "3"])), max_size=8
)


@settings(deadline=None)
@given(WORDS, LEVELS)
def test_each_word_keeps_its_place_and_tag(words: list[str], percent: int):
    tags = tuple(f"T{i}" for i in range(len(words)))
    noisy = Noise(percent, 1)(TaggedWords(tuple(words), tags))
    assert noisy.tags == tags
    assert [shape(word) for word in noisy.words] == [shape(word) for word in words]
    assert all(noisy.words)


def test_a_lone_letter_is_replaced_by_one_of_the_sentence():
    characters = tuple(SAMPLES["zh"])
    noisy = Noise(100, 0)(TaggedWords(characters, characters))
    for word, was in zip(noisy.words, characters, strict=True):
        assert set(word) <= set(characters)
        assert (word != was) == (unicodedata.category(was) == "Lo")


def test_both_texts_of_a_pair_are_noisy_and_only_the_foreign_side_of_a_translation():
    pair = Noise(20, 0)(TextPair(SAMPLES["en"], SAMPLES["ru"], "neutral", "7"))
    assert pair.first != SAMPLES["en"]
    assert pair.second != SAMPLES["ru"]
    assert (pair.label, pair.id) == ("neutral", "7")
    text = Noise(20, 0)(Text(SAMPLES["ta"], SAMPLES["en"]))
    assert text.text != SAMPLES["ta"]
    assert text.translation == SAMPLES["en"]


def test_noise_tells_level_seed_and_code_apart():
    prints = {Noise(percent, seed).fingerprint for percent in (5, 10) for seed in (0, 1)}
    assert len(prints) == 4
    assert {field.name for field in fields(Noise)} == {"percent", "seed"}


def test_an_example_that_takes_no_noise_is_refused():
    with pytest.raises(TypeError, match="no noise for a Sentence"):
        Noise(5, 0)(Sentence("a", 0, (), 1, "x"))
