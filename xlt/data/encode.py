"""From texts to token ids: pairs, windows of a passage, and words with one id sequence a sentence.

Every distinct text of a call goes once through the encoder's own fast tokenizer, in batches that its Rust
side spreads over the cores; sequences are put together from the pieces, for a context comes with several
choices and a passage with several questions. The ids are those of the tokenizer's own pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import regex
from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xlt.data.examples import Question
from xlt.system.file_errors import raise_of_file
from xlt.system.folders import model_folder

MAX_QUESTION_TOKENS = 64
"""Longer questions are cut (Devlin et al. 2019, run_squad's max_query_length)."""


_CLUSTER = regex.compile(r"\X")


class Pair(NamedTuple):
    """A text, or two, as one sequence."""

    ids: list[int]
    is_cut: bool
    """Whether text was lost to the length limit."""


class Window(NamedTuple):
    """A question with a stretch of its passage."""

    ids: list[int]
    begin: int
    """Place of the passage's first token."""
    offsets: np.ndarray
    """(tokens of the passage, 2): the characters that each is made of."""
    is_cut: bool
    """Whether the question was longer than what is read of it."""


@dataclass(frozen=True)
class TextEncoder:
    """A tokenizer with the limits to use it under.

    Args:
        tokenizer: The encoder's fast tokenizer.
        max_length: Most tokens in a sequence, special tokens included.
        stride: Tokens by which successive windows of a passage overlap.
    """

    tokenizer: PreTrainedTokenizerFast
    max_length: int
    stride: int

    @property
    def _fast(self) -> Tokenizer:
        """The tokenizer's Rust side, with no limits of its own."""
        fast = self.tokenizer.backend_tokenizer
        fast.no_padding()
        fast.no_truncation()
        return fast

    @property
    def definition(self) -> str:
        """The tokenizer as text."""
        return self._fast.to_str()

    @cached_property
    def _single(self) -> tuple[list[int], ...]:
        """The special tokens before and after a lone text."""
        return _between(self._fast.encode(self._sample))

    @cached_property
    def _double(self) -> tuple[list[int], ...]:
        """The special tokens before, between and after two texts."""
        return _between(self._fast.encode(self._sample, self._sample))

    @property
    def _sample(self) -> str:
        """A text of at least one token: `a`, or a piece where no piece spells that."""
        texts = chain("a", self._fast.get_vocab())
        return next(t for t in texts if self._fast.encode(t, add_special_tokens=False).ids)

    @property
    def _room(self) -> int:
        """The number of tokens of a lone text that a sequence holds."""
        return self.max_length - sum(map(len, self._single))

    @cached_property
    def special(self) -> tuple[int, ...]:
        """Ids of all special tokens, ascending: those that the tokenizer names and those of its templates."""
        added = self.tokenizer.added_tokens_decoder
        named = [*self.tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)]
        around = [token for run in (*self._single, *self._double) for token in run]
        return tuple(sorted({*map(int, named), *around}))

    @cached_property
    def num_ids(self) -> int:
        """The tokenizer's largest token id plus one."""
        return num_ids(self.tokenizer)

    def _ids(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """The token ids of each text."""
        distinct = list(dict.fromkeys(texts))
        encoded = self._fast.encode_batch_fast(distinct, add_special_tokens=False)
        return {text: found.ids for text, found in zip(distinct, encoded, strict=True)}

    def pairs(self, pairs: Sequence[tuple[str, str | None]]) -> list[Pair]:
        """Encode each pair as one sequence; the longer text is cut first if both together are too long.

        An empty second text keeps the separators of a pair. A text whose second is None stands alone.
        """
        ids = self._ids(text for pair in pairs for text in pair if text is not None)
        return [
            self._lone(ids[first]) if second is None else self._pair(ids[first], ids[second])
            for first, second in pairs
        ]

    def singles(self, texts: Sequence[str]) -> list[Pair]:
        """Encode each text as a sequence of its own, cut at `max_length`."""
        return self.pairs([(text, None) for text in texts])

    def pieces(self, text: str) -> list[Pair]:
        """A text as sequences of at most `max_length`, one after the other; nothing is lost."""
        before, after = self._single
        ids = self._fast.encode(text, add_special_tokens=False).ids
        room = self._room
        return [Pair(before + ids[i : i + room] + after, False) for i in range(0, max(1, len(ids)), room)]

    def located(self, texts: Sequence[str]) -> list[list[Window]]:
        """Encode each text as sequences of at most `max_length`, with the characters of every token."""
        before, after = self._single
        found: list[list[Window]] = []
        for text in self._fast.encode_batch(list(texts), add_special_tokens=False):
            offsets = np.array(text.offsets, np.int64).reshape(-1, 2)
            found.append(
                [
                    Window(
                        before + text.ids[p : p + self._room] + after,
                        len(before),
                        offsets[p : p + self._room],
                        False,
                    )
                    for p in range(0, len(text.ids), self._room)
                ]
            )
        return found

    def _lone(self, ids: list[int]) -> Pair:
        before, after = self._single
        return Pair(before + ids[: self._room] + after, len(ids) > self._room)

    def _pair(self, first: list[int], second: list[int]) -> Pair:
        before, between, after = self._double
        room = self.max_length - len(before) - len(between) - len(after)
        one, other = _shares(len(first), len(second), room)
        ids = before + first[:one] + between + second[:other] + after
        return Pair(ids, len(first) + len(second) > room)

    def windows(self, questions: Sequence[str], passages: Sequence[str]) -> list[list[Window]]:
        """Each question with as many overlapping windows as its passage needs."""
        special = sum(map(len, self._double))
        limit = min(MAX_QUESTION_TOKENS, (self.max_length - special) // 2)
        stride = min(self.stride, self.max_length - limit - special - 1)
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
        """The windows of one passage; one where it is empty."""
        before, between, after = self._double
        start, is_cut = before + question[:limit] + between, len(question) > limit
        room = self.max_length - len(start) - len(after)
        step = room - stride
        count = 1 + -(-max(0, len(passage) - room) // step)
        return [
            Window(start + passage[p : p + room] + after, len(start), offsets[p : p + room], is_cut)
            for p in range(0, count * step, step)
        ]

    def words(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[list[int], list[int]]]]:
        """Each sentence's pieces: token ids with special tokens, and the position of each word's first.

        A sentence beyond `max_length` becomes several sequences, so that no word goes unread; a word
        that the tokenizer normalises away is read as the unknown token.
        """
        encoded = self._fast.encode_batch(
            [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False
        )
        return [
            self._sequences(
                [
                    ids or [self._unknown(word)]
                    for ids, word in zip(_by_word(found, len(words)), words, strict=True)
                ]
            )
            for found, words in zip(encoded, sentences, strict=True)
        ]

    def _unknown(self, word: str) -> int:
        """Return the id of the unknown token, as which a word without tokens is read.

        Raises:
            ValueError: The tokenizer has no unknown token.
        """
        token = self.tokenizer.unk_token_id
        if not isinstance(token, int):
            raise ValueError(
                f"the tokenizer of model.encoder reads the word {word!r} as no token and has no unknown token"
                ": name unk_token in its tokenizer_config.json, or leave the word out of the rows"
            )
        return token

    def _sequences(self, words: list[list[int]]) -> list[tuple[list[int], list[int]]]:
        """Cut the words where a sequence is full; add the special tokens of a single text."""
        before, after = self._single
        sequences: list[tuple[list[int], list[int]]] = [(list(before), [])]
        for ids in words:
            ids = ids[: self._room]
            if len(sequences[-1][0]) + len(ids) + len(after) > self.max_length:
                sequences.append((list(before), []))
            sequences[-1][1].append(len(sequences[-1][0]))
            sequences[-1][0].extend(ids)
        for ids, _ in sequences:
            ids.extend(after)
        return sequences


def _by_word(found: Encoding, num_words: int) -> list[list[int]]:
    """Return the token ids of each word; none for a word that the tokenizer normalises away."""
    by_word: list[list[int]] = [[] for _ in range(num_words)]
    for token, word in zip(found.ids, found.word_ids, strict=True):
        if word is not None:
            by_word[word].append(token)
    return by_word


def _between(template: Encoding) -> tuple[list[int], ...]:
    """The special tokens around the texts of an encoded sample: before, between them if two, and after."""
    runs: list[list[int]] = [[]]
    for token, sequence, previous in zip(
        template.ids, template.sequence_ids, [None, *template.sequence_ids], strict=False
    ):
        if sequence is None:
            runs[-1].append(token)
        elif sequence != previous:
            runs.append([])
    return tuple(runs)


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens kept of two texts so long: the longer is cut to the shorter, then both alike.

    Source: `longest_first` of the tokenizers library, whose odd token goes to the longer text.
    """
    if first + second <= room:
        return first, second
    short = min(first, second)
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)


def whole_clusters(text: str, offsets: np.ndarray) -> np.ndarray:
    """Give each token the rest of its grapheme cluster, as far as no other token stands for that.

    Normalisation may make one character of several, such as a letter and its combining marks, or drop some.
    The tokenizer's offsets then cover the first one alone. Characters of another token stay apart.

    Args:
        text: The text as it was before normalisation.
        offsets: (T tokens, 2): the first character of each token and one after the last.

    Returns:
        The offsets, shape (T, 2), whose ends are moved to the boundaries of grapheme clusters (UAX 29).
    """
    if text.isascii() or not len(offsets):
        return offsets
    starts, ends = offsets.T
    borders = np.array([*(cluster.start() for cluster in _CLUSTER.finditer(text)), len(text)])
    upcoming = np.append(np.sort(starts), len(text))[np.searchsorted(np.sort(starts), ends)]
    later = borders[np.searchsorted(borders, ends)]
    previous = np.append(0, np.sort(ends))[np.searchsorted(np.sort(ends), starts, "right")]
    earlier = borders[np.searchsorted(borders, starts, "right") - 1]
    moved = np.stack([np.maximum(earlier, previous), np.minimum(later, np.maximum(upcoming, ends))], 1)
    return np.where((starts < ends)[:, None], moved, offsets)


def answer_tokens(example: Question, window: Window) -> list[int]:
    """First and last token of the first gold answer; 0 and 0 where the window lacks any of it."""
    if not example.answers or not len(window.offsets):
        return [0, 0]
    first, last = example.starts[0], example.starts[0] + len(example.answers[0])
    starts, ends = window.offsets.T
    inside = np.flatnonzero((ends > first) & (starts < last))
    if not len(inside) or starts[0] > first or ends[-1] < last:
        return [0, 0]
    return [window.begin + int(inside[0]), window.begin + int(inside[-1])]


def num_ids(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the largest token id plus one: the rows that an embedding needs to read every token."""
    return 1 + max(tokenizer.get_vocab().values())


def load_tokenizer(encoder: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer that belongs to an encoder.

    Args:
        encoder: A name on the hub, a folder, or a finished run's.

    Raises:
        FileNotFoundError: There is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_folder(encoder))
    except (OSError, ValueError) as error:
        raise_of_file(f"the tokenizer of model.encoder {encoder!r}", error)
        first = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"model.encoder {encoder!r} has no tokenizer ({first}): name a folder with config.json "
            "and tokenizer.json, or a model on the hub"
        ) from error
    # Without tokenizer files transformers makes a tokenizer of the special tokens alone.
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or len(tokenizer) < 100:
        raise ValueError(f"model.encoder {encoder!r} has no tokenizer.json, or one without a vocabulary")
    return tokenizer
