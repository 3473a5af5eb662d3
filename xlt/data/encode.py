"""Encode texts as token ids: pairs of texts, windows of a passage, and the words of a sentence.

Every distinct text of a call goes through the encoder's own fast tokenizer once, in batches that its Rust
code spreads over the cores. Sequences are put together from the pieces, because a context comes with several
choices and a passage with several questions. The ids are the same as in the tokenizer's own pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xlt.data.clusters import whole_clusters
from xlt.data.examples import Question
from xlt.data.sequences import Pair, Template, Window, ids_by_word, lengths_to_keep, template_of
from xlt.system.encoder_files import reading
from xlt.system.folders import check_encoder_exists, model_folder

ENCODING_VERSION = 2
"""Version of the code that makes token ids of texts: this module, xlt.data.sequences and xlt.data.clusters.
Raise it when a change there gives other ids for the same texts."""

MAX_LENGTH = 512
"""Maximum number of tokens in a sequence of test rows, unless the encoder has fewer positions."""

STRIDE = 128
"""Overlap of the windows of a passage of test rows, in tokens."""

MAX_QUESTION_TOKENS = 64
"""Number of tokens after which questions are cut (Devlin et al. 2019, run_squad's max_query_length)."""


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer and the limits of its sequences.

    Args:
        tokenizer: The encoder's fast tokenizer.
        max_length: Maximum number of tokens in a sequence, special tokens included.
        stride: Number of tokens by which successive windows of a passage overlap.
        image_tokens: Number of tokens that stand for an image. They do not count for `max_length`.
    """

    tokenizer: PreTrainedTokenizerFast
    max_length: int
    stride: int
    image_tokens: int = 1

    @property
    def _fast(self) -> Tokenizer:
        """Return the tokenizer's Rust object, without limits of its own."""
        fast = self.tokenizer.backend_tokenizer
        fast.no_padding()
        fast.no_truncation()
        return fast

    @cached_property
    def definition(self) -> str:
        """Return the tokenizer as JSON text."""
        return self._fast.to_str()

    @cached_property
    def _template(self) -> Template:
        """Return the special tokens and segments of single texts and of pairs."""
        has_segments = "token_type_ids" in self.tokenizer.model_input_names
        return template_of(self._fast, has_segments)

    @property
    def has_segments(self) -> bool:
        """Return True if the tokens of a second text have a segment id of their own."""
        return self._template.separators_of_first is not None

    @property
    def _room(self) -> int:
        """Return the number of tokens of a single text that a sequence holds."""
        return self.max_length - sum(map(len, self._template.single))

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """Return the ids of all special tokens, ascending: with a name, or in the templates."""
        added = self.tokenizer.added_tokens_decoder
        named = [*self.tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)]
        around = [token for run in (*self._template.single, *self._template.double) for token in run]
        return tuple(sorted({*map(int, named), *around}))

    @cached_property
    def num_ids(self) -> int:
        """Return the tokenizer's largest token id plus one."""
        return num_ids(self.tokenizer)

    def _ids(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Return the token ids of each distinct text."""
        distinct = list(dict.fromkeys(texts))
        encoded = self._fast.encode_batch_fast(distinct, add_special_tokens=False)
        return {text: found.ids for text, found in zip(distinct, encoded, strict=True)}

    def pairs(self, pairs: Sequence[tuple[str, str | None]]) -> list[Pair]:
        """Encode each pair as one sequence. If both texts are too long together, the longer is cut first.

        An empty second text keeps the separators of a pair. If the second text is None, the first stands
        alone.
        """
        ids = self._ids(text for pair in pairs for text in pair if text is not None)
        return [
            self._encode_single(ids[first]) if second is None else self._encode_pair(ids[first], ids[second])
            for first, second in pairs
        ]

    def singles(self, texts: Sequence[str]) -> list[Pair]:
        """Encode each text as a sequence of its own, cut at `max_length`."""
        return self.pairs([(text, None) for text in texts])

    def pieces(self, text: str) -> list[Pair]:
        """Encode a text as successive sequences of at most `max_length` tokens. No token is lost."""
        before, after = self._template.single
        ids = self._fast.encode(text, add_special_tokens=False).ids
        room = self._room
        parts = [self._filled(before + ids[i : i + room] + after) for i in range(0, max(1, len(ids)), room)]
        return [Pair(part, False, self._template.first_segment(None, part)) for part in parts]

    def located(self, texts: Sequence[str]) -> list[list[Window]]:
        """Encode each text as sequences of at most `max_length`, with the characters of every token."""
        before, after = self._template.single
        found: list[list[Window]] = []
        for text in self._fast.encode_batch(list(texts), add_special_tokens=False):
            offsets = np.array(text.offsets, np.int64).reshape(-1, 2)
            parts = [slice(p, p + self._room) for p in range(0, len(text.ids), self._room)]
            found.append(
                [Window(before + text.ids[p] + after, len(before), offsets[p], False) for p in parts]
            )
        return found

    def _encode_single(self, ids: list[int]) -> Pair:
        before, after = self._template.single
        sequence = self._filled(before + ids[: self._room] + after)
        return Pair(sequence, len(ids) > self._room, self._template.first_segment(None, sequence))

    def _encode_pair(self, first: list[int], second: list[int]) -> Pair:
        before, between, after = self._template.double
        room = self.max_length - len(before) - len(between) - len(after)
        one, other = lengths_to_keep(len(first), len(second), room)
        ids = self._filled(before + first[:one] + between + second[:other] + after)
        return Pair(ids, len(first) + len(second) > room, self._template.first_segment(one, ids))

    def window_limits(self) -> tuple[int, int]:
        """Return the number of tokens after which questions are cut, and the overlap of windows in tokens."""
        special = sum(map(len, self._template.double))
        limit = min(MAX_QUESTION_TOKENS, (self.max_length - special) // 2)
        return limit, min(self.stride, self.max_length - limit - special - 1)

    def windows(self, questions: Sequence[str], passages: Sequence[str]) -> list[list[Window]]:
        """Encode each question with as many overlapping windows as its passage needs."""
        limit, stride = self.window_limits()
        asked = self._ids(question.strip() for question in questions)
        distinct = list(dict.fromkeys(passages))
        encoded = self._fast.encode_batch(distinct, add_special_tokens=False)
        read = {
            text: (found.ids, whole_clusters(text, np.array(found.offsets, np.int64).reshape(-1, 2)))
            for text, found in zip(distinct, encoded, strict=True)
        }
        return [
            self._windows(asked[question.strip()], limit, *read[passage], stride)
            for question, passage in zip(questions, passages, strict=True)
        ]

    def _windows(
        self, question: list[int], limit: int, passage: list[int], offsets: np.ndarray, stride: int
    ) -> list[Window]:
        """Return the windows of a passage. An empty passage has one window."""
        before, between, after = self._template.double
        start, is_cut = self._filled(before + question[:limit] + between), len(question) > limit
        segment = self._template.first_segment(min(len(question), limit), start)
        room = self.max_length - len(start) - len(after)
        step = room - stride
        count = 1 + -(-max(0, len(passage) - room) // step)
        return [
            Window(start + passage[p : p + room] + after, len(start), offsets[p : p + room], is_cut, segment)
            for p in range(0, count * step, step)
        ]

    def words(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[list[int], list[int]]]]:
        """Encode each sentence as sequences: token ids, and the index of each word's first token.

        A sentence longer than `max_length` becomes several sequences, so that every word is read. A word that
        the tokenizer normalises away is read as the unknown token.
        """
        encoded = self._fast.encode_batch(
            [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False
        )
        return [
            self._sequences(
                [
                    ids or [self._unknown(word)]
                    for ids, word in zip(ids_by_word(found, len(words)), words, strict=True)
                ]
            )
            for found, words in zip(encoded, sentences, strict=True)
        ]

    def _filled(self, ids: list[int]) -> list[int]:
        """Return the ids of a sequence, which are the unknown token if the sequence would be empty."""
        return ids or [self._unknown("")]

    def _unknown(self, word: str) -> int:
        """Return the id of the unknown token, which stands for a word without tokens.

        Raises:
            ValueError: The tokenizer has no unknown token.
        """
        token = self.tokenizer.unk_token_id
        if not isinstance(token, int):
            raise ValueError(
                f"the tokenizer of model.encoder has no token for the word {word!r}, and no unknown token"
                ": name unk_token in its tokenizer_config.json, or leave the word out of the rows"
            )
        return token

    def _sequences(self, words: list[list[int]]) -> list[tuple[list[int], list[int]]]:
        """Divide the words into sequences and add the special tokens of a single text."""
        before, after = self._template.single
        sequences: list[tuple[list[int], list[int]]] = [(list(before), [])]
        for ids in words:
            ids = ids[: self._room]
            if len(sequences[-1][0]) + len(ids) + len(after) > self.max_length:
                sequences.append((list(before), []))
            sequences[-1][1].append(len(sequences[-1][0]))
            sequences[-1][0].extend(ids)
        return [(self._filled(ids + after), firsts) for ids, firsts in sequences]


def answer_tokens(example: Question, window: Window) -> list[int]:
    """Return the first and last token of the first gold answer; 0 and 0 if the window lacks a part of it."""
    if not example.answers or not len(window.offsets):
        return [0, 0]
    first, last = example.starts[0], example.starts[0] + len(example.answers[0])
    starts, ends = window.offsets.T
    inside = np.flatnonzero((ends > first) & (starts < last))
    if not len(inside) or starts[0] > first or ends[-1] < last:
        return [0, 0]
    return [window.begin + int(inside[0]), window.begin + int(inside[-1])]


def num_ids(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the largest token id plus one: the number of rows that an embedding needs."""
    return 1 + max(tokenizer.get_vocab().values())


def load_tokenizer(encoder: str) -> PreTrainedTokenizerFast:
    """Return the fast tokenizer of an encoder.

    Args:
        encoder: A name on the hub, a folder, or the folder of a finished run.

    Raises:
        FileNotFoundError: There is no tokenizer.
        ValueError: The tokenizer has no tokenizer.json, or no vocabulary.
    """
    check_encoder_exists(encoder)
    with reading(encoder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(model_folder(encoder), trust_remote_code=False)
    # Without tokenizer files transformers makes a tokenizer of the special tokens alone.
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or len(tokenizer) < 100:
        raise ValueError(
            f"model.encoder {encoder!r} has no tokenizer.json, or one without a vocabulary. Copy the "
            "encoder's tokenizer.json into the folder"
        )
    return tokenizer
