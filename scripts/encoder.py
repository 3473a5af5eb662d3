"""Measure a small encoder, and write its model card.

    python -m scripts.encoder --encoder FOLDER --runs ITS_RUNS --text TEXT --data MIRROR

The command measures perplexity of held-out text beside a unigram model's, retrieval on Tatoeba by layer, and
the gain of fine-tuning over random weights. It writes metrics.json, loss.png and the card beside the weights.
Parts that metrics.json has for these weights are not measured again, unless `--again PART` names them.
"""

import argparse
import hashlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import yaml
from lightning import Trainer

from benchmarks.machine import machine
from benchmarks.quiet import quiet
from scripts.encoder_card import write_card
from scripts.tatoeba import accuracies, best_layer
from xlt.config.cli import CommandLine
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sampling.collate import collate
from xlt.datamodule import TransferData
from xlt.kinds.log_record import score_record
from xlt.module import TransferModule
from xlt.system.files import write_atomically
from xlt.training.exporting import export_run

REPOSITORY = Path(__file__).parents[1]

HELD_OUT_ROWS = 400
"""Maximum number of held-out rows per language."""


class Recipe(NamedTuple):
    """Number of optimizer steps, maximum number of tokens per step, and peak learning rate of fine-tuning."""

    steps: int
    tokens: int
    learning_rate: float


FINE_TUNING = {
    "mnli": Recipe(300, 4096, 5e-4),
    "udpos": Recipe(50, 4096, 5e-4),
    "commonsenseqa": Recipe(30, 4096, 5e-4),
}

MINI = REPOSITORY / "encoders" / "mini"
RUNS = [REPOSITORY / "runs" / name for name in ("pretrain-mini", "pretrain-mini-sentences")]
HARDWARE = "2 CPU cores with AVX512 and its bfloat16 instructions"
SEEDS = (0, 1, 2)
MEGABYTE = 10**6
"""Minimum size of a language's text in bytes to count in the means of retrieval."""

OTHER_SCRIPTS = (
    *("ar", "bg", "bn", "el", "fa", "he", "hi", "ja", "ka", "kk", "ko"),
    *("ml", "mr", "my", "ru", "ta", "te", "th", "uk", "ur", "zh"),
)
"""Languages that do not use the Latin script."""


