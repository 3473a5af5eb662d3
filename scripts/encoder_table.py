"""Compare encoders in a table: each is fine-tuned in English and tested in other languages.

    export XLT_DATA=MIRROR          # a folder that mirrors the hub
    python -m scripts.encoder_table --encoders mini=encoders/mini new=runs/new e5-small=encoders/e5-small

By default, each encoder is fine-tuned with three seeds on XNLI (English MNLI), UDPOS, PAN-X and XQuAD (SQuAD
1.1), and tested zero-shot. Tatoeba reads the last layer, without training. `random` is the first encoder's
config with random weights, which differ between seeds. The command writes scores.csv and table.md. The same
command resumes: finished runs and tests are not repeated. The names of their folders hold a hash of the
encoder's weights.
"""

import argparse
import csv
import io
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoConfig, AutoModel

from xlt.models.encoders.text import load_config
from xlt.system.files import write_atomically
from xlt.system.hashing import hash_of

RANDOM = "random"
"""Name of the encoder with random weights."""


class Recipe(NamedTuple):
    """Optimizer steps, tokens per step, and peak learning rates of narrow and of wide encoders."""

    steps: int
    tokens: int
    narrow_rate: float
    wide_rate: float


NARROW = 256
"""Maximum hidden width of a narrow encoder."""

RECIPES = {
    "xnli": Recipe(300, 4096, 5e-4, 1e-4),
    "udpos": Recipe(60, 2048, 5e-4, 3e-4),
    "panx": Recipe(60, 2048, 5e-4, 3e-4),
    "xquad": Recipe(160, 4096, 5e-4, 2e-4),
}


class Score(NamedTuple):
    """Score of an encoder in a task and language with a seed, in percent: the mean of the task's metrics."""

    encoder: str
    task: str
    seed: int
    language: str
    score: float


def main() -> None:
    """Run the missing runs and tests, and write the table after each encoder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoders", nargs="+", required=True, help="NAME=FOLDER of each encoder, such as mini=encoders/mini"
    )
    parser.add_argument(
        "--tasks", nargs="+", default=["tatoeba", *RECIPES], help="tasks to compare; default: all"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of fine-tuning; default: 0 1 2"
    )
    parser.add_argument(
        "--without_random", action="store_true", help="leave out the encoder with random weights"
    )
    parser.add_argument(
        "--volume",
        type=int,
        default=200,
        help="maximum number of test rows per fine-tuned task and language; default: 200",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/encoder-table"),
        help="folder of all files; default: runs/encoder-table",
    )
    parser.add_argument("--accelerator", default="cpu", help="cpu or gpu; default: cpu")
    parser.add_argument(
        "--steps_factor",
        type=float,
        default=1.0,
        help="factor of the numbers of steps in all recipes; default: 1",
    )
    arguments = parser.parse_args()
    named = dict(entry.split("=", 1) for entry in arguments.encoders)
    first = next(iter(named.values()))
    encoders = named if arguments.without_random else {RANDOM: first, **named}
    scores: list[Score] = []
    for name, folder in encoders.items():
        for task in arguments.tasks:
            for seed in arguments.seeds:
                encoder = _random(folder, seed, arguments.out) if name == RANDOM else folder
                scores += [Score(name, task, seed, *cell) for cell in _scores(task, encoder, seed, arguments)]
        write(scores, list(encoders), arguments.tasks, arguments.out)
    print((arguments.out / "table.md").read_text(encoding="utf-8"))


def _random(folder: str, seed: int, out: Path) -> str:
    """Return a folder with random weights for an encoder's config. The weights depend only on the seed."""
    drawn = out / f"random-s{seed}"
    if not (drawn / "model.safetensors").is_file():
        drawn.mkdir(parents=True, exist_ok=True)
        for path in Path(folder).glob("tokenizer*.json"):
            shutil.copy(path, drawn / path.name)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(drawn)
    return str(drawn)


def _scores(task: str, encoder: str, seed: int, arguments: argparse.Namespace) -> list[tuple[str, float]]:
    """Fine-tune and test an encoder if that is not done, and return each language with its score."""
    folder = arguments.out / f"{Path(encoder).name}-{hash_of(encoder)[:8]}"
    tested = folder / (f"{task}-test" if task not in RECIPES else f"{task}-s{seed}-test")
    if not (tested / "results.csv").is_file():
        layers = load_config(encoder).num_hidden_layers
        keys: dict[str, object] = {"encoder": encoder, "layer": layers}
        if task in RECIPES:
            run = folder / f"{task}-s{seed}"
            if not (run / "results.json").is_file():
                _call("xlt.fit", _fit_keys(task, encoder, seed, run, arguments))
            keys = {"runs": f"[{run}]", "volume": arguments.volume}
        shared = {"max_length": 256, "stride": 64, "accelerator": arguments.accelerator}
        keys |= shared | {"out": tested, "tasks": f"[{task}]", "precision": "auto"}
        _call("xlt.evaluate", keys)
    return list(_read(tested / "results.csv"))


