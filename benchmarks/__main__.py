"""Compare xlt with `transformers.Trainer` on this machine's CPU: `python -m benchmarks` (or `make bench`).

The command takes less than 20 minutes. The systems compute one step at a time in turn, for a fixed time
(benchmarks/turns.py). The command prints a table for each size of encoder, with these figures:

- real tokens per second
- xlt's rate divided by the Trainer's rate, with the standard error
- `share_of_ceiling`: xlt's share of the rate of the machine's matrix products, in the shapes of the encoder
- `share_of_wide_products`: the same in the shapes of XLM-R Large

The last line is JSON. `--quick` measures only the small encoder, in half the time.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import ceiling
from benchmarks.compare import Options, Plan, Rates, best_options, compare, loss_difference
from benchmarks.machine import machine
from benchmarks.measuring import Setting
from benchmarks.quiet import quiet
from benchmarks.turns import WARM_UP
from benchmarks.workload import SIZES, Size, encode_rows, write_encoder, write_rows

ROWS = 30_000
"""Number of training rows."""
PLANS = {
    "4x256": Plan(until=6, most_rows=64, padded=True, validation_rows=800, tokens_per_micro_batch=16_384),
    "12x384, 250k pieces": Plan(
        until=10.5, most_rows=32, padded=False, validation_rows=320, tokens_per_micro_batch=4096
    ),
    "12x768": Plan(until=15, most_rows=16, padded=False, validation_rows=160, tokens_per_micro_batch=4096),
}
"""Plan of each size of encoder, in the order of measurement."""
TRIALS_UNTIL = 2.5
"""Minutes after the start at which the trials of the Trainer's options stop training."""
QUICK = 0.5
"""Factor of all minutes with `--quick`."""
STEPS = 300
"""Maximum number of training steps of a system."""


def main() -> None:
    """Measure all systems, and print the tables and the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="Measure only the small encoder, in half the time."
    )
    parser.add_argument("--json", type=Path, help="File to write the figures to. Defaults to none.")
    arguments = parser.parse_args()
    quiet()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = machine() | measure(Path(folder), arguments.quick, begin)
    found["minutes"] = round((time.monotonic() - begin) / 60, 1)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def measure(root: Path, quick: bool, begin: float) -> dict[str, Any]:
    """Return every figure by name.

    Args:
        root: Folder for the rows, the encoders and the cache.
        quick: True to measure only the small encoder, in half the time.
        begin: Time of the start (`time.monotonic`).
    """
    write_rows(root / "rows", ROWS, 2 * max(plan.validation_rows for plan in PLANS.values()))
    encode_rows(root)
    still = write_encoder(root / "still", SIZES["4x256"], dropout=0.0)
    exact = Setting(root, still, SIZES["4x256"], 20, "32-true", tokens_per_micro_batch=1024)
    found: dict[str, Any] = {"loss_difference": loss_difference(exact)}
    print(f"loss of 20 steps, packed and padded: largest difference {found['loss_difference']:.1e}")
    pace = 60 * (QUICK if quick else 1)
    options: Options | None = None
    for name in list(PLANS)[: 1 if quick else None]:
        size, plan = SIZES[name], PLANS[name]
        speeds = {p: ceiling.rate_of_products(size.width, t) for p, t in ceiling.PRECISIONS.items()}
        setting = Setting(
            root,
            write_encoder(root / name, size),
            size,
            STEPS,
            max(speeds, key=lambda p: speeds[p]),
            plan.validation_rows,
            plan.tokens_per_micro_batch,
            warm_up=WARM_UP["train"],
        )
        options = options or best_options(setting, begin + pace * TRIALS_UNTIL)
        rates = compare(setting, plan, options, begin + pace * plan.until)
        figures = _figures_of(rates, size)
        _show(f"{name}, {setting.precision}", rates, figures)
        found |= {f"{key}_{name}": value for key, value in figures.items()}
        found |= {f"precision_{name}": setting.precision, f"rates_{name}": vars(rates)}
    return found


def _figures_of(rates: Rates, size: Size) -> dict[str, float | None]:
    """Return xlt's ratios with standard errors, and its shares of the rates of the machine's products."""
    found: dict[str, float | None] = {}
    for key, (ratio, error) in rates.ratios.items():
        found |= {key: ratio, f"{key}_error": error}
    for end, speeds, training in (("", rates.train, True), ("_eval", rates.evaluation, False)):
        needed = speeds["xlt"] * ceiling.operations_per_token(size, training)
        found[f"share_of_ceiling{end}"] = needed / rates.products_per_second
        found[f"share_of_wide_products{end}"] = needed / rates.wide_products_per_second
    return found


def _show(title: str, rates: Rates, figures: dict[str, float | None]) -> None:
    """Print the table of the systems at one size of encoder."""
    print(f"\n{title}, systems in turn (real tokens per second)")
    for phase, (rows, attention) in rates.trainer_options._asdict().items():
        print(f"  the Trainer at its best, {phase}: {rows} rows, {attention} attention")
    print(f"  {'':<16} {'training':>10} {'steps':>6} {'evaluation':>11}")
    for system, rate in rates.train.items():
        print(f"  {system:<16} {rate:>10,.0f} {rates.steps[system]:>6} {rates.evaluation[system]:>11,.0f}")
    for key, value in figures.items():
        if not key.endswith("_error"):
            error = figures.get(f"{key}_error")
            print(f"  {key:<26} {value:.2f}" + ("" if error is None else f" ± {error:.2f}"))


if __name__ == "__main__":
    main()