def main() -> None:
    """Measure the missing parts, and write all files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--encoder", type=Path, default=MINI, help="Folder of the encoder. Defaults to encoders/mini."
    )
    parser.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        default=RUNS,
        help="Folders of the encoder's pre-training runs, in order.",
    )
    parser.add_argument(
        "--hardware", default=HARDWARE, help="Hardware of the runs, in words. Defaults to 2 CPU cores."
    )
    parser.add_argument(
        "--without_ranking",
        type=Path,
        help="Folder of a run without translation ranking to compare with. Defaults to none.",
    )
    parser.add_argument("--text", type=Path, required=True, help="Data root of plain text. Required.")
    parser.add_argument("--data", type=Path, required=True, help="Data root with google/xtreme. Required.")
    parser.add_argument("--again", nargs="*", default=[], help="Parts to measure again, as in metrics.json.")
    parser.add_argument("--only", nargs="*", default=None, help="Parts to measure. Defaults to all.")
    arguments = parser.parse_args()
    quiet()
    path = arguments.encoder / "metrics.json"
    weights = hashlib.sha256((arguments.encoder / "model.safetensors").read_bytes()).hexdigest()
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if found.get("weights_sha256") != weights:
        found = {"weights_sha256": weights}
    encoder, text, data = str(arguments.encoder), arguments.text, arguments.data
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "text": lambda: {"text": text_used(text, encoder)},
        "perplexity": lambda: perplexities(encoder, text),
        "tatoeba": lambda: tatoeba(encoder, data, text),
        "pretrained_minus_random": lambda: fine_tuning(encoder, data),
        "runs": lambda: {
            "runs": [of_the_run(run) for run in arguments.runs],
            "hardware": arguments.hardware,
        },
    }
    if arguments.without_ranking:
        parts["without_ranking"] = lambda: without_ranking(arguments.without_ranking, data, text)
    for name, measure in parts.items():
        wanted = arguments.only is None or name in arguments.only
        if wanted and (name not in found or name in arguments.again):
            found |= measure() | {f"{name}_measured": machine()}
            write_atomically(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
            print(f"{name}: measured", flush=True)
    write_card(arguments.encoder, found, arguments.runs)


def text_used(root: Path, encoder: str) -> dict[str, dict[str, Any]]:
    """Return training tokens, characters and percentage of machine-translated characters, by language."""
    data = _text_data(root, encoder)
    found = {}
    for name, splits in data.encoded.items():
        language = data.tasks[name].language
        rows = pq.read_table(root / "mono" / f"{language}.parquet").to_pydict()
        characters: dict[str, int] = {}
        for line, origin in zip(rows["text"], rows["origin"], strict=True):
            if origin != "ted":
                characters[origin] = characters.get(origin, 0) + len(line)
        total = sum(characters.values())
        found[language] = {
            "tokens": splits["train"].meta.tokens,
            "characters": total,
            "machine_translated_percent": round(100 * characters.get("ms-docs-mt", 0) / total, 1),
        }
    return found


def _text_data(root: Path, encoder: str) -> TransferData:
    """Return the plain text as the pretraining run reads it."""
    data = TransferData(
        ["mlm"], root=str(root), encoder=encoder, max_length=128, stride=32, validation_volume=HELD_OUT_ROWS
    )
    data.prepare_data()
    return data


def perplexities(encoder: str, root: Path) -> dict[str, Any]:
    """Return loss (nats), perplexities and accuracy (percent) on held-out text, by language."""
    data = _text_data(root, encoder)
    module = TransferModule(encoder)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.validate(module, data, verbose=False)
    found = {}
    for name, scores in module.scores.items():
        found[data.tasks[name].language] = {
            "loss": round(scores.details["loss"], 4),
            "perplexity": round(scores.details["perplexity"], 2),
            "accuracy": round(scores.metrics["accuracy"], 2),
            "unigram_perplexity": round(float(np.exp(_unigram_loss(data, name, encoder))), 2),
            "tokens": int(scores.details["tokens"]),
        }
    return {"perplexity": found}


def _unigram_loss(data: TransferData, name: str, encoder: str) -> float:
    """Return the loss of a unigram model of the language's training text on hidden tokens, in nats."""
    text = TextEncoder(load_tokenizer(encoder), 128, 32)
    masking = data.tasks[name].masking(text)
    assert masking is not None
    train = data.encoded[name]["train"].features
    ids, _ = train.gather("input_ids", np.arange(train.num_rows))
    counts = np.bincount(ids, minlength=masking.vocab_size) + 1.0
    counts[list(masking.special)] = 0
    held_out = data.encoded[name]["validation"].features
    rows = data.rows_in_use(name, "validation")
    hidden = collate(name, held_out, rows, (), first_position=0, masking=masking)
    return float(-np.log((counts / counts.sum())[hidden.columns["targets"].numpy()]).mean())


def tatoeba(encoder: str, data: Path, text: Path) -> dict[str, Any]:
    """Return the accuracy on Tatoeba in percent, by language, and its means.

    The layer is chosen on every second language with enough text. The others with enough text are reported.
    """
    by_layer = accuracies(encoder, data)
    large = sorted(name for name in by_layer if _bytes(text, name) >= MEGABYTE)
    chosen_on, reported_on = large[::2], large[1::2]
    layer = best_layer(by_layer, chosen_on)
    at = {name: round(values[layer], 2) for name, values in by_layer.items()}
    others = [at[name] for name in reported_on if name in OTHER_SCRIPTS]
    return {
        "tatoeba": at,
        "tatoeba_mean_reported": round(statistics.mean(at[name] for name in reported_on), 2),
        "tatoeba_mean_other_scripts_reported": round(statistics.mean(others), 2),
        "tatoeba_mean_all": round(statistics.mean(at.values()), 2),
        "tatoeba_layer": layer,
        "tatoeba_layer_chosen_on": chosen_on,
        "tatoeba_reported_on": reported_on,
        "tatoeba_by_layer": {k: [round(v, 2) for v in values] for k, values in by_layer.items()},
    }


