"""All measurements on this machine's CPU, in under 25 minutes: `python -m benchmarks` (or `make bench`).

Prints tables, and at the end one line of JSON. The systems run in turn, a step at a time, for a fixed time
(benchmarks/turns.py). `--quick` measures the small encoder alone, in half the time. Where other programs use
the same cores, `--processor-time` counts the systems' own seconds alone, on one thread.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import breakdown, ceiling, growth, retrieval, start, tokenisation
from benchmarks.clock import use_processor_time
from benchmarks.compare import Plan, Rates, best_options, compare, loss_difference
from benchmarks.quiet import quiet
from benchmarks.systems import Setting
from benchmarks.turns import WARM_UP
from benchmarks.workload import SIZES, Size, encode_rows, write_encoder, write_rows

ROWS = 30_000
PLANS = {
    "4x256": Plan(until=8, most_rows=64, padded=True, validation_rows=800, tokens_per_micro_batch=16_384),
    "12x768": Plan(until=13.5, most_rows=16, padded=False, validation_rows=160, tokens_per_micro_batch=4096),
}
TRIALS_UNTIL = 2.5
"""Minutes after the start, when the Trainer's options have been tried in training."""
VOCABULARY_UNTIL = 20
"""Minutes after the start, when the cost of a large vocabulary has been measured."""
QUICK = 0.5
"""Of these minutes with `--quick`."""
STEPS = 300
"""Of a system, at most."""
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
    parser.add_argument("--quick", action="store_true", help="the small encoder alone, in half the time")
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
    """Every figure by name."""
    write_rows(root / "rows", ROWS, 2 * max(plan.validation_rows for plan in PLANS.values()))
    encode_rows(root)
    found: dict[str, Any] = {}
    pace = 60 * (QUICK if quick else 1)
    options = None
    for name in list(PLANS)[: 1 if quick else None]:
        size, plan = SIZES[name], PLANS[name]
        speeds = {p: ceiling.rate_of_products(size.width, t) for p, t in ceiling.PRECISIONS.items()}
        precision = max(speeds, key=lambda p: speeds[p])
        setting = Setting(
            root,
            write_encoder(root / name, size),
            size,
            STEPS,
            precision,
            plan.validation_rows,
            plan.tokens_per_micro_batch,
            warm_up=WARM_UP["train"],
        )
        options = options or best_options(setting, begin + pace * TRIALS_UNTIL)
        rates = compare(setting, plan, options, begin + pace * plan.until)
        figures = _figures_of(rates, size)
        _show(name, rates, figures, precision)
        found |= {f"{key}_{name}": value for key, value in figures.items()}
        found |= {f"precision_{name}": precision, f"products_{name}": speeds, f"rates_{name}": vars(rates)}
        profiled = replace(
            setting, steps=6, validation_rows=16, tokens_per_micro_batch=plan.tokens_per_micro_batch // 2
        )
        found[f"time_{name}"] = breakdown.shares(profiled)
        _show_shares(found[f"time_{name}"], f"time of a training step, {name}, by part")
    found |= _headline(root, found)
    return found | _others(root, quick, found["precision_4x256"], begin)


def _headline(root: Path, found: Mapping[str, Any]) -> dict[str, float]:
    """The small encoder's figures without its name, and how far packed and padded losses differ."""
    names = ("train_vs_trainer_best", "train_vs_trainer_default", "eval_vs_trainer_best")
    still = write_encoder(root / "still", SIZES["4x256"], dropout=0.0)
    difference = loss_difference(
        Setting(root, still, SIZES["4x256"], 20, "32-true", tokens_per_micro_batch=1024)
    )
    print(f"\nloss of 20 steps, packed and padded: largest difference {difference:.1e}")
    return {name: found[f"{name}_4x256"] for name in names} | {
        "padding_share": found["rates_4x256"]["padding_share"],
        "loss_difference": difference,
    }


def _figures_of(rates: Rates, size: Size) -> dict[str, float | None]:
    """Xlt's rates against the others', and its share of the machine's ceiling."""
    found: dict[str, float | None] = {}
    for key, (ratio, error) in rates.ratios.items():
        found |= {key: ratio, f"{key}_error": error}
    for end, speeds, training in (("", rates.train, True), ("_eval", rates.evaluation, False)):
        needed = speeds["xlt"] * ceiling.operations_per_token(size, training)
        found[f"share_of_ceiling{end}"] = needed / rates.products_per_second
    return found


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
    found["growth_by_vocabulary"] = growth.by_vocabulary(root, precision, begin + 60 * VOCABULARY_UNTIL)
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


def _show(name: str, rates: Rates, figures: Mapping[str, float | None], precision: str) -> None:
    """The systems' table."""
    print(f"\n{name}, {precision}, systems in turn (real tokens a second)")
    for verb, (rows, attention) in rates.trainer_options._asdict().items():
        print(f"  the Trainer at its best, {verb}: {rows} rows, {attention} attention")
    print(f"  {'':<16} {'training':>10} {'steps':>6} {'evaluation':>11}")
    for system, rate in rates.train.items():
        print(f"  {system:<16} {rate:>10,.0f} {rates.steps[system]:>6} {rates.evaluation[system]:>11,.0f}")
    for key, value in figures.items():
        if not key.endswith("_error"):
            error = figures.get(f"{key}_error")
            print(f"  {key:<26} {value:.2f}" + ("" if error is None else f" ± {error:.2f}"))


def _show_shares(shares: Mapping[str, float], title: str) -> None:
    """Shares in percent."""
    print(f"\n{title}")
    for part, share in shares.items():
        print(f"  {part:<22} {share:>6.1%}")


if __name__ == "__main__":
    main()
