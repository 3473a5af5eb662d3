"""Mining of sentence pairs as XTREME scores BUCC 2018: margins, one-to-one pairs, a tuned threshold, F1.

Shapes: Q queries and S keys (the sentences of two languages), K and L nearest neighbours, P pairs.

Source: Hu et al. (2020) https://arxiv.org/abs/2003.11080: evaluate.py and third_party/utils_retrieve.py of
github.com/google-research/xtreme, the latter after github.com/facebookresearch/LASER.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int64, Integer

Pair = tuple[str, str]
"""The ids of two sentences."""


def mining_scores(predicted: Collection[Pair], gold: Collection[Pair]) -> dict[str, float]:
    """Return F1, precision and recall of the predicted pairs, in percent. A repeated pair counts once.

    Source: bucc_f1 of evaluate.py.
    """
    found, wanted = set(predicted), set(gold)
    correct = len(found & wanted)
    return {
        "f1": 200 * correct / max(len(found) + len(wanted), 1),
        "precision": 100 * correct / max(len(found), 1),
        "recall": 100 * correct / max(len(wanted), 1),
    }


def best_mining_threshold(
    pairs: Sequence[Pair], scores: Sequence[float] | Float[np.ndarray, " P"], gold: Collection[Pair]
) -> float:
    """Return the smallest score of a returned pair that gives the best F1; 0 if no candidate is a true pair.

    Candidates are taken by descending score, equal scores in the given order, a repeated pair once with its
    highest score. The threshold is half way between the score of the first candidate that reaches the best
    F1 and the score of the next candidate. If both scores are equal, the F1 at the threshold may be below the
    best. The original fails if the last candidate is the best; here the threshold is its score.

    Args:
        pairs: The candidates.
        scores: Scores of the candidates.
        gold: The true pairs.

    Source: bucc_optimize of utils_retrieve.py; bucc_extract there takes scores >= threshold.
    """
    highest: dict[Pair, float] = {}
    for pair, score in zip(pairs, map(float, scores), strict=True):
        highest[pair] = max(score, highest.get(pair, score))
    ranked = sorted(highest, key=lambda pair: -highest[pair])
    wanted = set(gold)
    correct = np.cumsum([pair in wanted for pair in ranked])
    if not correct.any():
        return 0.0
    place = _first_best(correct, len(wanted))
    around = [highest[pair] for pair in ranked[place : place + 2]]
    return sum(around) / len(around)


def _first_best(correct: Integer[np.ndarray, " P"], num_gold: int) -> int:
    """Return the first index of the best F1.

    Args:
        correct: Number of true pairs among the candidates up to each candidate.
        num_gold: Number of true pairs.
    """
    precision, recall = correct / np.arange(1, len(correct) + 1), correct / num_gold
    # The original's order of operations, so that equal scores round alike.
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return int(f1.argmax())


def ratio_margin_pairs(
    forward_scores: Float[np.ndarray, "Q K"],
    forward_indices: Integer[np.ndarray, "Q K"],
    backward_scores: Float[np.ndarray, "S L"],
    backward_indices: Integer[np.ndarray, "S L"],
) -> tuple[Int64[np.ndarray, "P 2"], Float[np.ndarray, " P"]]:
    """Return pairs of query and key indices, matched one to one, and their margins in descending order.

    The margin of two sentences is their cosine divided by the mean of two means: the mean cosine of each
    sentence with its nearest neighbours in the other language. Candidates are the neighbour with the highest
    margin of each query and of each key. By descending margin, a candidate is chosen if neither sentence
    is in a chosen pair and the margin is positive. XTREME uses 4 neighbours, and drops repeated
    lines beforehand.

    Args:
        forward_scores: Cosines of each query with its nearest keys.
        forward_indices: Indices of these keys.
        backward_scores: Cosines of each key with its nearest queries.
        backward_indices: Indices of these queries.

    Source: Artetxe and Schwenk (2019) https://arxiv.org/abs/1811.01136, section 3 (ratio, retrieval "max"),
    the defaults of mine_bitext of utils_retrieve.py.
    """
    queries, keys = forward_scores.mean(1, dtype=np.float64), backward_scores.mean(1, dtype=np.float64)
    forward = forward_scores / ((queries[:, None] + keys[forward_indices]) / 2)
    backward = backward_scores / ((keys[:, None] + queries[backward_indices]) / 2)
    best_keys = _at(forward_indices, forward.argmax(1))
    best_queries = _at(backward_indices, backward.argmax(1))
    candidates = np.concatenate(
        [
            np.stack([np.arange(len(queries)), best_keys], axis=1),
            np.stack([best_queries, np.arange(len(keys))], axis=1),
        ]
    )
    margins = np.concatenate([forward.max(1), backward.max(1)])
    order = np.argsort(-margins, kind="stable")
    order = order[margins[order] > 0]
    chosen = order[list(_one_to_one(candidates[order], len(queries), len(keys)))]
    return candidates[chosen].astype(np.int64), margins[chosen]


def _at(values: Integer[np.ndarray, "N K"], columns: Integer[np.ndarray, " N"]) -> Integer[np.ndarray, " N"]:
    """Return one value of each row."""
    return np.take_along_axis(values, columns[:, None], axis=1)[:, 0]


def _one_to_one(candidates: Integer[np.ndarray, "P 2"], num_queries: int, num_keys: int) -> Iterator[int]:
    """Yield the index of each candidate whose two sentences are in no earlier chosen candidate."""
    # Each choice depends on all earlier ones, hence a loop. Plain integers are the fastest.
    taken_queries, taken_keys = bytearray(num_queries), bytearray(num_keys)
    for place, (query, key) in enumerate(candidates.tolist()):
        if not taken_queries[query] and not taken_keys[key]:
            taken_queries[query] = taken_keys[key] = True
            yield place
