"""Print the cost of a reproduction of the paper (Phang et al. 2020, arXiv 2005.13013): tokens and GPU hours.

    python -m benchmarks.paper_cost --tokens_per_second X --inference_tokens_per_second Y

The number of tokens is the published number of examples times the mean number of tokens per example, measured
on real rows without padding (benchmarks/paper_sizes.py). The hours are the number of tokens divided by a
measured throughput. An option without a value takes the throughput from the newest file in
benchmarks/results/*.json that has both `training_tokens_per_second` and `inference_tokens_per_second`.
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
    """Return the throughput: the options' figures, and the newest results' figures for absent options.

    Args:
        training: Training throughput in tokens per second. If None, the newest results give it.
        inference: Throughput without gradients in tokens per second. If None, the newest results give it.
        results: Folder of the results.

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
            f"no throughput for {missing}: give {missing} (measured tokens per second, above 0), or put a "
            f"file with both figures into {results.parent.name}/{results.name}"
        )
    file = found.get("file", "")
    source = ", ".join("option" if given else file for given in (training, inference))
    return Rates(*rates.values(), source=source)


def _or(given: float | None, found: float | None) -> float:
    """Return the given figure. If it is None, return the figure that was found, or 0."""
    return found or 0.0 if given is None else given


def _newest(results: Path) -> dict[str, Any]:
    """Return the newest results that have both figures, with their file's name; empty if no file has both."""
    names = {"training_tokens_per_second", "inference_tokens_per_second"}
    records = [loads(path.read_text()) | {"file": path.name} for path in results.glob("*.json")]
    found = [record for record in records if names <= record.keys()]
    return max(found, key=lambda record: (record.get("date", ""), record["file"]), default={})


def notes(sizes: Sizes, rates: Rates) -> list[str]:
    """Return notes on the assumptions behind the figures, and on their limits."""
    unmeasured = [f"{part.task}/{part.part}" for part in sizes.splits if part.tokens is None]
    sources = {part: sizes.sources[part.source] for part in sizes.splits}
    unverified = [f"{p.task}/{p.part}" for p, source in sources.items() if source.startswith("not verified")]
    return [
        f"Tokens/s: {rates.training:,.0f} training, {rates.inference:,.0f} inference ({rates.source}).",
        f"Tokens: by the tokenizer {sizes.tokenizer}, at most {sizes.max_length} per sequence. XLM-R's own "
        "tokenizer has 250k pieces and needs fewer tokens for the same text: give --tokenizer and --data for "
        "its figures.",
        "Rows: samples. Validation rows replace most test rows. The rows of CCG are not those of CCGbank.",
        "Epochs: assumptions for the intermediate tasks and the mixture (configs/intermediate). The epochs "
        "of the targets are those of the authors' recipe in jiant.",
        f"Mixture: one epoch reads min(examples, {CAP:,}) of each task.",
        "Targets: XQuAD and MLQA have separate fine-tuning runs, as in the recipe.",
        "BUCC and Tatoeba: a full forward pass, although the recipe reads layer 14 of 24.",
        "Left out: validation during training, repeated seeds, mining, and the paper's variants with masked "
        "language modelling and with translated data. The sizes of these variants are not known here.",
        "Parts without measured rows, which have the mean of the task's other parts: "
        f"{', '.join(unmeasured) or 'none'}.",
        f"Parts whose number of examples is not verified: {', '.join(unverified) or 'none'}.",
    ]


HEADER = "{:13}{:14}{:>10}{:>8}{:>7}{:>9}{:>9}{:>5}{:>13}{:>11}".format(
    *("phase", "run", "examples", "tok/ex", "epochs", "Mtokens", "hours", "runs", "all Mtokens", "all hours")
)


def table(lines: Sequence[Line]) -> str:
    """Return the cost as text: one line per run, then the totals of the phases."""
    ends = [f"total  {p:69}{t / 1e6:>12,.1f}{h:>11,.2f}" for p, (t, h) in totals(lines).items()]
    rule = "-" * len(HEADER)
    return "\n".join([HEADER, rule, *map(_row, lines), rule, *ends])


def _row(x: Line) -> str:
    """Return the line of a run."""
    size = (
        f"{x.examples:>10,}{x.tokens_per_example:>8.1f}{x.epochs:>7g}{x.tokens / 1e6:>9,.1f}{x.hours:>9,.2f}"
    )
    return f"{x.phase:13}{x.run:14}{size}{x.runs:>5}{x.total_tokens / 1e6:>13,.1f}{x.total_hours:>11,.2f}"


def record(sizes: Sizes, rates: Rates, lines: Sequence[Line]) -> dict[str, Any]:
    """Return the cost as plain JSON, with the sizes of every language."""
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
    """Print the cost of all runs, the totals of the phases, and notes.

    Args:
        tokens_per_second: Training throughput of one GPU in tokens per second. Defaults to the newest result.
        inference_tokens_per_second: Throughput of one GPU without gradients, in tokens per second.
            Defaults to the newest result.
        data: Data roots to measure tokens on. A split that no root has keeps its stored figure.
        tokenizer: Tokenizer of the encoder: a folder or a name on the hub.
        intermediate_epochs: Number of epochs on each intermediate task and the mixture. Defaults to 10 for
            CCG and CommonsenseQA, and to 3 for the others.
        json: File to write the cost to, with the sizes of every language. Defaults to none.

    Raises:
        ValueError: A throughput is missing, or rows for another tokenizer than the stored one are missing.
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
