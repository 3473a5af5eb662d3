"""All measurements on this machine's CPU, in under 25 minutes: `python -m benchmarks` (or `make bench`).

Prints tables, and at the end one line of JSON. Each system runs in turn, round after round; what is shown are
medians and their ratios. `--quick` measures the small encoder alone, once. Where other programs use the same
cores, `--processor-time` counts this one's own seconds alone, on one thread.
"""

import argparse
import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import disable_progress_bars

from benchmarks import breakdown, ceiling, growth, retrieval, start, tokenisation
from benchmarks.clock import use_processor_time
from benchmarks.compare import Plan, Rates, best_options, compare, loss_difference
from benchmarks.systems import Setting
from benchmarks.workload import MAX_LENGTH, SIZES, write_encoder, write_rows
from xlt.data.features import Features
from xlt.datamodule import TransferData

ROWS = 30_000
PLANS = {
    "4x256": Plan(
        rounds=3,
        minutes=9,
        xlt=10,
        padded=4,
        best_rows=512,
        most_rows=64,
        default=14,
        validation_rows=400,
        tokens_per_batch=8192,
    ),
    "12x768": Plan(
        rounds=2,
        minutes=15,
        xlt=5,
        padded=0,
        best_rows=80,
        most_rows=16,
        default=4,
        validation_rows=96,
        tokens_per_batch=2048,
    ),
}
TRIAL_MINUTES = 4
"""After the start, until when options of the Trainer are tried again."""
REPEAT_MINUTES = 19
"""After the start, until when the cost of a large vocabulary is measured again."""
NAMED = (
    "train_vs_trainer_best",
    "train_vs_trainer_default",
    "eval_vs_trainer_best",
    "share_of_ceiling_12x768",
    "padding_share",
    "loss_difference",
)
"""The figures that open the line of JSON."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small encoder alone, one round")
    parser.add_argument("--processor-time", action="store_true", help="one thread, its own time alone")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    quiet()
    if arguments.processor_time:
        use_processor_time()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.quick, begin)
    found["clock"] = "processor" if arguments.processor_time else "wall"
    found["minutes"] = round((time.monotonic() - begin) / 60, 1)
    found = {name: found[name] for name in NAMED if name in found} | machine() | found
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def quiet() -> None:
    """Leave out the systems' own messages."""
    warnings.filterwarnings("ignore")
    disable_progress_bars()
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()


