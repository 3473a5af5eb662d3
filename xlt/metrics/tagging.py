"""Precision, recall and F1 of spans, in percent: XTREME's scores of PAN-X and UDPOS.

Source: Hu et al. (2020) https://arxiv.org/abs/2003.11080, function f1 of evaluate.py of
github.com/google-research/xtreme, which calls seqeval with its defaults for both tasks (all spans counted
together, conlleval's reading of ill-formed sequences), though the tags of UDPOS mark no spans. The rules here
are those of get_entities of seqeval 1.2.2.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Tags = Sequence[Sequence[str]]
"""Tags of the words of each sentence."""

Span = tuple[str, int, int]
"""Type, first word and last word; words are counted through all sentences, with an O after each."""


def _is_end(tag: str, then: str, same_type: bool) -> bool:
    """Return True if a span ends between the first letters of two tags."""
    return (
        tag in ("E", "S")
        or (tag in ("B", "I") and then in ("B", "S", "O"))
        or (tag not in ("O", ".") and not same_type)
    )


def _is_start(tag: str, then: str, same_type: bool) -> bool:
    """Return True if a span starts between the first letters of two tags."""
    return (
        then in ("B", "S")
        or (tag in ("E", "S", "O") and then in ("E", "I"))
        or (then not in ("O", ".") and not same_type)
    )


def _spans(sentences: Tags) -> set[Span]:
    """Return the spans of all sentences."""
    tags = [tag for sentence in sentences for tag in (*sentence, "O")]
    parts = [("O", ""), *((tag[0], tag[1:].split("-", 1)[-1] or "_") for tag in tags)]
    found, start = set[Span](), 0
    for place, ((tag, kind), (then, next_kind)) in enumerate(pairwise(parts)):
        if _is_end(tag, then, kind == next_kind):
            found.add((kind, start, place - 1))
        if _is_start(tag, then, kind == next_kind):
            start = place
    return found


def span_counts(predictions: Tags, gold: Tags) -> np.ndarray:
    """Return the right, the predicted and the gold spans of each sentence, shape (sentences, 3).

    Their sums a, b and c give the F1 of `span_scores`, 200 a / (b + c). A span that its sentence does not
    bound, as X may be in UDPOS, counts in the sentence of its end.

    Args:
        predictions: Predicted tags.
        gold: True tags.

    Raises:
        ValueError: A sentence has another number of predictions than of tags.
    """
    sizes, expected = list(map(len, predictions)), list(map(len, gold))
    if sizes != expected:
        raise ValueError(f"the predictions have {sizes} tags by sentence, but the sentences have {expected}")
    found, wanted = _spans(predictions), _spans(gold)
    ends = np.cumsum([size + 1 for size in sizes])
    parts = [np.array([end for *_, end in spans], int) for spans in (found & wanted, found, wanted)]
    by_sentence = [np.searchsorted(ends, part, side="right") for part in parts]
    return np.stack([np.bincount(part, minlength=len(gold)) for part in by_sentence], axis=1)


def span_scores(predictions: Tags, gold: Tags) -> dict[str, float]:
    """Return F1, precision and recall of the spans of all sentences, in percent; 0 if there are no spans.

    A tag without a hyphen, as in UDPOS, is read by seqeval's rules: the first letter is B, I, E, S or other,
    and the rest is the type. NOUN NOUN is one span of type OUN, SYM SYM are two of type YM, SCONJ and CCONJ
    have the same type, and X has the type of O, so neither the start nor the end of a sentence bounds X.

    Args:
        predictions: Predicted tags.
        gold: True tags.

    Raises:
        ValueError: A sentence has another number of predictions than of tags.
    """
    right, found, wanted = span_counts(predictions, gold).sum(0).tolist()
    precision, recall = (right / max(count, 1) for count in (found, wanted))
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}


def span_f1(predictions: Tags, gold: Tags) -> float:
    """Return the F1 of the spans of all sentences, in percent, which XTREME reports; see `span_scores`."""
    return span_scores(predictions, gold)["f1"]
