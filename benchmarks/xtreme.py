"""The paper's experiment in small: `make xtreme ROOT=MIRROR`, 30 minutes on 2 cores.

Encoder → target, and encoder → intermediate tasks → target, for XTREME's nine targets in every language there
are rows of, over seeds; then one table of both, and their difference by task and language. `--intermediate
squad_v1` takes one task instead of the mixture. What is finished is kept: the same command goes on.

PAWS-X is trained on rows of its English development set (benchmarks.pawsx).
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import machine
from benchmarks.encoder import Recipe
from benchmarks.pawsx import write_root
from benchmarks.workload import REPOSITORY
from xlt.evaluation.groups import GROUPS
from xlt.evaluation.report import heat_map, save
from xlt.evaluation.scores import hash_of, write
from xlt.system.folders import WEIGHTS
from xlt.system.tables import aligned
from xlt.tasks import load
from xlt.training.precision import has_bf16

NINE = "[anli_plus, mnli, qqp, squad_v1, squad_v2, hellaswag, ccg, cosmosqa, commonsenseqa]"
TARGETS = ("xnli", "pawsx", "udpos", "panx", "xquad", "tydiqa")
"""What is fine-tuned; MLQA is tested with XQuAD's run, retrieval without one."""

SEEDS = (0, 1, 2)
MIXTURE, SINGLE, TARGET = Recipe(120, 2048, 3e-4), Recipe(80, 2048, 3e-4), Recipe(80, 2048, 3e-4)
RECIPES = {"xnli": Recipe(200, 4096, 5e-4)}
"""Of targets that need more: 800 steps of 1,024 tokens left the small encoder near chance on MNLI."""

VOLUME = 60
"""Examples tested of each task and language; retrieval takes all."""

COMMON = {
    "data.max_length": 192,
    "data.stride": 64,
    "data.validation_volume": 100,
    "trainer.gradient_clip_val": 1.0,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.logger": "false",
    "trainer.enable_progress_bar": "false",
}
EVALUATION = {
    "max_length": 256,
    "stride": 64,
    "tokens_per_micro_batch": 8192,
    "accelerator": "cpu",
    "volume": VOLUME,
}


class Experiment:
    """The runs of the experiment.

    Args:
        folder: Where they go.
        encoder: What all of them begin with.
        root: The mirror of the hub.
        layer: Layer that retrieval reads.
    """

    def __init__(self, folder: Path, encoder: str, root: Path, layer: int) -> None:
        self.folder, self.encoder, self.layer = folder, encoder, layer
        self.precision = "bf16-mixed" if has_bf16() else "32-true"
        self.roots = f"[{write_root(root, folder / 'root')}, {root}]"

    def intermediate(self, arm: str, seed: int) -> tuple[str, list[str]]:
        """The run of phase 2: the nine tasks in equal shares, or one of them."""
        tasks, recipe = (NINE, MIXTURE) if arm == "mixture" else (f"[{arm}]", SINGLE)
        keys = {"data.tasks": tasks, "data.temperature": ".inf", "data.micro_batches_per_step": 2}
        return self._fit(f"{arm}-{seed}", seed, self.encoder, recipe, keys)

    def target(self, arm: str, task: str, seed: int) -> tuple[str, list[str]]:
        """A run of phase 3."""
        keys = {"data.tasks": f"[{task}]", "data.micro_batches_per_step": 1}
        recipe = RECIPES.get(task, TARGET)
        return self._fit(f"{arm}-{seed}-{task}", seed, self.start(arm, seed), recipe, keys)

    def start(self, arm: str, seed: int) -> str:
        """What an arm's targets begin with."""
        return self.encoder if arm == "none" else str(self.folder / f"{arm}-{seed}")

    def evaluation(self, arm: str, seed: int) -> tuple[str, list[str]]:
        """The evaluation of an arm."""
        runs = ", ".join(str(self.folder / f"{arm}-{seed}-{task}") for task in TARGETS)
        settings = EVALUATION | {
            "encoder": self.start(arm, seed),
            "runs": f"[{runs}]",
            "layer": self.layer,
            "root": self.roots,
            "split": "{pawsx: test}",
            "out": self.folder / f"{arm}-{seed}-xtreme",
        }
        return "evaluate", [f"--{key}={value}" for key, value in settings.items()]

    def _fit(
        self, name: str, seed: int, encoder: str, recipe: Recipe, keys: Mapping[str, Any]
    ) -> tuple[str, list[str]]:
        settings = COMMON | {
            "seed_everything": seed,
            "model.encoder": encoder,
            "model.learning_rate": recipe.learning_rate,
            "model.warmup_steps": recipe.steps // 10,
            "data.tokens_per_micro_batch": recipe.tokens,
            "data.root": self.roots,
            "trainer.precision": self.precision,
            "trainer.max_steps": recipe.steps,
            "trainer.val_check_interval": recipe.steps // 2,
            "trainer.default_root_dir": self.folder / name,
        }
        return "fit", [f"--{key}={value}" for key, value in {**settings, **keys}.items()]


def work(job: tuple[str, list[str]], log: Path) -> int:
    """Run a verb in this process; its output goes to the log."""
    from xlt.config.cli import run_verb
    from xlt.evaluate import evaluate
    from xlt.fit import fit

    with log.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        return run_verb({"fit": fit, "evaluate": evaluate}[job[0]], job[1])


def begin() -> None:
    """A worker computes on one core."""
    os.environ["WANDB_MODE"] = "disabled"


