"""From texts to token ids: pairs, windows of a passage, and words with one id sequence a sentence.

Everything goes through the encoder's own fast tokenizer, in batches that its Rust side spreads over the
cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from xlt.data.examples import Question

MAX_QUESTION_TOKENS = 64
"""Longer questions are cut (Devlin et al. 2019, run_squad's max_query_length)."""


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
        """The tokenizer's Rust side."""
        return self.tokenizer.backend_tokenizer

    @property
    def definition(self) -> str:
        """The tokenizer as text, without the limits that the last call left set."""
        self._fast.no_padding()
        self._fast.no_truncation()
        return self._fast.to_str()

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Encoding]:
        """One sequence a pair, the longer text cut first where both are too long."""
        self._fast.no_padding()
        self._fast.enable_truncation(self.max_length, strategy="longest_first")
        return self._fast.encode_batch([pair if pair[1] else pair[0] for pair in pairs])

    def windows(self, questions: Sequence[str], passages: Sequence[str]) -> list[list[Encoding]]:
        """Each question with as many overlapping windows as its passage needs."""
        self._fast.no_padding()
        self._fast.no_truncation()
        special = self.tokenizer.num_special_tokens_to_add(pair=True)
        limit = min(MAX_QUESTION_TOKENS, (self.max_length - special) // 2)
        short = [self._cut(question.strip(), limit) for question in questions]
        room = self.max_length - limit - special
        self._fast.enable_truncation(
            self.max_length, stride=min(self.stride, room - 1), strategy="only_second"
        )
        encoded = self._fast.encode_batch(list(zip(short, passages, strict=True)))
        return [[first, *first.overflowing] for first in encoded]

    def _cut(self, text: str, limit: int) -> str:
        """The text's beginning that has at most `limit` tokens."""
        found = self._fast.encode(text, add_special_tokens=False)
        kept = limit
        # A shorter text can have more tokens at its end than it had inside the longer one.
        while len(found) > limit:
            text = text[: found.offsets[kept - 1][1]]
            found = self._fast.encode(text, add_special_tokens=False)
            kept -= 1
        return text

    def words(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[list[int], list[int]]]]:
        """Each sentence's pieces: token ids with special tokens, and the position of each word's first.

        A sentence beyond `max_length` becomes several sequences, so that no word goes unread; a word
        that the tokenizer normalises away is read as the unknown token.
        """
        self._fast.no_padding()
        self._fast.no_truncation()
        encoded = self._fast.encode_batch(
            [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False
        )
        return [
            self._sequences(_ids_by_word(found, len(words), self.unknown))
            for found, words in zip(encoded, sentences, strict=True)
        ]

    @property
    def unknown(self) -> int:
        """Id of the unknown token."""
        return int(self.tokenizer.unk_token_id)  # type: ignore[arg-type]

    def _sequences(self, words: list[list[int]]) -> list[tuple[list[int], list[int]]]:
        """Cut the words where a sequence is full; add the special tokens of a single text."""
        begin, end = (
            int(token)  # type: ignore[arg-type]
            for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        )
        sequences: list[tuple[list[int], list[int]]] = [([begin], [])]
        for ids in words:
            ids = ids[: self.max_length - 2]
            if len(sequences[-1][0]) + len(ids) + 1 > self.max_length:
                sequences.append(([begin], []))
            sequences[-1][1].append(len(sequences[-1][0]))
            sequences[-1][0].extend(ids)
        for ids, _ in sequences:
            ids.append(end)
        return sequences


def _ids_by_word(found: Encoding, num_words: int, unknown: int) -> list[list[int]]:
    """The token ids of each word."""
    by_word: list[list[int]] = [[] for _ in range(num_words)]
    for token, word in zip(found.ids, found.word_ids, strict=True):
        if word is not None:
            by_word[word].append(token)
    return [ids or [unknown] for ids in by_word]


def passage_of(window: Encoding) -> tuple[int, int]:
    """First token of the passage, and the one after its last."""
    places = [i for i, sequence in enumerate(window.sequence_ids) if sequence == 1]
    return (places[0], places[-1] + 1) if places else (0, 0)


def answer_tokens(example: Question, offsets: Sequence[tuple[int, int]], begin: int) -> list[int]:
    """First and last token of the first gold answer; 0 and 0 where the window lacks any of it."""
    if not example.answers or not offsets:
        return [0, 0]
    first, last = example.starts[0], example.starts[0] + len(example.answers[0])
    inside = [i for i, (start, end) in enumerate(offsets) if end > first and start < last]
    if not inside or offsets[0][0] > first or offsets[-1][1] < last:
        return [0, 0]
    return [begin + inside[0], begin + inside[-1]]


def load_tokenizer(encoder: str) -> PreTrainedTokenizerFast:
    """The fast tokenizer that belongs to an encoder.

    Args:
        encoder: A name on the hub or a folder.

    Raises:
        FileNotFoundError: There is none.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(encoder)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"model.encoder {encoder!r} has no tokenizer ({first}): name a folder with config.json "
            "and tokenizer.json, or a model on the hub"
        ) from error
    # Without tokenizer files transformers makes a tokenizer of the special tokens alone.
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or len(tokenizer) < 100:
        raise ValueError(f"model.encoder {encoder!r} has no tokenizer.json, or one without a vocabulary")
    return tokenizer
