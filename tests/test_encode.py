"""Token ids against `transformers`' own tokenizer call, on the repository's sample rows."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import NFKC, NFKD, BertNormalizer, Lowercase, StripAccents
from tokenizers.normalizers import Sequence as InTurn
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Split
from tokenizers.processors import BertProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xlt import tasks
from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Choices, Question, Sentence, TaggedWords, Text, TextPair
from xlt.data.features import Features, write_features
from xlt.evaluation.perturbations.noise import Noise
from xlt.kinds import Classification, SpanExtraction

REPOSITORY = Path(__file__).parents[1]
MINI = str(REPOSITORY / "encoders" / "mini")
BEGIN, END, UNKNOWN = 0, 2, 3
"""Ids of <s>, </s> and <unk> in XLM-R's vocabulary."""

LONG_QUESTION = "In what year did the company that built the lighthouse of the harbour town first " * 6 + "?"


@cache
def reference() -> Any:
    """The tokenizer as transformers gives it, apart from the one under test."""
    return AutoTokenizer.from_pretrained(MINI)


@cache
def tokenizer() -> Any:
    """The tokenizer under test."""
    return load_tokenizer(MINI)


def encoder(max_length: int = 384, stride: int = 128) -> TextEncoder:
    """The mini tokenizer under these limits."""
    return TextEncoder(tokenizer(), max_length, stride)


def rows_of(samples: Sequence[str], path: str, num: int) -> list[dict[str, Any]]:
    """The first rows of a sample file."""
    found = next(root for root in map(Path, samples) if (root / path).is_file())
    return pq.read_table(found / path).slice(0, num).to_pylist()


def questions(samples: Sequence[str], num: int = 250) -> list[Question]:
    """Questions of both SQuADs, some with no answer."""
    paths = {"squad_v1": "rajpurkar/squad/plain_text", "squad_v2": "rajpurkar/squad_v2/squad_v2"}
    return [
        tasks.load(name).read(row)
        for name, path in paths.items()
        for split in ("train", "validation")
        for row in rows_of(samples, f"{path}/{split}.parquet", num)
    ]


@pytest.fixture(scope="module")
def pairs(samples: list[str]) -> list[tuple[str, str]]:
    """Pairs of texts, among them long and odd ones."""
    rows = rows_of(samples, "facebook/anli/plain_text/train_r1.parquet", 40)
    rows += rows_of(samples, "nyu-mll/glue/mnli/train.parquet", 60)
    found = [(row["premise"], row["hypothesis"]) for row in rows]
    found += [(b, a) for a, b in found[:30]]
    odd = ["", " ", "Zürich 東京\u3000🙂", "a\n\tb", "</s> <mask>", "nai\u0308ve"]
    return found + [(one, other) for one in odd for other in odd]


@pytest.mark.parametrize("max_length", [13, 40, 64, 384])
def test_pairs_are_those_of_transformers(pairs: list[tuple[str, str]], max_length: int) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    expected = reference()(first, second, truncation="longest_first", max_length=max_length)["input_ids"]
    found = encoder(max_length).pairs(pairs)
    assert [piece.ids for piece in found] == expected
    assert max(map(len, expected)) <= max_length


@pytest.mark.parametrize("max_length", [8, 384])
def test_a_single_text_is_read_without_a_second(pairs: list[tuple[str, str]], max_length: int) -> None:
    texts = [first for first, _ in pairs]
    expected = reference()(texts, truncation=True, max_length=max_length)["input_ids"]
    assert [piece.ids for piece in encoder(max_length).singles(texts)] == expected
    assert [piece.ids for piece in encoder(max_length).pairs([(t, None) for t in texts])] == expected