def run_all(jobs: Sequence[tuple[str, list[str]]], folder: Path, workers: int, what: str) -> None:
    """Run the jobs, as many at a time as there are workers.

    Raises:
        RuntimeError: One failed.
    """
    began = time.perf_counter()
    with ProcessPoolExecutor(workers, get_context("spawn"), begin) as pool:
        codes = list(pool.map(work, jobs, [folder / "log.txt"] * len(jobs)))
    if any(codes):
        raise RuntimeError(f"{codes.count(0)} of {len(jobs)} went well: see {folder / 'log.txt'}")
    print(f"{what}: {len(jobs)} in {(time.perf_counter() - began) / 60:.1f} minutes", flush=True)


# What came out


def scores_of(experiment: Experiment, arm: str, seed: int) -> dict[str, dict[str, float]]:
    """Task to language to score."""
    found = json.loads((experiment.folder / f"{arm}-{seed}-xtreme" / "results.json").read_text())
    return {
        task: {language: _mean(cell) for language, cell in by_language.items()}
        for task, by_language in found.items()
    }


def _mean(cell: Mapping[str, Any]) -> float:
    """A cell's score: the mean of its metrics, as XTREME averages exact match and F1."""
    names = [name for name in ("exact_match", "f1") if name in cell] or ["accuracy"]
    return statistics.mean(cell[name] for name in names)


def summary(experiment: Experiment, arms: Sequence[str]) -> dict[str, Any]:
    """By task: mean and SD over seeds of each arm's average, of their difference, and both by language."""
    found: dict[str, Any] = {}
    scores = {arm: [scores_of(experiment, arm, seed) for seed in SEEDS] for arm in arms}
    for task in (name for group in GROUPS.values() for name in group):
        if task not in scores["none"][0]:
            continue
        languages = list(scores["none"][0][task])
        means = {arm: [statistics.mean(run[task].values()) for run in runs] for arm, runs in scores.items()}
        gains = [b - a for a, b in zip(means["none"], means[arms[1]], strict=True)]
        by_language = {
            language: [
                b[task][language] - a[task][language]
                for a, b in zip(scores["none"], scores[arms[1]], strict=True)
            ]
            for language in languages
        }
        found[task] = {
            **{arm: _spread(values) for arm, values in means.items()},
            "difference": _spread(gains),
            "languages": {language: _spread(values) for language, values in by_language.items()},
            "hurt": sum(statistics.mean(values) < 0 for values in by_language.values()),
        }
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and SD, two decimals."""
    return {"mean": round(statistics.mean(values), 2), "sd": round(statistics.stdev(values), 2)}


def table(found: Mapping[str, Any], arm: str) -> str:
    """A line a task."""
    lines = [["task", "languages", "none", arm, "difference", "languages hurt"]]
    for task, row in found.items():
        cells = [f"{row[name]['mean']:.1f} ± {row[name]['sd']:.1f}" for name in ("none", arm)]
        difference = f"{row['difference']['mean']:+.1f} ± {row['difference']['sd']:.1f}"
        languages = len(row["languages"])
        count = f"{languages} of {len(load(task).languages)}"
        lines.append([task, count, *cells, difference, f"{row['hurt']} of {languages}"])
    return aligned(lines)


def picture(found: Mapping[str, Any], path: Path, arm: str) -> None:
    """The differences by task and language."""
    languages = sorted({language for row in found.values() for language in row["languages"]})
    values = np.array(
        [
            [row["languages"].get(name, {"mean": np.nan})["mean"] for name in languages]
            for row in found.values()
        ]
    )
    most = float(np.nanmax(np.abs(values)))
    label = f"{arm} − none, points"
    save(heat_map(values, list(found), languages, label, "RdBu", (-most, most)), path)


def main() -> None:
    """Run what is missing, then show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="encoders/mini")
    parser.add_argument("--intermediate", default="mixture", help="mixture, or one of the nine tasks")
    parser.add_argument("--root", type=Path, required=True, help="a mirror of the hub")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "xtreme-mini")
    parser.add_argument("--layer", type=int, default=4, help="layer that retrieval reads")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    arguments = parser.parse_args()
    if not arguments.root.is_dir():
        sys.exit(f"{arguments.root} is not there: give --root, a mirror of the hub")
    if Path(arguments.encoder, "config.json").is_file() and not Path(arguments.encoder, WEIGHTS).is_file():
        sys.exit(f"{arguments.encoder} has no weights: give --encoder, such as encoders/mini")
    os.environ["OMP_NUM_THREADS"] = "1"
    began = time.perf_counter()
    folder, arm, workers = arguments.folder, arguments.intermediate, arguments.workers
    experiment = Experiment(folder, arguments.encoder, arguments.root, arguments.layer)
    arms = ["none", arm]
    run_all([experiment.intermediate(arm, seed) for seed in SEEDS], folder, workers, "phase 2")
    targets = [experiment.target(a, task, seed) for seed in SEEDS for a in arms for task in TARGETS]
    run_all(targets, folder, workers, "phase 3")
    run_all([experiment.evaluation(a, seed) for seed in SEEDS for a in arms], folder, workers, "evaluation")
    found = summary(experiment, arms)
    recipes = {"mixture": MIXTURE, "single": SINGLE, "target": TARGET, **RECIPES}
    settings = {
        "seeds": SEEDS,
        "recipes": {name: recipe._asdict() for name, recipe in recipes.items()},
        "precision": experiment.precision,
        "volume": VOLUME,
    }
    out = {"encoder": hash_of(arguments.encoder), **settings, **machine(), "tasks": found}
    results = REPOSITORY / "benchmarks" / "results"
    write(results / f"xtreme-mini-{arm}.json", json.dumps(out, indent=1) + "\n")
    picture(found, results / f"xtreme-mini-{arm}.png", arm)
    print(table(found, arm))
    print(f"{(time.perf_counter() - began) / 60:.0f} minutes of this command")


if __name__ == "__main__":
    main()
