"""Span extraction: an answer's span in a passage, and the variant that XTREME scores.

Source: Hu et al. (2020), https://arxiv.org/abs/2003.11080, and `evaluate.py` of
https://github.com/google-research/xtreme for metrics and file formats.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from xlt.data.encode import TextEncoder, answer_tokens
from xlt.data.examples import Question
from xlt.data.features import Columns, Features
from xlt.data.multilingual import ENGLISH
from xlt.data.parallel import keys_of
from xlt.kinds.task import Outputs, Scores, Submission, Task
from xlt.metrics.squad import best_threshold, f1, squad_scores
from xlt.metrics.xtreme_qa import (
    MLQA_LANGUAGES,
    mlqa_by_question,
    mlqa_scores,
    squad_v1_by_question,
    squad_v1_scores,
)
from xlt.models.heads.head import Head
from xlt.models.heads.span_extraction import SpanHead


@dataclass(frozen=True, kw_only=True)
class SpanExtraction(Task[Question]):
    """An answer's span in a passage, read in overlapping windows: exact match and F1.

    Args:
        null_threshold: How far the score of no answer must exceed the best span's for the answer to be
            empty; infinity where every question has an answer.
        num_best: Spans kept of each window.
        max_answer_length: Most tokens in an answer.
    """

    null_threshold: float = float("inf")
    num_best: int = 20
    max_answer_length: int = 30

    inputs: ClassVar[tuple[str, ...]] = ("targets", "passage")

    def is_labelled(self, example: Question) -> bool:
        """Whether there is an answer, or the task is of those where there may be none.

        An answer without a character is what XTREME's download leaves of the test sets' answers.
        """
        return self.null_threshold < float("inf") or any(answer.strip() for answer in example.answers)

    def encode(self, examples: Sequence[Question], first: int, text: TextEncoder) -> tuple[Columns, int]:
        """A row a window.

        `targets` holds the first and last token of the answer, 0 and 0 where the window lacks it; `passage`
        the first token of the passage and the one after its last; `offsets` the characters of each.
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
        return columns, num_cut

    def head(self, hidden_size: int, dropout: float) -> Head:
        """A fresh span head."""
        return SpanHead(hidden_size, dropout, self.num_best, self.max_answer_length)

    def reference(self, example: Question) -> Any:
        """Id, passage and gold answers."""
        return {"id": example.id, "context": example.context, "answers": list(example.answers)}

    def score(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Scores:
        """Exact match and F1 at the task's threshold; F1 at the best one where answers may be empty."""
        spans = self._best_spans(outputs, features, rows, references)
        gold = [references[number]["answers"] for number in spans]
        metrics = self._metrics([self._answer(*span) for span in spans.values()], gold)
        chance = self._metrics([""] * len(gold), gold)
        return Scores(metrics, chance, self._tuned(list(spans.values()), gold))

    def answers(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> dict[int, str]:
        """The answer to each question by its number; args are those of `score`."""
        spans = self._best_spans(outputs, features, rows, references)
        return {number: self._answer(*span) for number, span in spans.items()}

    def _answer(self, text: str, gain: float) -> str:
        """The best span's text, or nothing where no answer is likelier by the threshold."""
        return text if gain <= self.null_threshold else ""

    def _metrics(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Exact match and F1."""
        return squad_scores(texts, gold)

    def _best_spans(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> dict[int, tuple[str, float]]:
        """By example: its best span's text over all windows, and the null score less that span's.

        The null score is the smallest over the windows (Devlin et al. 2019, run_squad).
        """
        best: dict[int, tuple[float, str]] = {}
        null: dict[int, float] = {}
        examples = features.gather("example", rows)[0].tolist()
        begins = features.gather("passage", rows)[0][::2].tolist()
        for i, (example, begin) in enumerate(zip(examples, begins, strict=True)):
            offsets = features.gather("offsets", rows[i : i + 1])[0].reshape(-1, 2)
            score = float(outputs["score"][i][0])
            text = ""
            if score > -np.inf:
                start = offsets[outputs["start"][i][0] - begin][0]
                end = offsets[outputs["end"][i][0] - begin][1]
                text = references[example]["context"][start:end].strip()
            if example not in best or score > best[example][0]:
                best[example] = (score, text)
            null[example] = min(null.get(example, np.inf), float(outputs["null"][i]))
        return {e: (text, null[e] - score) for e, (score, text) in best.items()}

    def _tuned(self, spans: Sequence[tuple[str, float]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """F1 at the threshold that is best on these very questions, where answers may be empty."""
        if self.null_threshold == float("inf"):
            return {}
        answered = [f1(text, answers) for (text, _), answers in zip(spans, gold, strict=True)]
        empty = [f1("", answers) for answers in gold]
        gains = [gain for _, gain in spans]
        threshold = best_threshold(gains, answered, empty)
        tuned = [a if g <= threshold else e for a, e, g in zip(answered, empty, gains, strict=True)]
        return {"best_f1": 100 * sum(tuned) / len(tuned), "best_threshold": threshold}


@dataclass(frozen=True, kw_only=True)
class XtremeQuestions(SpanExtraction):
    """An answer's span in a passage: exact match and F1.

    Args:
        by_language: Whether articles, punctuation and words are the language's own, as in MLQA; English
            rules in every language where not, as XTREME scores XQuAD and TyDiQA.
    """

    by_language: bool = False

    def __post_init__(self) -> None:
        """Refuse a language whose answers cannot be scored."""
        if self.by_language and self.language and self.language not in MLQA_LANGUAGES:
            raise ValueError(
                f"task {self.name}: MLQA has rules for answers in {', '.join(MLQA_LANGUAGES)} alone. Take "
                f"squad_v1/{self.language} or xquad/{self.language}, which share the head"
            )

    def _metrics(self, texts: Sequence[str], gold: Sequence[Sequence[str]]) -> dict[str, float]:
        """Exact match and F1 by the rules of the benchmark."""
        if self.by_language:
            return mlqa_scores(texts, gold, self.language or ENGLISH)
        return squad_v1_scores(texts, gold)

    def example_scores(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> np.ndarray:
        """Mean of exact match and F1 of each question."""
        answers = self.answers(outputs, features, rows, references)
        texts, gold = list(answers.values()), [references[number]["answers"] for number in answers]
        if self.by_language:
            return mlqa_by_question(texts, gold, self.language or ENGLISH).mean(1)
        return squad_v1_by_question(texts, gold).mean(1)

    def submission(
        self, outputs: Outputs, features: Features, rows: np.ndarray, references: Sequence[Any]
    ) -> Submission:
        """A JSON object from each question's id to its answer; gold answers as SQuAD's files hold them."""
        answers = self.answers(outputs, features, rows, references)
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