def test_pairs_that_lost_text_are_counted() -> None:
    text = encoder(max_length=10)
    task = tasks.load("mnli")
    short, long = TextPair("it is", "so", 0), TextPair("it is " * 10, "so", 1)
    assert len(reference()("it is", "so")["input_ids"]) <= 10
    columns, truncated = task.encode([short, long, long, short], 7, text)
    assert truncated == 2
    assert columns["targets"] == [[0], [1], [1], [0]]
    assert columns["example"] == [[7], [8], [9], [10]]
    assert columns["lengths"] == [[len(ids)] for ids in columns["input_ids"]]


def pair_of(first: str, second: str) -> list[int]:
    """The ids of a pair; transformers leaves an empty second text out unless it comes in a batch."""
    return reference()([first], [second])["input_ids"][0]


def test_an_empty_second_text_keeps_the_separators_of_a_pair() -> None:
    expected = pair_of("A man eats.", "")
    assert expected[-3:] == [END, END, END]
    for name in ("mnli", "qqp", "anli_plus", "pawsx"):
        columns, _ = tasks.load(name).encode([TextPair("A man eats.", "", 0)], 0, encoder())
        assert columns["input_ids"] == [expected]
    columns, _ = tasks.load("tlm").encode([Text("A man eats.", "")], 0, encoder())
    assert columns["input_ids"] == [expected]


def test_an_empty_choice_keeps_the_separators_of_a_pair() -> None:
    example = Choices("A man eats.", ("soup", "", "bread", ""), 0)
    columns, _ = tasks.load("hellaswag").encode([example], 0, encoder())
    expected = [pair_of("A man eats.", choice) for choice in example.choices]
    assert columns["input_ids"] == [[token for ids in expected for token in ids]]
    assert columns["lengths"] == [[len(ids) for ids in expected]]


@pytest.mark.parametrize(("question", "passage"), [("", "A man eats."), ("Who?", ""), ("", "")])
def test_an_empty_question_or_passage_keeps_the_separators_of_a_pair(question: str, passage: str) -> None:
    ((window,),) = encoder().windows([question], [passage])
    assert window.ids == pair_of(question, passage)


def test_a_task_of_single_texts_says_so() -> None:
    read = tasks.load("mnli").read
    single = Classification(source=(), read=read, labels=("bad", "good"), single_text=True)
    example = TextPair("A fine film.", None, 1)
    single.check(example)
    columns, _ = single.encode([example], 0, encoder())
    assert columns["input_ids"] == [reference()("A fine film.")["input_ids"]]
    with pytest.raises(ValueError, match="second must be None, not '': the TASK sets single_text=True"):
        single.check(TextPair("A fine film.", "", 1))
    with pytest.raises(ValueError, match=r"second must be text, not None\. Give '' for an empty second text"):
        tasks.load("mnli").check(example)
    with pytest.raises(ValueError, match="translation must be text, not None"):
        tasks.load("tlm").check(Text("A fine film."))
    noisy = Noise(50, 0)(example)
    assert noisy.first != example.first
    assert noisy.second is None


def test_choices_of_a_row_lie_end_to_end(samples: list[str]) -> None:
    task = tasks.load("cosmosqa")
    rows = rows_of(samples, "allenai/cosmos_qa/default/train.parquet", 20)
    columns, _ = task.encode([task.read(row) for row in rows], 0, encoder(64))
    for i, row in enumerate(rows):
        choices = [f"{row['question']} {row[f'answer{j}']}" for j in range(4)]
        ids = reference()([row["context"]] * 4, choices, truncation="longest_first", max_length=64)
        assert columns["input_ids"][i] == [token for piece in ids["input_ids"] for token in piece]
        assert columns["lengths"][i] == [len(piece) for piece in ids["input_ids"]]
        assert columns["targets"][i] == [row["label"]]


# Windows


