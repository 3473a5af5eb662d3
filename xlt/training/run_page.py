"""Text of report.html, the page about a run. Everything on the page is read from the run's folder."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xlt.system.tables import counted
from xlt.training.html import environment, table_of
from xlt.training.metrics_file import read_events
from xlt.training.provenance import now
from xlt.training.run_folder import RunFolder

Event = Mapping[str, Any]


def render(folder: RunFolder, picture: str) -> str:
    """Return the page.

    Args:
        folder: The run's folder.
        picture: The learning curves: a PNG file in base64.
    """
    record = json.loads(folder.starts.read_text(encoding="utf-8"))
    config, events = folder.read_config(), read_events(folder.metrics)
    last_step = max((event["step"] for event in events), default=0)
    validations = validated(events)
    best = max(validations, key=lambda event: event["val/score"], default=None)
    is_finished = last_step >= record["max_steps"]
    state = "finished after" if is_finished else f"at step {last_step:,} of"
    starts = record["starts"]
    return (
        environment()
        .get_template("run.html")
        .render(
            name=folder.path.resolve().name,
            headline=f"{_phase(config)}: {state} {counted(record['max_steps'], 'step')}",
            is_finished=is_finished,
            scores=_scores(record, validations, best),
            best="" if best is None else f"The best validation is that after step {best['step']:,}.",
            picture=picture if any("train/loss" in event for event in events) else "",
            alternative=f"Learning curves of {counted(last_step, 'step')}; the numbers are in metrics.jsonl",
            mixture=mixture_rows(events),
            facts=list(_facts(config, record, events)),
            starts=_starts(starts),
            warnings=list(dict.fromkeys(line for start in starts for line in start.get("warnings", ()))),
            config=folder.config.read_text(encoding="utf-8"),
            written=now(),
        )
    )


def validated(events: Sequence[Event]) -> list[Event]:
    """Return the events of complete validations."""
    return [event for event in events if event.get("val/score") is not None]


def _phase(config: Mapping[str, Any]) -> str:
    """Return the title of the run: its phase and tasks."""
    tasks = config["data"]["tasks"]
    named = ", ".join(tasks) if len(tasks) <= 3 else f"{len(tasks)} tasks"
    return f"{config.get('wandb', {}).get('job_type', 'run').capitalize()} training on {named}"


def _scores(record: Mapping[str, Any], validations: Sequence[Event], best: Event | None) -> dict[str, Any]:
    """Return the table of scores: best and last validation beside chance."""
    rows = [
        [task, metric.replace("_", " "), *(_percent(e.get(f"val/{task}/{metric}")) for e in (best, last)),
         _percent(chance), f"{record['rows'][task]:,}"]
        for last in validations[-1:]
        if best is not None
        for task, metrics in record.get("chance", {}).items()
        for metric, chance in metrics.items()
    ]  # fmt: skip
    return table_of(["Task", "Metric", "Best", "Last", "Chance", "Dev rows"], rows)


def _percent(value: float | None) -> str:
    """Return a score with one decimal, or a dash."""
    return "–" if value is None else f"{value:.1f}"


def mixture_rows(events: Sequence[Event]) -> dict[str, Any]:
    """Return the table of the mixture: examples, share, steps, and the examples that training has seen.

    Args:
        events: Events of metrics.jsonl. The first has the mixture.
    """
    last: dict[str, Any] = {key: value for event in events for key, value in event.items()}
    tasks = [key.split("/", 1)[1].removesuffix("/share") for key in last if _is_share(key)]
    rows = []
    for task in tasks:
        examples, epochs = last[f"mixture/{task}/examples"], last.get(f"mixture/{task}/epochs", 0.0)
        steps, planned = last.get(f"mixture/{task}/steps", 0), last[f"mixture/{task}/planned_steps"]
        share = f"{100 * last[f'mixture/{task}/share']:.1f} %"
        numbers = [f"{examples:,}", share, f"{steps:,}", f"{planned:,}"]
        rows.append([task, *numbers, f"{round(epochs * examples):,}", f"{epochs:.2f}"])
    heads = ["Task", "Examples", "Share", "Steps", "Planned steps", "Examples seen", "Epochs"]
    return table_of(heads, rows)


def _is_share(key: str) -> bool:
    """Return True for the key of a task's share."""
    return key.startswith("mixture/") and key.endswith("/share")


def _facts(config: Mapping[str, Any], record: Mapping[str, Any], events: Sequence[Event]) -> Iterator[Any]:
    """Yield terms and values of the section about the run."""
    starts = record["starts"]
    last = starts[-1]
    yield "Command", shlex.join(last["command"])
    yield "Folder of the command", last["folder"]
    yield "Git commit of that folder", last["commit"] or "not a git checkout"
    if last["xlt_commit"] != last["commit"]:
        yield "Git commit of xlt", last["xlt_commit"] or "an installed package"
    yield "Encoder", config["model"]["encoder"]
    yield from image_facts(config)
    yield "Seed", str(config["seed_everything"])
    yield "Device", f"{last['device']}, {_counted(last['processes'], 'process', 'processes')}"
    yield "Host", last["host"] + (f", SLURM job {last['slurm_job']}" if last["slurm_job"] else "")
    yield "First start", starts[0]["time"]
    seconds = sum(start.get("seconds", 0.0) for start in starts)
    yield (
        "Duration",
        f"{_duration(seconds)} in {_counted(len(starts), 'start', 'starts')}, validations included",
    )
    trained = [event for event in events if "train/tokens" in event]
    if trained:
        yield "Trained tokens", f"{trained[-1]['train/tokens']:,}"
    yield "Peak memory", _memory(starts)
    yield "Versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())


def image_facts(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the vision encoder and the image tokens of a run with images; nothing for any other run."""
    model, data = config["model"], config["data"]
    if not model.get("vision_encoder"):
        return
    trained = " (trained)" if model.get("vision_trainable") else ""
    yield "Vision encoder", f"{model['vision_encoder']}{trained}"
    blind = ", left out (data.blind)" if data.get("blind") else ""
    yield "Image tokens", f"{data['image_tokens']} for each image{blind}"


def _memory(starts: Sequence[Mapping[str, Any]]) -> str:
    """Return the largest memory of rank 0 over all starts."""
    gpu, main = (
        max(start.get(key, 0) for start in starts) / 2**30 for key in ("peak_gpu_bytes", "peak_rss_bytes")
    )
    return f"{main:.1f} GiB of main memory" + (f", {gpu:.1f} GiB of GPU memory" if gpu else "") + " (rank 0)"


def _starts(starts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of the starts."""
    rows = []
    for start in starts:
        steps = f"{start['first_step']:,}", f"{start['last_step']:,}" if "last_step" in start else "–"
        commit = start["commit"][:12] or "–"
        rows.append([start["time"], *steps, start["device"], commit, shlex.join(start["command"])])
    return table_of(["Start", "From step", "To step", "Device", "Commit", "Command"], rows)


def _counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many}"


def _duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