def machine() -> dict[str, Any]:
    """Date, device and versions."""
    return {
        "date": date.today().isoformat(),
        "device": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def measure(root: Path, quick: bool, begin: float) -> dict[str, Any]:
    """Every figure by name; a slow machine takes fewer rounds, so that all ends in time."""
    write_rows(root / "rows", ROWS, 2 * max(plan.validation_rows for plan in PLANS.values()))
    train, validation = encode_rows(root)
    found: dict[str, Any] = {}
    options = None
    for name in list(PLANS)[: 1 if quick else None]:
        size, plan = SIZES[name], replace(PLANS[name], rounds=1) if quick else PLANS[name]
        rates = {p: ceiling.rate_of_products(size.width, t) for p, t in ceiling.PRECISIONS.items()}
        precision = max(rates, key=lambda p: rates[p])
        setting = Setting(
            root,
            write_encoder(root / name, size),
            size,
            plan.xlt,
            precision,
            plan.validation_rows,
            plan.tokens_per_batch,
        )
        options = options or best_options(setting, train, validation, begin + 60 * TRIAL_MINUTES)
        speeds = compare(setting, train, validation, plan, options, begin + 60 * plan.minutes)
        # A machine's speed drifts: the ceiling is what it reached before or after.
        rates[precision] = max(
            rates[precision], ceiling.rate_of_products(size.width, ceiling.PRECISIONS[precision])
        )
        figures = _ratios(speeds, size, rates[precision])
        _show(name, speeds, figures, precision)
        found |= {f"{key}_{name}": value for key, value in figures.items()}
        found |= {f"precision_{name}": precision, f"ceilings_{name}": rates, f"rates_{name}": vars(speeds)}
        profiled = replace(setting, steps=6, validation_rows=16, tokens_per_batch=plan.tokens_per_batch // 2)
        found[f"time_{name}"] = breakdown.shares(profiled)
        _show_shares(found[f"time_{name}"], f"time of a training step, {name}, by part")
    found |= _headline(root, found)
    return found | _others(root, quick, found["precision_4x256"], begin)


def _headline(root: Path, found: Mapping[str, Any]) -> dict[str, float]:
    """The small encoder's figures without its name, and how far packed and padded losses differ."""
    names = ("train_vs_trainer_best", "train_vs_trainer_default", "eval_vs_trainer_best")
    still = write_encoder(root / "still", SIZES["4x256"], dropout=0.0)
    difference = loss_difference(Setting(root, still, SIZES["4x256"], 20, "32-true", tokens_per_batch=1024))
    print(f"\nloss of 20 steps, packed and padded: largest difference {difference:.1e}")
    return {name: found[f"{name}_4x256"] for name in names} | {
        "padding_share": found["rates_4x256"]["padding_share"],
        "loss_difference": difference,
    }


def encode_rows(root: Path) -> tuple[Features, Features]:
    """The rows' features, as xlt's own preparation makes them."""
    data = TransferData(
        ["benchmarks.mixed"],
        root=str(root / "rows"),
        cache=str(root / "cache"),
        max_length=MAX_LENGTH,
        encoder=str(write_encoder(root / "tokenizer", SIZES["4x256"])),
    )
    data.prepare_data()
    return data.stored["mixed"]["train"].features, data.stored["mixed"]["validation"].features


def _ratios(rates: Rates, size: Any, products_per_second: float) -> dict[str, float]:
    """Xlt's rates against the others', and its share of the machine's ceiling."""
    train, evaluation = rates.train, rates.evaluation
    return {
        "train_vs_trainer_best": train["xlt"] / train["trainer best"],
        "train_vs_trainer_default": train["xlt"] / train["trainer default"],
        "eval_vs_trainer_best": evaluation["xlt"] / evaluation["trainer best"],
        "share_of_ceiling": train["xlt"] * ceiling.operations_per_token(size, True) / products_per_second,
        "share_of_ceiling_eval": (
            evaluation["xlt"] * ceiling.operations_per_token(size, False) / products_per_second
        ),
    }


def _others(root: Path, quick: bool, precision: str, begin: float) -> dict[str, Any]:
    """Tokenisation, retrieval, growth, and the cost of a large vocabulary."""
    found: dict[str, Any] = tokenisation.measure()
    print(f"tokenisation: {found['tokenisation_vs_datasets']:.1f} times datasets.map on every core")
    found["retrieval"] = retrieval.measure()
    found["retrieval_vs_faiss"] = found["retrieval"]["retrieval_vs_faiss"]
    print(f"retrieval: {found['retrieval_vs_faiss']:.2f} times faiss's flat index")
    if quick:
        return found
    found["second_start"] = start.second_start()
    print(f"second start of the quickstart, after the imports: {_figures(found['second_start'])}")
    encoder = write_encoder(root / "grown", SIZES["4x256"])
    found["growth_by_length"] = growth.by_length(
        Setting(root, encoder, SIZES["4x256"], 6, precision, 64), root / "lengths"
    )
    found["growth_by_rows"] = growth.by_rows(root)
    found["growth_by_tasks"] = growth.by_tasks(root)
    found["growth_by_vocabulary"] = growth.by_vocabulary(root, precision, begin + 60 * REPEAT_MINUTES)
    for key in ("growth_by_length", "growth_by_rows", "growth_by_tasks", "growth_by_vocabulary"):
        print(f"\n{key.replace('_', ' ')}")
        for step, value in found[key].items():
            print(f"  {step:>10,}  {_figures(value)}")
    return found


def _figures(values: Mapping[str, float] | float) -> str:
    """Figures with their names."""
    if isinstance(values, Mapping):
        return ", ".join(f"{name} {value:,.4g}" for name, value in values.items())
    return f"{values:,.4g}"


def _show(name: str, rates: Rates, figures: Mapping[str, float], precision: str) -> None:
    """The systems' table."""
    print(f"\n{name}, {precision}, medians of {rates.rounds} rounds (real tokens a second)")
    for verb, (rows, attention) in rates.trainer_options._asdict().items():
        print(f"  the Trainer at its best, {verb}: {rows} rows, {attention} attention")
    print(f"  {'':<16} {'training':>10} {'evaluation':>11}")
    for system, rate in rates.train.items():
        print(f"  {system:<16} {rate:>10,.0f} {rates.evaluation[system]:>11,.0f}")
    for key, value in figures.items():
        print(f"  {key:<26} {value:.2f}")


def _show_shares(shares: Mapping[str, float], title: str) -> None:
    """Shares in percent."""
    print(f"\n{title}")
    for part, share in shares.items():
        print(f"  {part:<22} {share:>6.1%}")


if __name__ == "__main__":
    main()