@pytest.mark.parametrize(("max_length", "stride"), [(384, 128), (160, 64), (160, 0)])
def test_windows_are_those_of_transformers(samples: list[str], max_length: int, stride: int) -> None:
    asked = questions(samples, 60)
    assert max(len(reference()(q.question)["input_ids"]) for q in asked) <= 66
    expected = reference()(
        [q.question.strip() for q in asked],
        [q.context for q in asked],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    windows = encoder(max_length, stride).windows([q.question for q in asked], [q.context for q in asked])
    assert len(windows) == len(asked)
    assert [w.ids for found in windows for w in found] == expected["input_ids"]
    for window, offsets in zip(chain(*windows), expected["offset_mapping"], strict=True):
        places = offsets[window.begin : window.begin + len(window.offsets)]
        assert [tuple(place) for place in window.offsets.tolist()] == places
        assert len(window.ids) == window.begin + len(window.offsets) + 1
    numbers = [number for number, found in enumerate(windows) for _ in found]
    assert numbers == expected["overflow_to_sample_mapping"]
    assert any(len(found) > 1 for found in windows)


@pytest.mark.parametrize(("max_length", "stride"), [(384, 128), (160, 64), (40, 5)])
def test_windows_read_every_token_of_the_passage_and_overlap_by_the_stride(
    samples: list[str], max_length: int, stride: int
) -> None:
    asked = questions(samples, 20)
    windows = encoder(max_length, stride).windows([q.question for q in asked], [q.context for q in asked])
    for question, found in zip(asked, windows, strict=True):
        whole = reference()(question.context, add_special_tokens=False)["input_ids"]
        pieces = [w.ids[w.begin : w.begin + len(w.offsets)] for w in found]
        joined = pieces[0]
        for piece in pieces[1:]:
            assert stride == 0 or joined[-stride:] == piece[:stride]
            joined = joined + piece[stride:]
        assert joined == whole
        assert all(len(w.ids) <= max_length for w in found)


def question_ids(window: Any) -> list[int]:
    """Token ids of the question in a window."""
    return window.ids[1 : window.ids.index(END)]


def test_a_question_is_cut_after_64_tokens() -> None:
    whole = reference()(LONG_QUESTION, add_special_tokens=False)["input_ids"]
    assert len(whole) > 64
    (found,) = encoder().windows([LONG_QUESTION], ["He built it in 1871."])
    assert question_ids(found[0]) == whole[:64]
    assert found[0].is_cut
    assert not encoder().windows(["Who built it?"], ["He built it in 1871."])[0][0].is_cut


def test_no_question_has_more_than_64_tokens_wherever_the_cut_falls(samples: list[str]) -> None:
    # Passages as questions: the cut falls on pieces of every sort, the lone "▁" among them.
    long = sorted({q.context for q in questions(samples)})
    long = [text for text in long if len(reference()(text, add_special_tokens=False)["input_ids"]) > 64]
    windows = encoder().windows(long, ["He built it in 1871."] * len(long))
    assert len(long) > 100
    for text, found in zip(long, windows, strict=True):
        whole, cut = reference()(text, add_special_tokens=False)["input_ids"], question_ids(found[0])
        assert 62 <= len(cut) <= 64, text
        # But for the last, which may end within a piece, the tokens are those of the whole.
        assert cut[:-1] == whole[: len(cut) - 1], text


def test_a_question_of_64_tokens_is_whole() -> None:
    question = "the man " * 32
    whole = reference()(question, add_special_tokens=False)["input_ids"]
    assert len(whole) == 64
    (found,) = encoder().windows([question], ["He built it."])
    assert question_ids(found[0]) == whole


@pytest.mark.parametrize("max_length", [8, 9, 10, 16, 36, 384])
def test_windows_exist_under_any_limits_that_the_data_module_allows(max_length: int) -> None:
    passage = "He was not there, but in the old house by the sea, " * 40
    # "it" is two pieces, a lone "▁" and "it": in one of the last two questions any cut falls between them.
    assert reference().tokenize("the it") == ["▁the", "▁", "it"]
    asked = ["Where?", LONG_QUESTION, "it " * 100, "the " + "it " * 100]
    for stride in sorted({0, 1, max_length // 2, max_length - 1}):
        for found in encoder(max_length, stride).windows(asked, [passage] * 4):
            assert all(len(window.ids) <= max_length for window in found)
            assert len(found) > 1


@pytest.mark.parametrize(("max_length", "stride"), [(384, 128), (96, 24)])
def test_targets_are_the_tokens_of_the_first_gold_answer(
    samples: list[str], max_length: int, stride: int
) -> None:
    asked = questions(samples)
    columns, _ = tasks.load("squad_v2").encode(asked, 0, encoder(max_length, stride))
    found = set()
    for targets, passage, flat, (number,) in zip(
        columns["targets"], columns["passage"], columns["offsets"], columns["example"], strict=True
    ):
        question = asked[number]
        offsets = list(zip(flat[::2], flat[1::2], strict=True))
        assert len(offsets) == passage[1] - passage[0]
        inside = False
        if question.answers:
            start, end = question.starts[0], question.starts[0] + len(question.answers[0])
            inside = offsets[0][0] <= start and end <= offsets[-1][1]
        if not inside:
            assert targets == [0, 0]
            continue
        found.add(number)
        first, last = (offsets[target - passage[0]] for target in targets)
        assert question.answers[0] in question.context[first[0] : last[1]]
        # No token more than the answer needs.
        assert first[0] <= start < first[1]
        assert last[0] < end <= last[1]
    if max_length == 384:
        assert found == {i for i, question in enumerate(asked) if question.answers}


def test_targets_are_where_transformers_finds_the_answers_characters(samples: list[str]) -> None:
    asked = [q for q in questions(samples) if q.answers]
    columns, _ = tasks.load("squad_v1").encode(asked, 0, encoder(512, 128))
    found = reference()([q.question.strip() for q in asked], [q.context for q in asked])
    checked = 0
    rows = zip(columns["targets"], columns["example"], columns["input_ids"], strict=True)
    for targets, (number,), ids in rows:
        if ids != found["input_ids"][number]:
            continue  # one of several windows, or of a question that was cut
        question = asked[number]
        end = question.starts[0] + len(question.answers[0]) - 1
        expected = [found.char_to_token(number, c, sequence_index=1) for c in (question.starts[0], end)]
        # A lone "▁" shares its character with the piece after it; no answer may end on it.
        pieces = found.tokens(number)
        if pieces[expected[1]] == "▁":
            expected[1] += 1
        assert targets == expected
        checked += 1
    assert checked > 0.9 * len(asked)


def test_a_lone_marker_before_the_answer_does_not_shift_it() -> None:
    # "▁" stands alone before a piece that has no spelling with it, with the offsets of its first character.
    context = "They call it qzxv of old."
    question = Question("What is it?", context, ("qzxv",), (13,))
    columns, _ = tasks.load("squad_v1").encode([question], 0, encoder())
    pieces = reference().convert_ids_to_tokens(columns["input_ids"][0])
    first, last = columns["targets"][0]
    assert "▁" in pieces[first : last + 1]
    assert "".join(pieces[first : last + 1]) == "▁qzxv"


COMPOSED = [
    ("Làng này ở xã Mỹ Đức.", "xã"),
    ("Thủ đô là Hà Nội", "Hà Nội"),
    ("Ο Έλγουεϊ ήρθε.", "Έλγουεϊ"),
    ("Игрок Джон Элвей", "Элвей"),
    ("Vino un gurú de Perú ayer.", "Perú"),
    ("그는 서울 사람이다.", "서울"),
    ("バスはパリで止まった。", "パリ"),
    ("ﾊﾞｽはﾊﾟﾘで止まった。", "ﾊﾟﾘ"),
    ("वह ग़ज़ल गाती है।", "ग़ज़ल"),
    ("সে বাংলাদেশে থাকে।", "বাংলাদেশে"),
    ("เขาอยู่ที่น้ำตกนี้", "น้ำตก"),
    ("ذهب إلى أُسْرَتِهِ أمس.", "أُسْرَتِهِ"),
    ("الأمة آمنة", "آمنة"),
    ("They waved 👩‍👩‍👧 home.", "👩‍👩‍👧"),
    ("He sent ❤️ to her.", "❤️"),
    ("Sie hob 👍🏽 an.", "👍🏽"),
]
"""Passages with an answer, in which some normalisation composes or drops characters."""


def answers_of_gold_tokens(text: TextEncoder, asked: Sequence[Question], folder: Path) -> list[str]:
    """What a model that predicts the targets answers."""
    task = tasks.load("squad_v1")
    assert isinstance(task, SpanExtraction)
    columns, _ = task.encode(asked, 0, text)
    write_features(folder / "features.arrow", [columns])
    features, targets = Features(folder / "features.arrow"), np.array(columns["targets"])
    assert targets.all()
    outputs: dict[str, Any] = {"start": targets[:, 0], "end": targets[:, 1]}
    outputs |= {"score": np.ones(len(asked)), "null": np.zeros(len(asked))}
    references = [task.reference(question) for question in asked]
    return list(task.answers(Predictions(outputs, features, np.arange(len(asked)), references)).values())


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize("pieces", ["sentencepiece", "bytes", "characters"])
def test_an_answer_keeps_all_marks_of_its_letters(form: Any, pieces: str, tmp_path: Path) -> None:
    text = encoder()
    if pieces != "sentencepiece":
        fast = Tokenizer.from_str(text.definition)
        fast.normalizer = NFKC() if pieces == "bytes" else InTurn([NFKD(), StripAccents(), Lowercase()])
        fast.pre_tokenizer = ByteLevel(add_prefix_space=False) if pieces == "bytes" else Split("", "isolated")
        text = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=fast), 384, 128)
    asked = []
    for passage, answer in COMPOSED:
        context, gold = unicodedata.normalize(form, passage), unicodedata.normalize(form, answer)
        asked.append(Question("What?", context, (gold,), (context.index(gold),)))
    assert answers_of_gold_tokens(text, asked, tmp_path) == [question.answers[0] for question in asked]


def test_a_mark_that_is_a_token_of_its_own_stays_apart() -> None:
    # MLQA has a Hindi answer that ends before the vowel sign of its last letter.
    context = "जॉयस्टिकों को हटाया।"
    starts, ends = encoder().windows(["?"], [context])[0][0].offsets.T
    own = reference()(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == own
    assert len("जॉयस्टिक") in ends


def test_windows_hold_the_place_of_their_passage() -> None:
    question = Question("Who came?", "John came home.", ("John",), (0,))
    columns, _ = tasks.load("squad_v1").encode([question], 3, encoder())
    ids, (begin, end) = columns["input_ids"][0], columns["passage"][0]
    passage = reference()("John came home.", add_special_tokens=False)["input_ids"]
    assert ids[begin:end] == passage
    assert ids[begin - 2 : begin] == [END, END]
    assert ids[end:] == [END]
    assert columns["targets"][0][0] == begin
    assert columns["example"] == [[3]]


# Words


@pytest.fixture(scope="module")
def sentences(samples: list[str]) -> list[list[str]]:
    """Tokenised sentences."""
    return [list(row["tokens"]) for row in rows_of(samples, "ccg/default/train.parquet", 150)]


def test_words_are_those_of_transformers(sentences: list[list[str]]) -> None:
    expected = reference()(sentences, is_split_into_words=True)
    for i, found in enumerate(encoder(512).words(sentences)):
        ((ids, firsts),) = found
        word_ids = expected.word_ids(i)
        assert ids == expected["input_ids"][i]
        assert firsts == [word_ids.index(word) for word in range(len(sentences[i]))]


@pytest.mark.parametrize("max_length", [8, 12, 31])
def test_a_long_sentence_is_cut_between_words_and_loses_none(
    sentences: list[list[str]], max_length: int
) -> None:
    joined = [[word for sentence in sentences[:10] for word in sentence], *sentences[10:20]]
    expected = reference()(joined, is_split_into_words=True, add_special_tokens=False)
    for i, sequences in enumerate(encoder(max_length).words(joined)):
        by_word: dict[int, list[int]] = {}
        for token, word in zip(expected["input_ids"][i], expected.word_ids(i), strict=True):
            by_word.setdefault(word, []).append(token)
        read = []
        for ids, firsts in sequences:
            assert len(ids) <= max_length
            assert ids[0] == BEGIN
            assert ids[-1] == END
            assert firsts[0] == 1
            read += [ids[a:b] for a, b in zip(firsts, [*firsts[1:], len(ids) - 1], strict=True)]
        # A word longer than a sequence keeps its beginning.
        assert read == [by_word[word][: max_length - 2] for word in range(len(joined[i]))]


@pytest.mark.parametrize("nothing", ["", " ", "\u3000", "\u200b"])
def test_a_word_normalised_to_nothing_is_unknown(nothing: str) -> None:
    assert reference()([nothing], is_split_into_words=True, add_special_tokens=False)["input_ids"] == []
    a, b = (reference()(word, add_special_tokens=False)["input_ids"] for word in ("a", "b"))
    assert len(a) == len(b) == 1
    (((ids, firsts),),) = encoder().words([["a", nothing, "b"]])
    assert ids == [BEGIN, *a, UNKNOWN, *b, END]
    assert firsts == [1, 2, 3]


def test_places_and_targets_follow_the_words_over_several_sequences() -> None:
    task = tasks.load("ccg")
    example = TaggedWords(("the", "man", "is", "the", "man"), ("A", "B", "C", "A", "B"))
    task = task.with_labels_of([example])
    assert task.labels == ("A", "B", "C")
    ids = {w: reference()(w, add_special_tokens=False)["input_ids"] for w in example.words}
    assert all(len(pieces) == 1 for pieces in ids.values())
    columns, truncated = task.encode([example], 0, encoder(max_length=4))
    assert columns["lengths"] == [[4, 4, 3]]
    the, man, is_ = ids["the"][0], ids["man"][0], ids["is"][0]
    assert columns["input_ids"] == [[0, the, man, 2, 0, is_, the, 2, 0, man, 2]]
    assert columns["token_indices"] == [[1, 2, 5, 6, 9]]
    assert columns["targets"] == [[0, 1, 2, 0, 1]]
    assert columns["weight"] == [[5]]
    assert truncated == 0


def test_a_tag_that_training_has_not_seen_has_no_class_and_no_weight() -> None:
    task = tasks.load("ccg").with_labels_of([TaggedWords(("the",), ("A",))])
    columns, _ = task.encode([TaggedWords(("the", "man"), ("Z", "A"))], 0, encoder())
    assert columns["targets"] == [[-1, 0]]
    assert columns["weight"] == [[1]]


def test_one_way_of_encoding_leaves_no_trace_on_the_next(pairs: list[tuple[str, str]]) -> None:
    text, passage = encoder(32, 8), "He was not there, but in the old house by the sea. " * 5
    words = [["word"] * 100]

    def each() -> list[Any]:
        return [
            [piece.ids for piece in text.pairs(pairs)],
            [[w.ids for w in found] for found in text.windows(["Where?"], [passage])],
            text.words(words),
        ]

    first = each()
    assert each() == first
    assert text.words(words) == first[2]
    assert [piece.ids for piece in text.pairs(pairs)] == first[0]


# Tokenizers with other special tokens


PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "man", "eats", "soup", "##s", "who", "?", "."]
CLS, SEP = PIECES.index("[CLS]"), PIECES.index("[SEP]")


def bert(folder: Path, **named: str | None) -> TextEncoder:
    """A small WordPiece tokenizer as BERT's: cls and sep, but no bos and eos; saved and read again."""
    pieces = PIECES + [f"##{chr(97 + i % 26)}{i}" for i in range(120)]
    fast = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    fast.normalizer, fast.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    fast.post_processor = BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    saved = PreTrainedTokenizerFast(tokenizer_object=fast, pad_token="[PAD]", **(names | named))
    saved.save_pretrained(str(folder))
    return TextEncoder(load_tokenizer(str(folder)), 8, 2)


def test_words_have_the_special_tokens_of_the_tokenizers_own_template(tmp_path: Path) -> None:
    text = bert(tmp_path)
    assert text.tokenizer.bos_token_id is None
    ids = [PIECES.index(piece) for piece in ("the", "man", "eats", "soup", "##s", ".")]
    example = TaggedWords(("the", "man", "eats", "soups", "\u00ad", "."), tuple("ABCDEF"))
    task = tasks.load("ccg").with_labels_of([example])
    columns, _ = task.encode([example], 0, text)
    first = [CLS, *ids[:5], PIECES.index("[UNK]"), SEP]
    assert columns["input_ids"] == [[*first, CLS, ids[5], SEP]]
    assert columns["lengths"] == [[8, 3]]
    assert columns["token_indices"] == [[1, 2, 3, 4, 6, 9]]


def test_every_kind_reads_a_tokenizer_without_begin_and_end(tmp_path: Path) -> None:
    text = replace(bert(tmp_path), max_length=24)
    the, man, eats = (PIECES.index(piece) for piece in ("the", "man", "eats"))
    lone, pair = [CLS, the, man, SEP], [CLS, the, man, SEP, eats, SEP]

    def ids(name: str, example: Any) -> list[list[int]]:
        return tasks.load(name).encode([example], 0, text)[0]["input_ids"]

    assert ids("mnli", TextPair("the man", "eats", 0)) == [pair]
    assert ids("hellaswag", Choices("the man", ("eats", "", "eats", ""), 0)) == [
        [*pair, *lone, SEP, *pair, *lone, SEP]
    ]
    assert ids("squad_v1", Question("the man", "eats", ("eats",), (0,))) == [pair]
    assert ids("ranking", Text("the man", "the man")) == [lone + lone]
    assert ids("bucc2018", Sentence("the man", 0, (), 1, "a")) == [lone]
    assert ids("mlm", Text("the man")) == [lone]
    assert ids("tlm", Text("the man", "eats")) == [pair]
    assert ids("udpos", TaggedWords(("the", "man"), ("DET", "NOUN"))) == [lone]


def test_special_tokens_of_the_template_are_never_hidden(tmp_path: Path) -> None:
    # transformers is told of no name for them.
    text = bert(tmp_path, cls_token=None, sep_token=None)
    assert {CLS, SEP, PIECES.index("[PAD]"), PIECES.index("[MASK]")} <= set(text.special_ids)
    masking = tasks.load("mlm").masking(text)
    assert masking is not None
    ids = np.array([CLS, *range(5, 13), SEP] * 50)
    hidden = masking.hide(ids, np.full(50, 10), np.arange(50), 0)
    assert not set(hidden.targets.tolist()) & set(text.special_ids)
    assert hidden.ids.max() < text.num_ids == masking.vocab_size


def test_a_word_without_tokens_needs_an_unknown_token(tmp_path: Path) -> None:
    text = bert(tmp_path, unk_token=None)
    assert text.words([["the", "man"]]) == [[([CLS, 5, 6, SEP], [1, 2])]]
    with pytest.raises(
        ValueError, match=r"has no token for the word '', and no unknown token: name unk_token"
    ):
        text.words([["the", ""]])


# The tokenizer itself


def test_an_encoder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.encoder .* has no tokenizer\.json or"):
        load_tokenizer(str(tmp_path))
