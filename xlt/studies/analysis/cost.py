"""What a study will take: nodes by phase, what is finished, tokens, and hours by what finished nodes took."""

import statistics
from collections.abc import Sequence
from inspect import signature
from typing import NamedTuple, get_args

from xlt.datamodule import TransferData
from xlt.studies.analysis.collect import hours_of
from xlt.studies.design.node_files import is_finished
from xlt.studies.design.nodes import Node, Phase
from xlt.studies.design.plan import Study
from xlt.system.tables import aligned

DEFAULTS = {name: parameter.default for name, parameter in signature(TransferData).parameters.items()}


class Cost(NamedTuple):
    """A phase's nodes.

    `tokens` is the most that the unfinished ones train on; `hours` is what they take at the median of the
    finished ones' hours a node (a token, in training), None where none is finished.
    """

    phase: str
    nodes: int
    finished: int
    tokens: int
    hours: float | None


def most_tokens(node: Node) -> int:
    """The most tokens that a run trains on; 0 for an evaluation."""
    if node.phase == "evaluate":
        return 0
    data = DEFAULTS | node.settings["data"]
    return (
        node.settings["trainer"]["max_steps"]
        * data["tokens_per_micro_batch"]
        * data["micro_batches_per_step"]
    )


def costs(study: Study, tokens_per_second: float | None) -> list[Cost]:
    """Of each phase.

    Args:
        study: The study.
        tokens_per_second: Of training, as measured elsewhere; for the phases of which no node is finished.
    """
    return [_cost(study, phase, tokens_per_second) for phase in get_args(Phase)]


def _cost(study: Study, phase: Phase, tokens_per_second: float | None) -> Cost:
    """Of one phase."""
    nodes = [node for node in study.nodes.values() if node.phase == phase]
    done = [node for node in nodes if is_finished(study.folder, node.name)]
    left = [node for node in nodes if node not in done]
    tokens = sum(map(most_tokens, left))
    hours = 0.0 if not left else _hours(study, done, left, tokens_per_second)
    return Cost(phase, len(nodes), len(done), tokens, hours)


def _hours(
    study: Study, done: Sequence[Node], left: Sequence[Node], per_second: float | None
) -> float | None:
    """Hours of the nodes that are left, one after the other."""
    sizes = [most_tokens(node) or 1 for node in done]
    rates = [h / n for h, n in zip([hours_of(study, node.name) for node in done], sizes, strict=True) if h]
    if rates:
        return statistics.median(rates) * sum(most_tokens(node) or 1 for node in left)
    tokens = sum(map(most_tokens, left))
    return tokens / per_second / 3600 if per_second and tokens else None


def table(found: Sequence[Cost], jobs: int) -> str:
    """A line a phase, and what all take together."""
    lines = [["phase", "nodes", "finished", "tokens left", "hours left"]]
    for cost in found:
        hours = "unknown" if cost.hours is None else f"{cost.hours / jobs:.1f}"
        tokens = f"{cost.tokens:,}" if cost.phase != "evaluate" else "–"
        lines.append([cost.phase, f"{cost.nodes:,}", f"{cost.finished:,}", tokens, hours])
    known = [cost.hours for cost in found if cost.hours is not None]
    total = f"{sum(known) / jobs:.1f}" if len(known) == len(found) else "unknown"
    sums = [sum(column) for column in zip(*((c.nodes, c.finished, c.tokens) for c in found), strict=True)]
    return aligned([*lines, ["all", *(f"{value:,}" for value in sums), total]], rule_before=len(lines))