def _fit_keys(
    task: str, encoder: str, seed: int, run: Path, arguments: argparse.Namespace
) -> dict[str, object]:
    """Return the config keys of a fine-tuning run."""
    recipe = RECIPES[task]
    steps = max(1, round(recipe.steps * arguments.steps_factor))
    is_narrow = load_config(encoder).hidden_size <= NARROW
    return {
        "seed_everything": seed,
        "model.encoder": encoder,
        "model.learning_rate": recipe.narrow_rate if is_narrow else recipe.wide_rate,
        "model.warmup_steps": steps // 10,
        "data.tasks": f"[{task}]",
        "data.max_length": 256,
        "data.stride": 64,
        "data.validation_volume": 100,
        "data.tokens_per_micro_batch": recipe.tokens,
        "data.micro_batches_per_step": 1,
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.gradient_clip_val": 1.0,
        "trainer.accelerator": arguments.accelerator,
        "trainer.devices": 1,
        "trainer.precision": "auto",
        "trainer.default_root_dir": run,
        "trainer.enable_progress_bar": "false",
    }


def _call(module: str, keys: Mapping[str, object]) -> None:
    """Run a command of xlt in a process of its own.

    Raises:
        subprocess.CalledProcessError: The command failed or was stopped.
    """
    print(f"{module} {keys.get('trainer.default_root_dir') or keys['out']}", flush=True)
    subprocess.run([sys.executable, "-m", module, *(f"--{k}={v}" for k, v in keys.items())], check=True)


def _read(path: Path) -> Iterator[tuple[str, float]]:
    """Yield each language of a results.csv with its score in percent, the mean of its metrics."""
    metrics: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            metrics.setdefault(row["language"], []).append(float(row["score"]))
    for language, values in metrics.items():
        yield language, statistics.mean(values)


def write(scores: Sequence[Score], encoders: Sequence[str], tasks: Sequence[str], out: Path) -> None:
    """Write scores.csv and table.md.

    Args:
        scores: All scores.
        encoders: Names of the encoders, in the order of the table's rows.
        tasks: Names of the tasks, in the order of the table's columns.
        out: Folder of both files.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(Score._fields)
    lines.writerows([*score[:4], f"{score.score:.4f}"] for score in scores)
    write_atomically(out / "scores.csv", text.getvalue())
    write_atomically(out / "table.md", table(scores, encoders, tasks))


def table(scores: Sequence[Score], encoders: Sequence[str], tasks: Sequence[str]) -> str:
    """Return a Markdown table. A cell has the mean over languages: its mean and SD over seeds.

    Each task has a column for English and a column for its other languages, if it has scores in them.
    """
    columns = [(task, is_english) for task in tasks for is_english in (False, True)]
    columns = [c for c in columns if any(_of(scores, encoder, *c) for encoder in encoders)]
    titles = [
        f"{task}, {'English' if is_english else f'{_num_languages(scores, task)} other languages'}"
        for task, is_english in columns
    ]
    rows = [["encoder", *titles], ["---"] * (1 + len(columns))]
    rows += [[name, *(_in_words(_of(scores, name, *column)) for column in columns)] for name in encoders]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _of(scores: Sequence[Score], encoder: str, task: str, is_english: bool) -> list[float]:
    """Return an encoder's mean score for each seed: in English, or over the other languages of a task."""
    by_seed: dict[int, list[float]] = {}
    for score in scores:
        if (score.encoder, score.task, score.language == "en") == (encoder, task, is_english):
            by_seed.setdefault(score.seed, []).append(score.score)
    return [statistics.mean(values) for values in by_seed.values()]


def _num_languages(scores: Sequence[Score], task: str) -> int:
    """Return the number of languages of a task without English."""
    return len({score.language for score in scores if score.task == task} - {"en"})


def _in_words(values: Sequence[float]) -> str:
    """Return mean and SD over seeds as text: no SD for equal or single values, a dash for no value."""
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(set(values)) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


if __name__ == "__main__":
    main()
