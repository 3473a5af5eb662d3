"""An evaluation on Weights & Biases: table, picture and averages. A failure of W&B is only logged."""

import logging
from pathlib import Path
from typing import Any

import wandb
from matplotlib.figure import Figure

from xlt.evaluation.report import Report, label_of
from xlt.system.wandb_mode import hashed_run_id, save_page_url, wandb_mode

log = logging.getLogger(__name__)


def show(report: Report, figure: Figure, out: Path, settings: dict[str, Any], config: dict[str, Any]) -> None:
    """Log an evaluation. All evaluations into one folder are one run.

    Args:
        report: The report.
        figure: Heat map of the report.
        out: The evaluation's folder.
        settings: Project, group, job type and tags.
        config: Settings of the evaluation.
    """
    if wandb_mode() == "disabled":
        return
    try:
        run = wandb.init(
            project=settings["project"],
            group=settings["group"] or out.name,
            job_type=settings["job_type"],
            tags=settings["tags"],
            name=out.name,
            id=hashed_run_id(str(out.resolve())),
            dir=out,
            mode=wandb_mode(),
            resume="allow",
            config=config,
            settings=wandb.Settings(silent=True),
        )
        save_page_url(out, run)
        by_language = _by_language(report)
        for key in by_language:
            # Hundreds of languages and tasks are columns of the table of runs, not panels.
            run.define_metric(key, hidden=True)
        figures = {**by_language, **_averages(report)}
        run.log({"scores": _table(report), "heat_map": wandb.Image(figure), **figures})
        run.finish()
        if wandb_mode() == "offline":
            log.info(
                "W&B is offline. To send the scores: `wandb login`, then `wandb sync %s/wandb/offline-run-*`",
                out,
            )
    except Exception as error:
        log.warning(
            "W&B failed (%s: %s). %s has all scores", type(error).__name__, error, out / "results.json"
        )


def _table(report: Report) -> wandb.Table:
    """Return a table of languages by tasks."""
    names = list(report.by_task)
    rows: list[Any] = [[code, *(report.by_task[n].get(code) for n in names)] for code in report.languages]
    return wandb.Table(columns=["language", *names], data=rows)


def _by_language(report: Report) -> dict[str, float]:
    """Return the score of each task in each language, by log key."""
    return {
        f"score/{task}/{language}": score
        for task, scores in report.by_task.items()
        for language, score in scores.items()
    }


def _averages(report: Report) -> dict[str, float]:
    """Return averages of tasks and groups, gaps, and numbers of collapsed languages, by log key.

    The key of an incomplete average carries its counts.
    """
    means = {
        f"mean/{name}{_counts(languages=(s.mean.found, s.mean.wanted))}": s.mean.value
        for name, s in report.summaries.items()
    }
    languages = report.group_languages()
    means |= {
        f"group/{label_of(name, mean)}"
        f"{_counts(tasks=(mean.found, mean.wanted), languages=languages[name])}": mean.value
        for name, mean in report.groups().items()
    }
    means |= {f"gap/{name}": s.gap for name, s in report.summaries.items()}
    means |= _robustness(report)
    means |= {f"collapsed/{name}": float(len(codes)) for name, codes in report.collapsed.items()}
    return {name: value for name, value in means.items() if value is not None}


def _robustness(report: Report) -> dict[str, float | None]:
    """Return consistency, image gain and corruption drop of each task, by log key."""
    return {
        f"{measure}/{task}": figures["mean"]
        for measure, by_task in report.robustness.summary().items()
        for task, figures in by_task.items()
    }


def _counts(**counts: tuple[int, int]) -> str:
    """Return the counts that are incomplete as ` (1 of 2 tasks, 2 of 33 languages)`, or an empty text."""
    lacking = [f"{found} of {wanted} {what}" for what, (found, wanted) in counts.items() if found < wanted]
    return f" ({', '.join(lacking)})" if lacking else ""
