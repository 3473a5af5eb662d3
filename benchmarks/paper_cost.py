"""Cost of a reproduction of the paper (Phang et al. 2020, arXiv 2005.13013): tokens and GPU hours by phase.

    python -m benchmarks.paper_cost --tokens_per_second X --inference_tokens_per_second Y

The number of tokens is the published number of examples times the mean number of tokens, measured on real
rows (benchmarks/paper_sizes.py) without padding. The hours are the tokens divided by a measured throughput.
The options give it, or else the newest file of benchmarks/results/*.json that has
`training_tokens_per_second` and `inference_tokens_per_second`.
"""

import sys
from collections.abc import Sequence
from json import dumps, loads
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmarks.paper_bill import CAP, Line, Rates, bill, totals
from benchmarks.paper_sizes import REPOSITORY, Sizes, load, measure

RESULTS = REPOSITORY / "benchmarks" / "results"
SAMPLES = [REPOSITORY / "samples" / "open", REPOSITORY / "samples" / "restricted"]


def find_rates(training: float | None, inference: float | None, results: Path = RESULTS) -> Rates:
    """The options' throughput; what they leave open from the newest results that have both figures.

    Raises:
        ValueError: A figure is missing or not positive.
    """
    found = {} if training and inference else _newest(results)
    rates = {
        "--tokens_per_second": _or(training, found.get("training_tokens_per_second")),
        "--inference_tokens_per_second": _or(inference, found.get("inference_tokens_per_second")),
    }
    missing = " and ".join(option for option, rate in rates.items() if rate <= 0)
    if missing:
        raise ValueError(
            f"no throughput for {missing}: give {missing} (tokens a second, above 0, as measured), or put a "
            f"file with both figures into {results.parent.name}/{results.name}"
        )
    return Rates(*rates.values(), source=_origin(training, inference, found.get("file", "")))


def _or(given: float | None, found: float | None) -> float:
    """The given figure, else the one found, else 0."""
    return found or 0.0 if given is None else given


def _origin(training: float | None, inference: float | None, file: str) -> str:
    """Where each of the figures is from."""
    return ", ".join("option" if given else file for given in (training, inference))


def _newest(results: Path) -> dict[str, Any]:
    """The results of the latest date that have both figures, with the file's name; empty where none has."""
    names = {"training_tokens_per_second", "inference_tokens_per_second"}
    records = [loads(path.read_text()) | {"file": path.name} for path in results.glob("*.json")]
    found = [record for record in records if names <= record.keys()]
    return max(found, key=lambda record: (record.get("date", ""), record["file"]), default={})


def notes(sizes: Sizes, rates: Rates) -> list[str]:
    """What the figures rest on."""
    unmeasured = [f"{part.task}/{part.part}" for part in sizes.splits if part.tokens is None]
    sources = {part: sizes.sources[part.source] for part in sizes.splits}
    unverified = [f"{p.task}/{p.part}" for p, source in sources.items() if source.startswith("not verified")]
    return [
        f"Tokens/s: {rates.training:,.0f} training, {rates.inference:,.0f} inference ({rates.source}).",
        f"Tokens: those of {sizes.tokenizer}, at most {sizes.max_length} a sequence. XLM-R's own tokenizer, "
        "of 250k pieces, needs fewer for the same text: give --tokenizer and --data for its figures.",
        "Rows: samples; validation rows stand for most test rows; CCG's are not CCGbank's.",
        "Epochs: assumed for the intermediate tasks and the mixture (configs/intermediate); for the targets, "
        "those of the authors' recipe in jiant.",
        f"Mixture: one epoch reads min(examples, {CAP:,}) of each task.",
        "Targets: XQuAD and MLQA have a fine-tuning run each, as in that recipe.",
        "BUCC and Tatoeba: a full forward pass; the recipe reads layer 14 of 24.",
        "Left out: validation while training, repeated seeds, mining, and the paper's variants with masked "
        "language modelling and with translated data, whose sizes are not known here.",
        f"Not measured, replaced by the mean of the task's other parts: {', '.join(unmeasured) or 'none'}.",
        f"Numbers of examples not verified: {', '.join(unverified) or 'none'}.",
    ]


HEADER = "{:13}{:14}{:>10}{:>8}{:>7}{:>9}{:>9}{:>5}{:>13}{:>11}".format(
    *("phase", "run", "examples", "tok/ex", "epochs", "Mtokens", "hours", "runs", "all Mtokens", "all hours")
)


def table(lines: Sequence[Line]) -> str:
    """The bill as text: a line a run, then the phases' totals."""
    ends = [f"total  {p:69}{t / 1e6:>12,.1f}{h:>11,.2f}" for p, (t, h) in totals(lines).items()]
    rule = "-" * len(HEADER)
    return "\n".join([HEADER, rule, *map(_row, lines), rule, *ends])


def _row(x: Line) -> str:
    """A run of the bill as text."""
    size = (
        f"{x.examples:>10,}{x.tokens_per_example:>8.1f}{x.epochs:>7g}{x.tokens / 1e6:>9,.1f}{x.hours:>9,.2f}"
    )
    return f"{x.phase:13}{x.run:14}{size}{x.runs:>5}{x.total_tokens / 1e6:>13,.1f}{x.total_hours:>11,.2f}"


def record(sizes: Sizes, rates: Rates, lines: Sequence[Line]) -> dict[str, Any]:
    """The bill as plain JSON, with every language."""
    computed = ("tokens", "hours", "total_tokens", "total_hours")
    return {
        "rates": rates._asdict(),
        "lines": [x._asdict() | {name: getattr(x, name) for name in computed} for x in lines],
        "totals": {phase: {"tokens": t, "hours": h} for phase, (t, h) in totals(lines).items()},
        "sizes": sizes._asdict() | {"splits": [split._asdict() for split in sizes.splits]},
        "notes": notes(sizes, rates),
    }


def paper_cost(
    tokens_per_second: float | None = None,
    inference_tokens_per_second: float | None = None,
    data: Path | list[Path] = SAMPLES,
    tokenizer: str = "encoders/mini",
    intermediate_epochs: float | None = None,
    json: Path | None = None,
) -> None:
    """Print the bill.

    Args:
        tokens_per_second: Training throughput of one GPU. Defaults to that of the newest result.
        inference_tokens_per_second: Throughput of one GPU without gradients. Defaults likewise.
        data: Data roots to measure tokens on. A split that no root has keeps its stored figure.
        tokenizer: Tokenizer of the encoder: a folder or a name on the hub.
        intermediate_epochs: Number of epochs on each intermediate task and the mixture. Defaults to 10 for
            CCG and CommonsenseQA, and to 3 for the others.
        json: File to write the bill into, with every language. Defaults to none.

    Raises:
        ValueError: A throughput is missing.
    """
    rates = find_rates(tokens_per_second, inference_tokens_per_second)
    sizes = measure(load(), data if isinstance(data, list) else [data], tokenizer)
    lines = bill(sizes, rates, intermediate_epochs)
    print(table(lines), *notes(sizes, rates), sep="\n")
    if json:
        json.write_text(dumps(record(sizes, rates, lines), indent=1))


if __name__ == "__main__":
    try:
        auto_cli(paper_cost, as_positional=False)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
