"""Show zero-shot transfer from beginning to end, in minutes: `make quickstart`.

The program trains one encoder on nine English tasks, fine-tunes it on English part-of-speech tags, and tests
the tags in 28 languages. It prints each command before it runs the command. You can run each command alone.
Finished runs are not repeated.
"""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

ENCODER = Path("encoders/e5-small")
COMMANDS = (
    ("Train nine English tasks in one mixture", "fit", "configs/small/mixture.yaml"),
    ("Fine-tune the result on English part-of-speech tags", "fit", "configs/small/mixture_udpos.yaml"),
    (
        "Test the tags in 28 languages, 27 of them without any label",
        "evaluate",
        "configs/evaluate/small.yaml",
    ),
)
MINI = (
    (
        "--model.encoder=encoders/mini",
        "--model.learning_rate=5.0e-4",
        "--data.tokens_per_micro_batch=1024",
        "--trainer.default_root_dir=runs/mini/mixture",
    ),
    ("--model.encoder=runs/mini/mixture", "--trainer.default_root_dir=runs/mini/mixture_udpos"),
    ("--runs=[runs/mini/mixture_udpos]", "--out=runs/mini/evaluation"),
)
"""Arguments of each command that replace the encoder e5-small with encoders/mini."""
CLEAR = 5.0
"""Minimum difference from chance at which a task counts as learned, in percentage points."""


def main() -> None:
    """Run the commands in order. If a command fails, end the program with the command's exit code."""
    is_real = has_encoder()
    for i, (title, command, config) in enumerate(COMMANDS):
        line = ["xlt", command, "--config", config, *(() if is_real else MINI[i])]
        print(f"\n[{i + 1}/{len(COMMANDS)}] {title}\n$ {shlex.join(line)}\n", flush=True)
        code = subprocess.run([sys.executable, "-m", *line], check=False).returncode
        if code:
            sys.exit(code)
    root = Path("runs/small" if is_real else "runs/mini")
    print("\n".join(["", *summary(root)]))
    if is_real:
        print(
            "\nMeasured once, mean of 27 languages: 68.5 after the mixture, 69.1 without (docs/tutorial.md)."
        )
    else:
        print("\nThe encoder was encoders/mini, which is too small to transfer. See the message above.")


def has_encoder() -> bool:
    """Write encoders/e5-small unless it exists. Return False, and print a message, if that fails."""
    if (ENCODER / "model.safetensors").is_file():
        return True
    line = ["python", "-m", "scripts.e5_small", "--out", str(ENCODER)]
    print(f"Download the encoder e5-small (91 MB)\n$ {shlex.join(line)}\n", flush=True)
    if subprocess.run([sys.executable, *line[1:]], check=False).returncode == 0:
        return True
    print(
        "\nThe quickstart continues with encoders/mini, which is part of the repository and too small to "
        "transfer. Run make quickstart again once the download works."
    )
    return False


def summary(root: Path) -> list[str]:
    """Return the lines that sum up the results of the three commands, and name the next commands.

    Args:
        root: Folder of the runs and of the evaluation.
    """
    mixture = json.loads((root / "mixture" / "results.json").read_text(encoding="utf-8"))
    tasks = {name: found for name, found in mixture.items() if name != "run"}
    over = {name: next(iter(found.values())) - found["chance"] for name, found in tasks.items()}
    learned = [name for name, points in over.items() if points >= CLEAR]
    collapsed = [name for name, found in tasks.items() if found.get("collapsed")]
    with (root / "evaluation" / "results.csv").open(encoding="utf-8", newline="") as file:
        scores = {line["language"]: float(line["score"]) for line in csv.DictReader(file)}
    english = scores.pop("en")
    order = sorted(scores, key=lambda language: -scores[language])
    best, worst = (
        ", ".join(f"{code} {scores[code]:.0f}" for code in part) for part in (order[:3], order[-3:])
    )
    return [
        "What the three commands have shown",
        f"  {root}/mixture: nine English tasks from one encoder. {len(learned)} of {len(tasks)} are "
        f"{CLEAR:.0f} points or more above chance: {', '.join(learned) or 'none'}.",
        f"    Scores rest on at most 100 rows (standard error 5 points). Collapsed to constant answers: "
        f"{', '.join(collapsed) or 'none'}.",
        f"  {root}/mixture_udpos: part-of-speech tags, learned from English sentences only.",
        f"  {root}/evaluation: English {english:.1f}, mean of {len(scores)} languages without labels "
        f"{sum(scores.values()) / len(scores):.1f} (best {best}; worst {worst}).",
        f"The heat map: {root}/evaluation/heat_map.png",
        "",
        "What to run next",
        "  without the mixture:   xlt fit --config configs/small/udpos.yaml",
        "                         xlt evaluate --config configs/evaluate/small.yaml --runs runs/small/udpos "
        "--out runs/small/udpos-28",
        "  your own language:     xlt evaluate --help",
        "  with XLM-R on a GPU:   xlt fit --config configs/intermediate/mixture.yaml",
    ]


if __name__ == "__main__":
    main()
