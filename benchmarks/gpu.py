"""XLM-R Large on one GPU: `python -m benchmarks.gpu [--json FILE]`, under 8 minutes.

Random weights, 24 layers of 1,024, 250,002 pieces, bf16. Real tokens a second in training and evaluation,
at MNLI's lengths and at mixed lengths, against the GPU's own rate of matrix products and against
`transformers.Trainer` at its best (bf16, length grouping, fused AdamW, the fastest batch), with the encoder's
attention dropout and without, which decides the kernel (xlt/models/attention.py). Peak memory in GiB.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import breakdown, ceiling
from benchmarks.__main__ import encode_rows, machine, quiet
from benchmarks.systems import Setting, trainer_run, xlt_run
from benchmarks.workload import SIZES, write_encoder, write_rows

SIZE = SIZES["24x1024, 250k pieces"]
ROWS = 60_000
STEPS = {"xlt": 12, "trainer": 40}
BATCH_SIZES = (32, 64, 128)
"""Rows in a batch that are tried for the Trainer."""


def main() -> None:
    """Measure, print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device is visible to torch: run this on a machine with a GPU")
    quiet()
    begin = time.monotonic()
    found: dict[str, Any] = {
        **machine(),
        "device": torch.cuda.get_device_name(),
        "products_per_second": ceiling.rate_of_products(SIZE.width, torch.bfloat16, "cuda"),
    }
    for kind in ("mnli", "mixed"):
        with tempfile.TemporaryDirectory() as folder:
            found[kind] = measure(Path(folder), kind, found["products_per_second"])
    found |= {
        "training_tokens_per_second": found["mixed"]["xlt"]["train"],
        "inference_tokens_per_second": found["mixed"]["xlt"]["evaluation"],
        "utilisation": found["mixed"]["xlt"]["utilisation"],
        "train_vs_trainer_best_mnli": found["mnli"]["train_vs_trainer_best"],
        "minutes": round((time.monotonic() - begin) / 60, 1),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def measure(root: Path, kind: str, products_per_second: float) -> dict[str, Any]:
    """Every figure for rows of a kind: `mnli`, or `mixed` with longer ones."""
    write_rows(root / "rows", ROWS, 8192, ("mnli",) if kind == "mnli" else ("mnli", "cosmosqa", "squad_v1"))
    train, validation = encode_rows(root)
    found: dict[str, Any] = {}
    setting = Setting(
        root,
        write_encoder(root / "large", SIZE),
        SIZE,
        STEPS["xlt"],
        "bf16-mixed",
        validation_rows=8192,
        tokens_per_batch=16_384,
        batches_per_step=2,
        device="gpu",
    )
    without = write_encoder(root / "without", SIZE, attention_dropout=0.0)
    for name, encoder in (("xlt", setting.encoder), ("xlt, no attention dropout", without)):
        torch.cuda.reset_peak_memory_stats()
        run = xlt_run(replace(setting, encoder=encoder))
        found[name] = {
            "train": run.train.rate,
            "evaluation": run.evaluation.rate,
            "utilisation": run.train.rate * ceiling.operations_per_token(SIZE, True) / products_per_second,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        }
    found["trainer"] = {}
    theirs = replace(setting, steps=STEPS["trainer"])
    for size in BATCH_SIZES:
        torch.cuda.reset_peak_memory_stats()
        run = trainer_run(theirs, train, validation, size, best=True, seed=0)
        found["trainer"][size] = {
            "train": run.train.rate,
            "evaluation": run.evaluation.rate,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        }
    best = max(found["trainer"].values(), key=lambda figures: figures["train"])
    found["train_vs_trainer_best"] = found["xlt"]["train"] / best["train"]
    found["eval_vs_trainer_best"] = found["xlt"]["evaluation"] / max(
        figures["evaluation"] for figures in found["trainer"].values()
    )
    found["time"] = breakdown.shares(replace(setting, steps=7, validation_rows=64))
    return found


if __name__ == "__main__":
    main()
