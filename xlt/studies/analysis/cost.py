"""The cost of a study: nodes by phase, finished nodes, tokens, and hours estimated from finished nodes."""

import statistics
from collections import Counter
from collections.abc import Collection, Sequence
from inspect import signature
from typing import NamedTuple, get_args

from xlt.datamodule import TransferData
from xlt.studies.analysis.collect import hours_of
from xlt.studies.design.node_files import nodes_to_run
from xlt.studies.design.nodes import Node, Phase
from xlt.studies.design.plan import Study
from xlt.system.tables import aligned, counted

DEFAULTS = {name: parameter.default for name, parameter in signature(TransferData).parameters.items()}
"""Default values of the keys under `data`."""


FROZEN = (
    "The first run that needs an image computes its features and keeps them in the cache; xlt prepare does "
    "so beforehand."
)
TRAINED = "The vision encoder is trained, so each step reads its images anew."


class Cost(NamedTuple):
    """Cost of a phase's nodes.

    Args:
        phase: Name of the phase.
        nodes: Number of nodes.
        finished: Number of finished nodes.
        tokens: Maximum number of tokens that the unfinished nodes train on.
        hours: Hours of the unfinished nodes one after the other, from the median hours of a finished node (in
            training, of a token); None if unknown.
    """

    phase: str
    nodes: int
    finished: int
    tokens: int
    hours: float | None


def max_tokens(node: Node) -> int:
    """Return the maximum number of tokens that a node trains on; 0 for an evaluation."""
    if node.phase == "evaluate":
        return 0
    data = DEFAULTS | node.settings["data"]
    return (
        node.settings["trainer"]["max_steps"]
        * data["tokens_per_micro_batch"]
        * data["micro_batches_per_step"]
    )


def vision_lines(study: Study) -> list[str]:
    """Return a line for each way in which the study's runs read images.

    Tokens of images count as tokens of the runs. The features of an image are computed once, so the first
    run that needs them takes longer than the others.
    """
    runs: Counter[tuple[str, int, bool]] = Counter()
    for node in study.nodes.values():
        model = node.settings.get("model", {}) if node.phase != "evaluate" else {}
        if model.get("vision_encoder") and not node.is_blind:
            tokens = (DEFAULTS | node.settings["data"])["image_tokens"]
            runs[model["vision_encoder"], tokens, bool(model.get("vision_trainable"))] += 1
    return [
        f"images: {counted(count, 'run')} with {name}, {counted(tokens, 'token')} per image.\n"
        + (TRAINED if is_trained else FROZEN)
        for (name, tokens, is_trained), count in runs.items()
    ]


def costs(study: Study, tokens_per_second: float | None) -> list[Cost]:
    """Return the cost of each phase.

    Args:
        study: The study.
        tokens_per_second: Training speed, measured elsewhere, for phases without a finished node; or None.
    """
    left = set(nodes_to_run(study.folder, study.nodes))
    return [_cost(study, phase, left, tokens_per_second) for phase in get_args(Phase)]


def _cost(study: Study, phase: Phase, left: Collection[str], tokens_per_second: float | None) -> Cost:
    """Return the cost of one phase, of whose nodes those in `left` must run."""
    nodes = [node for node in study.nodes.values() if node.phase == phase]
    finished = [node for node in nodes if node.name not in left]
    remaining = [node for node in nodes if node.name in left]
    tokens = sum(map(max_tokens, remaining))
    hours = 0.0 if not remaining else _hours(study, finished, remaining, tokens_per_second)
    return Cost(phase, len(nodes), len(finished), tokens, hours)


def _hours(
    study: Study, finished: Sequence[Node], remaining: Sequence[Node], tokens_per_second: float | None
) -> float | None:
    """Return the hours of the remaining nodes, one after the other; None if unknown."""
    sizes = [max_tokens(node) or 1 for node in finished]
    rates = [
        h / n for h, n in zip([hours_of(study, node.name) for node in finished], sizes, strict=True) if h
    ]
    if rates:
        return statistics.median(rates) * sum(max_tokens(node) or 1 for node in remaining)
    tokens = sum(map(max_tokens, remaining))
    return tokens / tokens_per_second / 3600 if tokens_per_second and tokens else None


def table(found: Sequence[Cost], jobs: int) -> str:
    """Return a text table with one line for each phase, and their sum."""
    lines = [["phase", "nodes", "finished", "tokens left", "hours left"]]
    for cost in found:
        hours = "unknown" if cost.hours is None else f"{cost.hours / jobs:.1f}"
        tokens = f"{cost.tokens:,}" if cost.phase != "evaluate" else "–"
        lines.append([cost.phase, f"{cost.nodes:,}", f"{cost.finished:,}", tokens, hours])
    known_hours = [cost.hours for cost in found if cost.hours is not None]
    total = f"{sum(known_hours) / jobs:.1f}" if len(known_hours) == len(found) else "unknown"
    sums = [sum(column) for column in zip(*((c.nodes, c.finished, c.tokens) for c in found), strict=True)]
    return aligned([*lines, ["all", *(f"{value:,}" for value in sums), total]], rule_before=len(lines))
