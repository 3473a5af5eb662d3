"""Compute the cost of the paper (Phang et al. 2020, arXiv 2005.13013): runs, tokens and GPU hours.

The paper has eleven encoders: XLM-R without an intermediate task, with each of nine intermediate tasks, and
with their mixture. Each encoder is fine-tuned on the English data of seven XTREME tasks, and tested on nine
XTREME tasks in every language.
"""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.paper_sizes import Sizes, Split

INTERMEDIATE = (
    *("anli_plus", "mnli", "qqp", "squad_v2", "squad_v1"),
    *("hellaswag", "ccg", "cosmosqa", "commonsenseqa"),
)
CAP = 2**17
"""Maximum number of a task's examples in the mixture. Source: Phang et al. 2020, after Raffel et al. 2020."""
EPOCHS = dict.fromkeys(INTERMEDIATE, 3.0) | {"ccg": 10.0, "commonsenseqa": 10.0}
"""Number of epochs of each intermediate task.

The numbers are assumptions, close to configs/intermediate/*.yaml. The paper's numbers are not known here.
"""


class Target(NamedTuple):
    """Fine-tuning for an XTREME task: name of the data (None without training) and number of epochs."""

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
"""XTREME tasks by name.

Source: the authors' XTREME recipe in jiant, scripts/benchmarks/xtreme/subscripts/d_write_configs.sh.
"""

NUM_ENCODERS = 1 + len(INTERMEDIATE) + 1
"""Number of encoders: without an intermediate task, with each intermediate task, and with the mixture."""


class Rates(NamedTuple):
    """Throughput of one GPU in tokens per second, and the source of the measurements."""

    training: float
    inference: float
    source: str


class Line(NamedTuple):
    """Run of a phase, with the number of such runs in the paper's table."""

    phase: str
    run: str
    examples: int
    tokens_per_example: float
    epochs: float
    runs: int
    rate: float
    """Throughput in tokens per second."""

    @property
    def tokens(self) -> float:
        """Number of tokens of one run."""
        return self.examples * self.tokens_per_example * self.epochs

    @property
    def hours(self) -> float:
        """GPU hours of one run."""
        return self.tokens / self.rate / 3600

    @property
    def total_tokens(self) -> float:
        """Number of tokens of all runs."""
        return self.tokens * self.runs

    @property
    def total_hours(self) -> float:
        """GPU hours of all runs."""
        return self.hours * self.runs


def examples_and_tokens(parts: Sequence[Split]) -> tuple[int, float]:
    """Return the number of examples in all parts, and the mean number of tokens per example."""
    examples = sum(part.examples for part in parts)
    return examples, sum(part.examples * (part.tokens or 0) for part in parts) / examples


def mixture(sizes: Sizes) -> tuple[int, float]:
    """Return the number of examples in an epoch of the mixture, and the mean number of tokens per example."""
    tasks = [examples_and_tokens(sizes.of(task, "train")) for task in INTERMEDIATE]
    capped = [(min(examples, CAP), tokens) for examples, tokens in tasks]
    total = sum(examples for examples, _ in capped)
    return total, sum(examples * tokens for examples, tokens in capped) / total


def intermediate_lines(sizes: Sizes, rate: float, epochs: float | None = None) -> list[Line]:
    """Return the runs of the intermediate phase: the nine tasks and their mixture, each trained once.

    Args:
        sizes: Table of sizes.
        rate: Throughput in tokens per second.
        epochs: Number of epochs of each run. Defaults to EPOCHS, and to 3 for the mixture.
    """
    tasks = {task: examples_and_tokens(sizes.of(task, "train")) for task in INTERMEDIATE}
    runs = tasks | {"mixture": mixture(sizes)}
    passes = EPOCHS | {"mixture": 3.0}
    return [Line("intermediate", name, *size, epochs or passes[name], 1, rate) for name, size in runs.items()]


def target_lines(sizes: Sizes, rate: float) -> list[Line]:
    """Return the runs of fine-tuning on the English data of each target, once for every encoder."""
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
    """Return the tests of each target in all its languages, once for every encoder."""
    parts = {name: sizes.of(name, "test") for name in TARGETS}
    return [
        Line("evaluation", name, *examples_and_tokens(found), 1.0, NUM_ENCODERS, rate)
        for name, found in parts.items()
    ]


def bill(sizes: Sizes, rates: Rates, epochs: float | None = None) -> list[Line]:
    """Return all runs of the paper's table, in the order of the phases."""
    trained = intermediate_lines(sizes, rates.training, epochs) + target_lines(sizes, rates.training)
    return trained + evaluation_lines(sizes, rates.inference)


def totals(lines: Sequence[Line]) -> dict[str, tuple[float, float]]:
    """Return the number of tokens and the GPU hours of each phase, and of `all` phases."""
    phases = {line.phase: [other for other in lines if other.phase == line.phase] for line in lines}
    return {
        phase: (sum(line.total_tokens for line in found), sum(line.total_hours for line in found))
        for phase, found in (phases | {"all": list(lines)}).items()
    }
