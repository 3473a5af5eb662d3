"""Take an output of the tokenizer apart, and divide the room of a sequence between two texts."""

from tokenizers import Encoding


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
