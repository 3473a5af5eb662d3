"""Span extraction: an answer's span in a passage, and the variant that XTREME scores.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder, answer_tokens
from xlt.data.examples import Question
from xlt.data.features import Columns
from xlt.data.multilingual import ENGLISH
from xlt.data.parallel import keys_of
from xlt.data.sequences import segment_columns
from xlt.kinds.outcome import Outcome
from xlt.kinds.task import Scores, Submission, Task
from xlt.metrics.collapse import collapse_details
from xlt.metrics.squad import best_threshold, f1, squad_scores
from xlt.metrics.xtreme_qa import MLQA_LANGUAGES, mlqa_by_question, squad_v1_by_question
from xlt.models.heads.head import Head
from xlt.models.heads.span_extraction import SpanHead
from xlt.system.checks import require


class BestSpan(NamedTuple):
    """The best span of all windows of a question.

    Args:
        text: Its text, without spaces around.
        gain: Score of no answer, the smallest of the windows, minus the span's score.
        start: Its first character in the passage.
        probability: Its probability in its window, 0 to 1. NaN if the head gives none.
        null_probability: Probability of no answer, the smallest of the windows.
    """

    text: str
    gain: float
    start: int
    probability: float
    null_probability: float


@dataclass(frozen=True, kw_only=True)
class SpanExtraction(Task[Question]):
    """An answer's span in a passage, read in overlapping windows, scored by exact match and F1.

    Args:
        null_threshold: The answer is empty if the score of no answer exceeds the best span's score by more
            than this. Infinity for a task in which every question has an answer.
        num_best: Number of best starts, and of best ends, that the spans of a window are made of.
        max_answer_length: Maximum number of tokens in an answer.
    """

    null_threshold: float = float("inf")
    num_best: int = 20
    max_answer_length: int = 30

    inputs: ClassVar[tuple[str, ...]] = ("targets", "passage")

    exported: ClassVar[tuple[str, ...]] = ("null_threshold", "num_best", "max_answer_length")

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: A setting is not allowed.
        """
        for name in ("num_best", "max_answer_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "be at least 1")
        is_number = self.null_threshold == self.null_threshold
        require(is_number, "null_threshold", self.null_threshold, "be a number or inf")

    def is_labelled(self, example: Question) -> bool:
        """Return True if the question has an answer, or if the task has questions without answers.

        In XTREME's download, the answers of the test sets are empty.
        """
        return self.null_threshold < float("inf") or any(answer.strip() for answer in example.answers)

    def encode(self, examples: Sequence[Question], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """Encode each window as a row.

        Columns: `targets` holds the first and last token of the answer, 0 and 0 if the answer is outside the
        window; `passage` the first token of the passage and the token after its last; `offsets` the first
        character and the character after the last of each passage token.
        """
        encoded = text.windows([e.question for e in examples], [e.context for e in examples])
        num_cut = sum(windows[0].is_cut for windows in encoded)
        columns: dict[str, list[list[int]]] = {
            name: []
            for name in (
                "input_ids",
                "lengths",
                "weight",
                "example",
                "targets",
                "passage",
                "offsets",
            )
        }
        for i, (example, windows) in enumerate(zip(examples, encoded, strict=True)):
            for window in windows:
                columns["input_ids"].append(window.ids)
                columns["lengths"].append([len(window.ids)])
                columns["weight"].append([1])
                columns["example"].append([first + i])
                columns["targets"].append(answer_tokens(example, window))
                columns["passage"].append([window.begin, window.begin + len(window.offsets)])
                columns["offsets"].append(window.offsets.ravel().tolist())
        windows = [[window] for windows in encoded for window in windows]
        return columns | segment_columns(windows), num_cut

    def head(self, hidden_size: int, dropout: float) -> Head:
        """Return a new span head."""
        return SpanHead(hidden_size, dropout, self.num_best, self.max_answer_length)

    def reference(self, example: Question) -> Any:
        """Return the id, the passage and the gold answers."""
        return {"id": example.id, "context": example.context, "answers": list(example.answers)}

    def score(self, predictions: Predictions) -> Scores:
        """Return exact match and F1 at the task's threshold; details hold F1 at the best threshold."""
        spans = self._best_spans(predictions)
        gold = [predictions.references[number]["answers"] for number in spans]
        texts = [self._answer(span) for span in spans.values()]
        metrics, chance = self._metrics(texts, gold), self._metrics([""] * len(gold), gold)
        return Scores(
            metrics, chance, self._best_threshold(list(spans.values()), gold) | _collapse(texts, gold)
        )

    def answers(self, predictions: Predictions) -> dict[int, str]:
        """Return the answer to each question, by example number."""
        return {number: self._answer(span) for number, span in self._best_spans(predictions).items()}

    def outcomes(self, predictions: Predictions, examples: Iterable[Question]) -> Iterator[Outcome]:
        """Yield the answer to each question, its first character and the character after its last."""
        spans = self._best_spans(predictions).values()
        for example, span in zip(examples, spans, strict=True):
            text = self._answer(span)
            gold = list(example.answers) if self.is_labelled(example) else None
            scores = [] if gold is None else self._metrics([text], [gold]).values()
            score = sum(scores) / len(scores) if scores else None
            probability = span.probability if text else span.null_probability
            start, end = (span.start, span.start + len(text)) if text else (None, None)
            yield Outcome(text, probability, gold, score=score, details={"start": start, "end": end})

    def _answer(self, span: BestSpan) -> str:
        """Return the best span's text, or an empty string if its gain exceeds the threshold."""
        return span.text if span.gain <= self.null_threshold else ""

    def _metrics(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return exact match and F1."""
        return squad_scores(texts, gold)

    def _best_spans(self, predictions: Predictions) -> dict[int, BestSpan]:
        """Return the best span of each question's windows, by example.

        The null score is the smallest of the windows (Devlin et al. 2019, run_squad).
        """
        best: dict[int, tuple[float, BestSpan]] = {}
        null: dict[int, tuple[float, float]] = {}
        begins = predictions.gather("passage")[::2].tolist()
        outputs, all_offsets = predictions.outputs, predictions.by_row("offsets")
        totals = outputs.get("total", np.full(len(predictions), np.nan))
        for i, (example, begin) in enumerate(zip(predictions.examples, begins, strict=True)):
            offsets = all_offsets[i].reshape(-1, 2)
            score, total, no_answer = (float(v[i]) for v in (outputs["score"], totals, outputs["null"]))
            start, text = 0, ""
            if score > -np.inf:
                start = int(offsets[outputs["start"][i] - begin][0])
                end = offsets[outputs["end"][i] - begin][1]
                text = predictions.references[example]["context"][start:end]
                start, text = start + len(text) - len(text.lstrip()), text.strip()
            if example not in best or score > best[example][0]:
                best[example] = score, BestSpan(text, 0.0, start, float(np.exp(score - total)), 0.0)
            least = null.get(example, (np.inf, np.inf))
            null[example] = min(least[0], no_answer), min(least[1], float(np.exp(no_answer - total)))
        return {
            e: span._replace(gain=null[e][0] - score, null_probability=null[e][1])
            for e, (score, span) in best.items()
        }

    def _best_threshold(self, spans: Sequence[BestSpan], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the threshold that is best on these questions and its F1; nothing if all have answers."""
        if self.null_threshold == float("inf"):
            return {}
        answered = [f1(span.text, answers) for span, answers in zip(spans, gold, strict=True)]
        empty = [f1("", answers) for answers in gold]
        gains = [span.gain for span in spans]
        threshold = best_threshold(gains, answered, empty)
        tuned = [a if g <= threshold else e for a, e, g in zip(answered, empty, gains, strict=True)]
        return {"best_f1": 100 * sum(tuned) / len(tuned), "best_threshold": threshold}


def _collapse(texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the details that tell a model with one answer to all questions, such as the empty one.

    An answer is found if it shares a word with a gold answer, or if both are empty.
    """
    is_found = [f1(text, answers) > 0 for text, answers in zip(texts, gold, strict=True)]
    return collapse_details(texts, [next(iter(answers), "") for answers in gold], is_found)


@dataclass(frozen=True, kw_only=True)
class XtremeQuestions(SpanExtraction):
    """An answer's span in a passage, scored by the exact match and F1 of XTREME.

    Args:
        by_language: True for articles, punctuation and words of the answer's language, as in MLQA. False for
            English rules in every language, as XTREME scores XQuAD and TyDiQA.
    """

    by_language: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a language whose answers MLQA has no rules for, or a setting."""
        super().__post_init__()
        if self.by_language and self.language and self.language not in MLQA_LANGUAGES:
            raise ValueError(
                f"task {self.name}: MLQA has rules for answers in {', '.join(MLQA_LANGUAGES)} alone. Use "
                f"squad_v1/{self.language} or xquad/{self.language}, which share the head"
            )

    def _metrics(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return exact match and F1 by the rules of the benchmark."""
        exact_match, f1 = self._by_question(texts, gold).mean(0).tolist()
        return {"exact_match": exact_match, "f1": f1}

    def example_scores(self, predictions: Predictions) -> np.ndarray:
        """Return the mean of exact match and F1 of each question."""
        answers = self.answers(predictions)
        gold = [predictions.references[i]["answers"] for i in answers]
        return self._by_question(list(answers.values()), gold).mean(1)

    def _by_question(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> np.ndarray:
        """Return exact match and F1 of each question, shape (questions, 2)."""
        if self.by_language:
            return mlqa_by_question(texts, gold, self.language or ENGLISH)
        return squad_v1_by_question(texts, gold)

    def submission(self, predictions: Predictions) -> Submission:
        """Return a JSON object from each question's id to its answer, and gold answers in SQuAD's format."""
        answers, references = self.answers(predictions), predictions.references
        ids = [reference["id"] for reference in references]
        keys = keys_of(ids)
        found = {keys[number]: text for number, text in answers.items()}
        gold = [
            {
                "context": references[number]["context"],
                "qas": [
                    {"id": keys[number], "answers": [{"text": a} for a in references[number]["answers"]]}
                ],
            }
            for number in answers
        ]
        files = (found, {"version": "1.1", "data": [{"title": "", "paragraphs": gold}]})
        texts = [json.dumps(part, ensure_ascii=False, indent=1) + "\n" for part in files]
        unclear = sum(keys[number] != ids[number] for number in answers)
        note = f"{unclear} of {len(gold)} questions have an empty or repeated id: the files number them"
        return Submission(texts[0], texts[1], "json", note if unclear else "")
