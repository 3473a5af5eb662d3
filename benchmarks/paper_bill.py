"""The bill of the paper (Phang et al. 2020, arXiv 2005.13013) as arithmetic: runs, tokens and hours.

XLM-R without an intermediate task, with each of nine, and with their mixture; each of these eleven encoders
fine-tuned on the English data of seven XTREME tasks and tested on nine in every language.
"""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.paper_sizes import Sizes, Split

INTERMEDIATE = (
    *("anli_plus", "mnli", "qqp", "squad_v2", "squad_v1"),
    *("hellaswag", "ccg", "cosmosqa", "commonsenseqa"),
)
CAP = 2**17
"""Most examples of a task that count in the mixture. Source: Phang et al. 2020, after Raffel et al. 2020."""
EPOCHS = dict.fromkeys(INTERMEDIATE, 3.0) | {"ccg": 10.0, "commonsenseqa": 10.0}
"""Assumed, because the paper's numbers are not known here: about those of configs/intermediate/*.yaml."""


class Target(NamedTuple):
    """An XTREME task: its training data (None: it has none), and the number of epochs."""

    data: str | None = None
    epochs: float = 0.0


TARGETS = {
    "xnli": Target("mnli", 2),
    "pawsx": Target("pawsx", 5),
    "udpos": Target("udpos", 10),
    "panx": Target("panx", 10),
    "xquad": Target("squad_v1", 2),
    "mlqa": Target("squad_v1", 2),
    "tydiqa": Target("tydiqa", 2),
    "bucc2018": Target(),
    "tatoeba": Target(),
}
"""Source: the authors' XTREME recipe in jiant, scripts/benchmarks/xtreme/subscripts/d_write_configs.sh."""

NUM_ENCODERS = 1 + len(INTERMEDIATE) + 1
"""Rows of the paper's table: no intermediate task, each of them, the mixture."""


class Rates(NamedTuple):
    """Tokens a second on one GPU, and where they were measured."""

    training: float
    inference: float
    source: str


class Line(NamedTuple):
    """One run of a phase, and how often the table needs it."""

    phase: str
    run: str
    examples: int
    tokens_per_example: float
    epochs: float
    runs: int
    rate: float
    """Tokens a second."""

    @property
    def tokens(self) -> float:
        """Tokens of one run."""
        return self.examples * self.tokens_per_example * self.epochs

    @property
    def hours(self) -> float:
        """GPU hours of one run."""
        return self.tokens / self.rate / 3600

    @property
    def total_tokens(self) -> float:
        """Tokens of all the runs."""
        return self.tokens * self.runs

    @property
    def total_hours(self) -> float:
        """GPU hours of all the runs."""
        return self.hours * self.runs


def examples_and_tokens(parts: Sequence[Split]) -> tuple[int, float]:
    """Examples of the parts together, and mean tokens of one."""
    examples = sum(part.examples for part in parts)
    return examples, sum(part.examples * (part.tokens or 0) for part in parts) / examples


def mixture(sizes: Sizes) -> tuple[int, float]:
    """Examples that one pass over the capped tasks reads, and mean tokens of one."""
    tasks = [examples_and_tokens(sizes.of(task, "train")) for task in INTERMEDIATE]
    capped = [(min(examples, CAP), tokens) for examples, tokens in tasks]
    total = sum(examples for examples, _ in capped)
    return total, sum(examples * tokens for examples, tokens in capped) / total


def intermediate_lines(sizes: Sizes, rate: float, epochs: float | None = None) -> list[Line]:
    """The nine tasks and their mixture, each trained once."""
    tasks = {task: examples_and_tokens(sizes.of(task, "train")) for task in INTERMEDIATE}
    runs = tasks | {"mixture": mixture(sizes)}
    passes = EPOCHS | {"mixture": 3.0}
    return [Line("intermediate", name, *size, epochs or passes[name], 1, rate) for name, size in runs.items()]


def target_lines(sizes: Sizes, rate: float) -> list[Line]:
    """Fine-tuning on each target's English data, once for every encoder."""
    return [
        Line(
            "target",
            name,
            *examples_and_tokens(sizes.of(found.data, "train")),
            found.epochs,
            NUM_ENCODERS,
            rate,
        )
        for name, found in TARGETS.items()
        if found.data
    ]


def evaluation_lines(sizes: Sizes, rate: float) -> list[Line]:
    """One test of every target in all its languages, once for every encoder."""
    parts = {name: sizes.of(name, "test") for name in TARGETS}
    return [
        Line("evaluation", name, *examples_and_tokens(found), 1.0, NUM_ENCODERS, rate)
        for name, found in parts.items()
    ]


def bill(sizes: Sizes, rates: Rates, epochs: float | None = None) -> list[Line]:
    """Every run of the paper's table."""
    trained = intermediate_lines(sizes, rates.training, epochs) + target_lines(sizes, rates.training)
    return trained + evaluation_lines(sizes, rates.inference)


def totals(lines: Sequence[Line]) -> dict[str, tuple[float, float]]:
    """Tokens and GPU hours of each phase, and of all."""
    phases = {line.phase: [other for other in lines if other.phase == line.phase] for line in lines}
    return {
        phase: (sum(line.total_tokens for line in found), sum(line.total_hours for line in found))
        for phase, found in (phases | {"all": list(lines)}).items()
    }
