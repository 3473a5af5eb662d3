"""Search for a recipe: fine-tune tasks with combinations of settings and seeds, and compare dev scores.

    python -m scripts.recipes --encoder encoders/mini --tasks mnli udpos
        --set model.learning_rate=3e-4,1e-3 --steps 60 120 --seeds 3 --out runs/recipes/mini

Each run is xlt.fit with configs/small/<task>.yaml, in which some values are replaced. The data come from the
config's root, or from --root. The same command resumes: finished runs are kept, and the command may name
further values. The weights of finished runs are deleted.

    <out>/recipes.csv       one line for each run: task, encoder, settings, seed, dev score, collapsed, cost
    <out>/<task>/<run>/     the run without its weights
"""

import argparse
import csv
import io
import itertools
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xlt.config.run_command import run_command
from xlt.fit import fit
from xlt.metrics.collapse import collapse_note, verdict_of
from xlt.studies.design.configs import read_config, scale_steps
from xlt.system.files import write_atomically
from xlt.system.signals import STOPPED
from xlt.system.tables import aligned

CONFIGS = Path("configs/small")
"""Folder of the tasks' configs."""

Line = dict[str, Any]
"""Line of recipes.csv, by column."""


class Run(NamedTuple):
    """Run of the search.

    Args:
        task: Name of the task.
        settings: Values of the keys that differ from the task's config.
        steps: Number of optimizer steps. If None, the config's number.
        seed: Seed of the run.
    """

    task: str
    settings: Mapping[str, str]
    steps: int | None
    seed: int

    @property
    def recipe(self) -> str:
        """Settings as text, such as `model.learning_rate=1e-3 steps=60`; `as shipped` without settings."""
        steps = {} if self.steps is None else {"steps": self.steps}
        return (
            " ".join(f"{key}={value}" for key, value in (dict(self.settings) | steps).items()) or "as shipped"
        )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog="scripts.recipes", description=str(__doc__).splitlines()[0])
    parser.add_argument("--encoder", required=True, help="encoder to fine-tune, such as encoders/mini")
    parser.add_argument("--tasks", nargs="+", required=True, help="tasks with a config in configs/small")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="key of xlt.fit and its values, such as model.learning_rate=3e-4,1e-3; may be repeated",
    )
    parser.add_argument(
        "--steps",
        type=int,
        nargs="*",
        default=[None],
        help="numbers of optimizer steps; warm-up and validation interval scale too. Default: as configured",
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, counted from 0. Default: 1")
    parser.add_argument(
        "--root", nargs="*", help="folders that mirror the hub. Default: the folders of the config"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    return parser


def grid_of(settings: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each key of `--set`.

    Raises:
        ValueError: A setting has no value.
    """
    grid = {}
    for setting in settings:
        key, _, values = setting.partition("=")
        if not (key and values):
            raise ValueError(
                f"--set {setting!r} has no value. Give KEY=VALUES, such as model.learning_rate=1e-4,3e-4"
            )
        grid[key] = values.split(",")
    return grid


def runs_of(
    tasks: Sequence[str], grid: Mapping[str, Sequence[str]], steps: Sequence[int | None], seeds: int
) -> Iterator[Run]:
    """Yield the runs of a search, seed by seed. Therefore an unfinished search compares all recipes."""
    for task, seed in itertools.product(tasks, range(seeds)):
        for values, count in itertools.product(itertools.product(*grid.values()), steps):
            yield Run(task, dict(zip(grid, values, strict=True)), count, seed)


def arguments_of(run: Run, encoder: str, root: Sequence[str] | None, folder: Path) -> list[str]:
    """Return the arguments of xlt.fit for a run.

    Args:
        run: The run.
        encoder: Encoder to fine-tune.
        root: Folders that mirror the hub. If None, the folders of the config.
        folder: Folder of the run.
    """
    path = str(CONFIGS / f"{run.task}.yaml")
    keys: dict[str, Any] = {"model.encoder": encoder, "seed_everything": run.seed}
    if run.steps is not None:
        scaled = scale_steps(read_config(path), run.steps)
        keys |= {f"trainer.{key}": scaled["trainer"][key] for key in ("max_steps", "val_check_interval")}
        keys["model.warmup_steps"] = scaled["model"].get("warmup_steps", 0)
        keys["checkpoints.every_n_steps"] = run.steps
    if root:
        keys["data.root"] = json.dumps(list(root))
    keys |= {"trainer.default_root_dir": folder, "trainer.enable_progress_bar": "false", **run.settings}
    return ["--config", path, *(f"--{key}={value}" for key, value in keys.items())]


def line_of(run: Run, encoder: str, results: Mapping[str, Any] | None) -> Line:
    """Return the line of a run. If `results` is None, the run has failed, as with an infinite loss."""
    line: Line = {"task": run.task, "encoder": encoder, "recipe": run.recipe, "seed": run.seed}
    if results is None:
        return line | {"state": "failed"}
    own, cost = results[run.task], results["run"]
    scores = {"score": f"{cost['score']:.2f}", "chance": f"{own['chance']:.2f}", "collapsed": verdict_of(own)}
    size = {"steps": cost["step"], "best_step": cost["best_step"], "tokens": cost["tokens"]}
    return line | {"state": "finished"} | scores | size | {"seconds": round(cost["seconds"])}


COLUMNS = (
    *("task", "encoder", "recipe", "seed", "state", "score", "chance", "collapsed"),
    *("steps", "best_step", "tokens", "seconds"),
)


def as_csv(lines: Sequence[Line]) -> str:
    """Return the lines as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def summary(lines: Sequence[Line]) -> str:
    """Return a table of the recipes of each task, best mean first. A note names the collapsed runs."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["task"], line["recipe"]), []).append(line)
    shown = []
    for (task, recipe), own in groups.items():
        scores = [float(line["score"]) for line in own if line["state"] == "finished"]
        collapsed = [line for line in own if line.get("collapsed") == "yes"]
        mean = statistics.fmean(scores) if scores else float("-inf")
        spread = f"{statistics.stdev(scores):.1f}" if len(scores) > 1 else "–"
        figures = [f"{mean:.1f}", spread, f"{min(scores):.1f}"] if scores else ["–"] * 3
        counts = [str(len(own)), *figures, str(len(collapsed)), str(len(own) - len(scores))]
        shown.append(((task, -mean), [task, recipe, *counts]))
    rows = [row for _, row in sorted(shown, key=lambda pair: pair[0])]
    head = ["task", "recipe", "seeds", "mean", "SD", "lowest", "collapsed", "failed"]
    note = collapse_note(
        f"{n['task']} {n['recipe']} seed {n['seed']}" for n in lines if n.get("collapsed") == "yes"
    )
    return aligned([head, *rows], num_left=2) + (f"\n\n{note}" if note else "")


def search(args: Sequence[str]) -> int:
    """Run the search, and return the exit code.

    Args:
        args: Command-line arguments.
    """
    options = make_parser().parse_args(list(args))
    os.environ.setdefault("WANDB_MODE", "disabled")
    runs = list(runs_of(options.tasks, grid_of(options.set), options.steps, options.seeds))
    lines: list[Line] = []
    for number, run in enumerate(runs):
        folder = options.out / run.task / f"{run.recipe.replace(' ', '_')}_seed={run.seed}"
        print(f"run {number + 1} of {len(runs)}: {run.task}, {run.recipe}, seed {run.seed}", flush=True)
        results = folder / "results.json"
        is_known = results.is_file()
        # xlt.fit only compares a finished run with its config, and refuses results of another encoder.
        code = run_command(fit, arguments_of(run, options.encoder, options.root, folder))
        has_trained = (folder / "metrics.jsonl").is_file()
        if code == STOPPED or (code and (is_known or not has_trained)):
            return code
        found = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else None
        for weights in ("checkpoints", "model") if found else ():
            shutil.rmtree(folder / weights, ignore_errors=True)
        lines.append(line_of(run, options.encoder, found))
        write_atomically(options.out / "recipes.csv", as_csv(lines))
    print(f"\ndev scores in percent\n\n{summary(lines)}\n\n{options.out / 'recipes.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(search, sys.argv[1:]))