def without_ranking(run: Path, data: Path, text: Path) -> dict[str, Any]:
    """Return the means of retrieval by a run without translation ranking, and facts of the run."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        export_run(run, Path(folder))
        found = tatoeba(folder, data, text)
    names = ("tatoeba_mean_reported", "tatoeba_mean_other_scripts_reported", "tatoeba_layer")
    return {"without_ranking": {**of_the_run(run), **{name: found[name] for name in names}}}


def _bytes(text: Path, language: str) -> int:
    """Return the bytes of a language's plain text without the origin `ted`; 0 if there is no text."""
    path = text / "mono" / f"{language}.parquet"
    if not path.is_file():
        return 0
    rows = pq.read_table(path).to_pydict()
    return sum(len(t.encode()) for t, o in zip(rows["text"], rows["origin"], strict=True) if o != "ted")


def fine_tuning(encoder: str, data: Path) -> dict[str, Any]:
    """Return the scores of fine-tuning from the weights and from random weights, by task, for each seed."""
    found: dict[str, Any] = {}
    for task, recipe in FINE_TUNING.items():
        runs = {
            form: [_fine_tuned(encoder, data, task, recipe, seed, form == "random") for seed in SEEDS]
            for form in ("pretrained", "random")
        }
        gains = [ours - theirs for ours, theirs in zip(*runs.values(), strict=True)]
        found[task] = {
            "mean": round(statistics.mean(gains), 2),
            "sd": round(statistics.stdev(gains), 2),
            **recipe._asdict(),
            **{form: [round(score, 2) for score in scores] for form, scores in runs.items()},
        }
        print(task, found[task], flush=True)
    return {"pretrained_minus_random": found}


def _fine_tuned(encoder: str, data: Path, task: str, recipe: Recipe, seed: int, from_scratch: bool) -> float:
    """Fine-tune on a task, and return its score on the validation rows in percent."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        copied = Path(shutil.copytree(encoder, Path(folder) / "encoder"))
        keys = {
            "seed_everything": seed,
            "model.encoder": copied,
            "model.from_scratch": str(from_scratch).lower(),
            "model.learning_rate": recipe.learning_rate,
            "model.warmup_steps": recipe.steps // 10,
            "data.tasks": f"[{task}]",
            "data.root": data,
            "data.max_length": 128,
            "data.stride": 32,
            "data.tokens_per_micro_batch": recipe.tokens,
            "data.micro_batches_per_step": 1,
            "trainer.max_steps": recipe.steps,
            "trainer.val_check_interval": recipe.steps,
            "trainer.gradient_clip_val": 1.0,
            "trainer.precision": "auto",
            "trainer.accelerator": "cpu",
            "trainer.devices": 1,
            "trainer.default_root_dir": f"{folder}/run",
            "trainer.logger": "false",
            "trainer.enable_progress_bar": "false",
        }
        cli = CommandLine([f"--{key}={value}" for key, value in keys.items()])
        cli.trainer.fit(cli.model, cli.datamodule)
        return score_record(cli.model.scores)["val/score"]


def of_the_run(folder: Path) -> dict[str, Any]:
    """Return the steps, tokens and hours of a run, with the settings and the version of torch."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))["run"]
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return {
        "name": folder.name,
        "steps": results["step"],
        "tokens": results["tokens"],
        "hours": round(results["seconds"] / 3600, 2),
        "weights": config["data"]["weights"],
        "learning_rate": config["model"]["learning_rate"],
        "precision": config["trainer"]["precision"] or "32-true",
        "torch": results["versions"]["torch"],
    }


if __name__ == "__main__":
    main()
