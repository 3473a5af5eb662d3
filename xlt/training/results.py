"""Results of a run, for results.json and the final table. Both are read from metrics.jsonl."""

import platform
import resource
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from xlt.datamodule import TransferData
from xlt.kinds.log_record import score_record
from xlt.kinds.task import group_of
from xlt.metrics.collapse import collapse_note, is_collapsed
from xlt.module import TransferModule
from xlt.system.tables import aligned, counted
from xlt.training.metrics_file import read_events
from xlt.training.recorder import Totals
from xlt.training.run_folder import RunFolder

PACKAGES = ("xlt", "torch", "lightning", "transformers", "datasets", "torchmetrics", "wandb")


def results_of(
    folder: RunFolder, module: TransferModule, data: TransferData, totals: Totals
) -> dict[str, Any]:
    """Return the scores of the best validation by task, in percent, and the figures of the run.

    Args:
        folder: The run's folder.
        module: The trained module.
        data: The run's data.
        totals: Tokens and seconds of the training.
    """
    found = validations_of(read_events(folder.metrics), module)
    best = max(found, key=lambda event: event["val/score"])
    scores = {}
    for task, found in module.scores.items():
        names = [*found.metrics, *found.details]
        main = next(iter(found.metrics))
        scores[task] = {name: best[f"val/{task}/{name}"] for name in names} | {
            "chance": found.chance[main],
            "rows": data.num_validation_examples(task),
        }
    run = {
        "step": module.trainer.global_step,
        "best_step": best["step"],
        "score": best["val/score"],
        "seconds": totals.seconds,
        "tokens": totals.tokens,
        "padding_share": totals.padding_share,
        "peak_rss_bytes": peak_rss_bytes(),
        "versions": versions(),
    }
    return {**scores, "run": run}


def validations_of(events: Iterable[Mapping[str, Any]], module: TransferModule) -> list[Mapping[str, Any]]:
    """Return the events with all figures of a validation of the module's tasks."""
    needed = score_record(module.scores)
    return [event for event in events if all(event.get(key) is not None for key in needed)]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that scores depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def peak_rss_bytes() -> int:
    """Return the largest amount of memory that this process has held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(results: Mapping[str, Any], module: TransferModule) -> str:
    """Return a text table with one line per metric: task, metric, score, chance and number of rows.

    A last line holds the mean of the tasks, or of the languages of a single task, and names the tasks whose
    predictions have collapsed.
    """
    lines = [("task", "metric", "score", "chance", "rows")]
    for task, found in module.scores.items():
        for name in found.metrics:
            scores = results[task]
            lines.append(
                (
                    task,
                    name,
                    f"{scores[name]:.1f}",
                    f"{found.chance[name]:.1f}",
                    f"{scores['rows']:,}",
                )
            )
    collapsed = collapse_note(task for task in module.scores if is_collapsed(results[task]))
    num_tasks, num_scores = len(set(map(group_of, module.scores))), len(module.scores)
    means = counted(num_scores, "language") if num_tasks == 1 < num_scores else counted(num_tasks, "task")
    mean = f"mean of {means}: {results['run']['score']:.1f}"
    return f"{aligned(lines, num_left=2)}\n\n{', '.join(filter(None, [mean, collapsed]))}"
