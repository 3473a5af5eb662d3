"""Measure XLM-R Large on one GPU in less than 8 minutes: `python -m benchmarks.gpu [--json FILE]`.

The encoder has random weights, 24 layers of width 1,024 and 250,002 pieces, and runs in bf16. The command
measures real tokens per second in training and in evaluation. The rows have the lengths of MNLI, or mixed
lengths. xlt is measured with and without compiled layers. It is compared with the GPU's rate of matrix
products and with `transformers.Trainer` at its best: bf16, length grouping, fused AdamW, the fastest batch
size, with or without compiled layers. Peak memory is in GiB.
"""

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import XLMRobertaModel

from benchmarks import ceiling
from benchmarks.machine import machine
from benchmarks.measuring import Measured, Setting
from benchmarks.quiet import quiet
from benchmarks.trainer_system import trainer_run
from benchmarks.workload import MIXED, SIZES, write_encoder, write_rows
from benchmarks.xlt_system import xlt_run

SIZE = SIZES["24x1024, 250k pieces"]
ROWS = 40_000
"""Number of training rows."""
KINDS = {"mnli": ("mnli",), "mixed": MIXED}
"""Measured kinds of rows, each with the tasks that its rows come from."""
BATCH_SIZES = {"mnli": (256, 512), "mixed": (128, 256)}
"""Batch sizes of the Trainer in rows, by kind of rows. Each is measured."""
STEPS = 25
"""Number of optimizer steps of each run."""


def main() -> None:
    """Measure all systems, and print the figures as a line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, help="File to write the figures to after each run. Defaults to none."
    )
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no CUDA device is visible to torch: run this command on a machine with a GPU")
    quiet()
    begin = time.monotonic()
    found: dict[str, Any] = {
        **machine(),
        "device": torch.cuda.get_device_name(),
        "products_per_second": ceiling.rate_of_products(SIZE.width, torch.bfloat16, "cuda"),
    }

    def keep(key: str, figures: dict[str, Any]) -> None:
        """Store figures under a key, and write all figures so far to the file."""
        found[key] = figures
        found["minutes"] = round((time.monotonic() - begin) / 60, 1)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            measure(Path(folder), kind, found["products_per_second"], keep)
    found |= {
        "training_tokens_per_second": found["mixed"]["xlt compiled"]["train"],
        "inference_tokens_per_second": found["mixed"]["xlt compiled"]["evaluation"],
        "utilisation": found["mixed"]["xlt compiled"]["utilisation"],
        "train_vs_trainer_best_mnli": found["mnli"]["train_vs_trainer_best"],
    }
    keep("peak_gib", found["mixed"]["xlt compiled"]["peak_gib"])
    print(json.dumps(found))


def measure(
    root: Path, kind: str, products_per_second: float, keep: Callable[[str, dict[str, Any]], None]
) -> None:
    """Measure all systems on rows of a kind.

    Args:
        root: Folder for the rows, the encoder and the cache.
        kind: Kind of rows, a key of KINDS.
        products_per_second: Floating-point operations per second of the GPU's fastest matrix product.
        keep: Function that receives the kind and its figures after each run.
    """
    rows = root / kind
    write_rows(rows / "rows", ROWS, 8192, KINDS[kind])
    setting = Setting(
        rows,
        write_weights(root / "large"),
        SIZE,
        STEPS,
        "bf16-mixed",
        validation_rows=8192,
        tokens_per_micro_batch=32_768,
        micro_batches_per_step=2,
        device="gpu",
        warm_up=5,
        compile=True,
    )

    runs: dict[str, list[Measured]] = {}
    found: dict[str, Any] = {}

    def note(name: str, run: Callable[[], Measured]) -> None:
        """Run a system, and store the medians of its runs so far."""
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        runs.setdefault(name, []).append(run())
        speed = statistics.median(run.train.rate for run in runs[name])
        found[name] = {
            "train": speed,
            "evaluation": statistics.median(run.evaluation.rate for run in runs[name]),
            "utilisation": speed * ceiling.operations_per_token(SIZE, True) / products_per_second,
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
            "first_step_seconds": max(run.first_step_seconds for run in runs[name]),
        }
        keep(kind, found)

    note("xlt compiled", partial(xlt_run, setting))
    for compile in (True, False):
        for size in BATCH_SIZES[kind]:
            name = f"trainer{' compiled' * compile}, {size} rows"
            note(name, partial(trainer_run, replace(setting, compile=compile), size, best=True, seed=0))
    note("xlt", partial(xlt_run, replace(setting, compile=False)))
    note("xlt compiled", partial(xlt_run, setting))
    rivals = [figures for name, figures in found.items() if name.startswith("trainer")]
    for phase in ("train", "evaluation"):
        found[f"{phase}_vs_trainer_best"] = found["xlt compiled"][phase] / max(r[phase] for r in rivals)
    keep(kind, found)


def write_weights(folder: Path) -> Path:
    """Write the encoder with random weights unless the folder exists, and return the folder.

    The weights are drawn once, so that the runs of xlt do not draw them.
    """
    if not folder.exists():
        write_encoder(folder, SIZE)
        with torch.device("cuda"):
            XLMRobertaModel(SIZE.config, add_pooling_layer=False).save_pretrained(folder / "weights")
        (folder / "weights" / "model.safetensors").rename(folder / "model.safetensors")
    return folder


if __name__ == "__main__":
    main()
