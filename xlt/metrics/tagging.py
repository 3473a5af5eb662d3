"""Precision, recall and F1 of spans, in percent, by seqeval: XTREME's scores of PAN-X and UDPOS.

Source: Hu et al. (2020) https://arxiv.org/abs/2003.11080, function f1 of evaluate.py of
github.com/google-research/xtreme: seqeval's defaults (all spans counted together, conlleval's reading of
ill-formed sequences) for both tasks, though the tags of UDPOS mark no spans.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support


def span_scores(predictions: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """F1, precision and recall of the spans of all sentences, in percent; 0 where there are none.

    Of a tag without a hyphen, as in UDPOS, seqeval 1.2 reads the first letter as B, I, E, S or other and the
    rest as the type: NOUN NOUN is one span of type OUN, SYM SYM are two of type YM, SCONJ and CCONJ have
    the same type, and X has that of O, so that neither start nor end of a sentence bounds it.

    Args:
        predictions: Tags of each sentence's words.
        gold: Their true tags.

    Raises:
        ValueError: A sentence has not as many predictions as tags.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".* seems not to be NE tag\.", UserWarning)
        precision, recall, f1, _ = precision_recall_fscore_support(
            [list(tags) for tags in gold],
            [list(tags) for tags in predictions],
            average="micro",
            zero_division=0,  # pyright: ignore[reportArgumentType]  (annotated as str, compared with 0)
        )
    named = {"f1": f1, "precision": precision, "recall": recall}
    return {name: 100 * float(value) for name, value in named.items()}  # pyright: ignore[reportArgumentType]


def span_counts(predictions: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> np.ndarray:
    """Spans found right, spans predicted and gold spans of each sentence, shape (sentences, 3).

    Their sums a, b and c give the F1 of `span_scores`, 200 a / (b + c). A span that is not bounded by its
    sentence, as X may be in UDPOS, counts where it ends.

    Args:
        predictions: Tags of each sentence's words.
        gold: Their true tags.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".* seems not to be NE tag\.", UserWarning)
        found, wanted = (set(get_entities([list(tags) for tags in part])) for part in (predictions, gold))
    # seqeval reads all sentences as one sequence, with an O after each.
    ends = np.cumsum([len(tags) + 1 for tags in gold])
    parts = [np.array([end for *_, end in spans], int) for spans in (found & wanted, found, wanted)]
    by_sentence = [np.searchsorted(ends, part, side="right") for part in parts]
    return np.stack([np.bincount(part, minlength=len(gold)) for part in by_sentence], axis=1)


def span_f1(predictions: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> float:
    """F1 of the spans of all sentences, in percent: the score that XTREME reports; see `span_scores`."""
    return span_scores(predictions, gold)["f1"]
