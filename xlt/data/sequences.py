"""Sequences of token ids, the template of a tokenizer, and the division of a sequence between two texts."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from xlt.data.features import FIRST_SEGMENTS


class Pair(NamedTuple):
    """A text or a pair of texts as one sequence.

    Args:
        ids: Token ids, special tokens included.
        is_cut: True if text was lost to the length limit.
        first_segment: Number of tokens of segment 0, which come first. Defaults to None: the tokenizer gives
            no segment ids.
    """

    ids: list[int]
    is_cut: bool
    first_segment: int | None = None


class Window(NamedTuple):
    """A question with a part of its passage.

    Args:
        ids: Token ids, special tokens included.
        begin: Index of the passage's first token.
        offsets: First character of each token of the passage and one after its last, shape (tokens, 2).
        is_cut: True if the question was cut.
        first_segment: As in `Pair`.
    """

    ids: list[int]
    begin: int
    offsets: np.ndarray
    is_cut: bool
    first_segment: int | None = None


class Template(NamedTuple):
    """The special tokens that a tokenizer puts around texts, and its segments.

    Args:
        single: Special tokens before and after a single text.
        double: Special tokens before, between and after two texts.
        separators_of_first: Number of tokens between two texts that have the segment id of the first text.
            None if the tokenizer gives no segment ids.
    """

    single: tuple[list[int], ...]
    double: tuple[list[int], ...]
    separators_of_first: int | None

    def first_segment(self, first: int | None, sequence: Sequence[int]) -> int | None:
        """Return the number of tokens of segment 0; None if the tokenizer gives no segment ids.

        Args:
            first: Number of tokens of the first text. None for a single text.
            sequence: The sequence of a single text.
        """
        if self.separators_of_first is None or first is None:
            return None if self.separators_of_first is None else len(sequence)
        return len(self.double[0]) + first + self.separators_of_first


def template_of(fast: Tokenizer, has_segments: bool) -> Template:
    """Return the template of a tokenizer.

    Args:
        fast: The tokenizer.
        has_segments: True if the encoder's inputs have segment ids.

    Raises:
        ValueError: The segments are not 0 for a single text and a first text, and 1 for a second text.
    """
    # A text of at least one token: `a`, or another piece if the vocabulary cannot spell `a`.
    texts = chain("a", fast.get_vocab())
    sample = next(t for t in texts if fast.encode(t, add_special_tokens=False).ids)
    single, double = fast.encode(sample), fast.encode(sample, sample)
    runs = special_runs(single), special_runs(double)
    if not has_segments or not any((*single.type_ids, *double.type_ids)):
        return Template(*runs, None)
    before, between, _ = runs[1]
    first = double.type_ids.count(0)
    own = first - len(before) - double.sequence_ids.count(0)
    is_known = double.type_ids == [0] * first + [1] * (len(double) - first) and not any(single.type_ids)
    if not is_known or not 0 <= own <= len(between):
        raise ValueError(
            f"the tokenizer of model.encoder gives a pair of texts the segment ids {double.type_ids}, and a "
            f"single text {single.type_ids}, but xlt reads 0 for a first or single text and 1 for a second. "
            "Take token_type_ids out of model_input_names in its tokenizer_config.json if the encoder has no "
            "segments"
        )
    return Template(*runs, own)


def segment_columns(rows: Sequence[Sequence[Pair | Window]]) -> dict[str, list[list[int]]]:
    """Return the number of tokens of segment 0 of each sequence of each row, as a column.

    Return no column if the tokenizer gives no segment ids.
    """
    found = [[s.first_segment for s in row if s.first_segment is not None] for row in rows]
    return {FIRST_SEGMENTS: found} if any(found) else {}


def ids_by_word(found: Encoding, num_words: int) -> list[list[int]]:
    """Return the token ids of each word. A word that the tokenizer normalises away has none."""
    by_word: list[list[int]] = [[] for _ in range(num_words)]
    for token, word in zip(found.ids, found.word_ids, strict=True):
        if word is not None:
            by_word[word].append(token)
    return by_word


def special_runs(template: Encoding) -> tuple[list[int], ...]:
    """Return the special tokens of an encoded sample: before, between and after its texts."""
    runs: list[list[int]] = [[]]
    for token, sequence, previous in zip(
        template.ids, template.sequence_ids, [None, *template.sequence_ids], strict=False
    ):
        if sequence is None:
            runs[-1].append(token)
        elif sequence != previous:
            runs.append([])
    return tuple(runs)


def lengths_to_keep(first: int, second: int, room: int) -> tuple[int, int]:
    """Return the numbers of tokens to keep of two texts.

    The longer text is cut to the length of the shorter, then both are cut alike.

    Args:
        first: Number of tokens of the first text.
        second: Number of tokens of the second text.
        room: Number of tokens that the sequence holds.

    Source: `longest_first` of the tokenizers library. An odd token goes to the longer text.
    """
    if first + second <= room:
        return first, second
    short = min(first, second)
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)
