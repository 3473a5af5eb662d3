"""Scores of the quickstart, packed and padded, over seeds.

`python -m benchmarks.accuracy [--seeds 0 1 2] [--json FILE]`. The two draw different dropout masks, so their
scores agree within the noise of the seeds or not at all.
"""

import argparse
import json
import statistics
import tempfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.quiet import quiet
from benchmarks.systems import pad
from benchmarks.workload import REPOSITORY
from xlt.config.cli import Cli
from xlt.module import score_record

FORMS = ("packed", "padded")


def main() -> None:
    """Train every form with every seed, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a run of each form for each")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    arguments = parser.parse_args()
    quiet()
    found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    for seed in arguments.seeds:
        for form in FORMS:
            found[form].append(scores(form, seed))
            print(f"seed {seed}, {form}: mean score {found[form][-1]['val/score']:.2f}", flush=True)
    _show(found)
    figures = {form: {key: [run[key] for run in runs] for key in runs[0]} for form, runs in found.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps({**machine(), "scores": figures}, indent=1) + "\n")


def scores(form: str, seed: int) -> dict[str, float]:
    """Every metric of the quickstart's last validation, percent."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        cli = Cli(
            [
                f"--config={REPOSITORY / 'configs' / 'quickstart.yaml'}",
                f"--seed_everything={seed}",
                f"--trainer.default_root_dir={folder}/run",
                "--trainer.logger=false",
                "--trainer.enable_progress_bar=false",
            ]
        )
        if form == "padded":
            pad(cli.model.encoder)
        cli.trainer.fit(cli.model, cli.datamodule)
        return score_record(cli.model.scores)


def _show(found: dict[str, list[dict[str, float]]]) -> None:
    """Mean and standard deviation over the seeds, a line a metric."""
    print(f"\n{'':<28}" + "".join(f"{form:>32}" for form in found))
    for key in next(iter(found.values()))[0]:
        print(f"{key:<28}" + "".join(f"{_spread([run[key] for run in runs]):>32}" for runs in found.values()))


def _spread(values: list[Any]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main()
