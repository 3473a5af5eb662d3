"""Train an XLM-R, a BERT and a ModernBERT of equal size on the quickstart's rows, and compare their speed.

    python -m scripts.family_speed --out runs/family-speed

All three have random weights, 4 layers of width 256, the tokenizer of encoders/mini and the same batches. The
feed-forward part of ModernBERT has a gate, and is narrower to have the same number of weights. The command
prints the table and writes table.md. Run it on a machine that does nothing else.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import BertConfig, ModernBertConfig, PretrainedConfig, XLMRobertaConfig

from xlt.models.encoders.families import family_of

MINI = Path("encoders/mini")

SIZES: dict[str, Any] = {"vocab_size": 16_384, "hidden_size": 256, "num_hidden_layers": 4}
SIZES |= {"num_attention_heads": 4, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}

CONFIGS: dict[str, PretrainedConfig] = {
    "XLM-R": XLMRobertaConfig(
        **SIZES, intermediate_size=1024, max_position_embeddings=514, type_vocab_size=1
    ),
    "BERT": BertConfig(**SIZES, intermediate_size=1024, max_position_embeddings=512),
    "ModernBERT": ModernBertConfig(
        **SIZES, intermediate_size=680, max_position_embeddings=512, cls_token_id=0, sep_token_id=2
    ),
}
"""Configs by family. 3 matrices of width 680 have 0.4 percent fewer weights than 2 of width 1,024."""

SKIPPED = 0.25
"""Share of the first steps whose speed does not count, from 0 to 1."""


def write_encoder(name: str, folder: Path) -> int:
    """Write a config and the mini tokenizer, and return the number of weights outside the word embeddings."""
    config = CONFIGS[name]
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINI / file, folder)
    family = family_of(config)
    model = family.bare(config)
    words = model.get_submodule(family.words)
    return sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in words.parameters())


def train(encoder: Path, run: Path, steps: int) -> None:
    """Train an encoder on the quickstart's rows."""
    keys = {
        "model.encoder": encoder,
        "model.from_scratch": "true",
        "trainer.default_root_dir": run,
        "data.validation_volume": 8,  # scores do not count here
        "trainer.max_steps": steps,
        "trainer.val_check_interval": steps,
        "trainer.log_every_n_steps": 1,
    }
    command = [sys.executable, "-m", "xlt.fit", "--config", "configs/quickstart.yaml"]
    environment = os.environ | {"WANDB_MODE": "disabled"}
    subprocess.run([*command, *(f"--{k}={v}" for k, v in keys.items())], check=True, env=environment)


def line_of(name: str, weights: int, run: Path) -> str:
    """Return a line of the table, with the median of the tokens per second."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [event for event in events if "train/loss" in event]
    kept = steps[int(SKIPPED * len(steps)) :]
    speed = statistics.median(event["train/tokens_per_second"] for event in kept)
    return f"| {name} | {weights:,} | {speed:,.0f} |"


def main() -> None:
    """Train all families, and write and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder of the runs and of table.md.")
    parser.add_argument("--steps", type=int, default=40, help="Optimizer steps of each run. Defaults to 40.")
    options = parser.parse_args()
    lines = ["| family | weights outside the word embeddings | tokens per second |", "|---|--:|--:|"]
    for name in CONFIGS:
        encoder, run = options.out / f"{name}-config", options.out / name
        weights = write_encoder(name, encoder)
        shutil.rmtree(run, ignore_errors=True)
        train(encoder, run, options.steps)
        lines.append(line_of(name, weights, run))
    text = "\n".join(lines) + "\n"
    (options.out / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
