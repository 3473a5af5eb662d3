"""A made-up study, for the tests of the report: its numbers follow a law, and mean nothing."""

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from xlt.studies.analysis.results import COLUMNS, KEY, RUN_COLUMNS, StudyResults

GAINS = {"squad_v1": 3.2, "mnli": 2.1, "hellaswag": 1.0, "mixture": 3.6, "ccg": -0.8}
"""Points that an arm gains at its largest volume."""

LEVELS = {
    "xnli": (62.0, "en ar bg de el es fr hi ru sw th tr ur vi zh"),
    "pawsx": (71.0, "en de es fr ja ko zh"),
    "udpos": (58.0, "en ar bg de el es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tr vi zh"),
    "xquad": (41.0, "en ar de el es hi ru th tr vi zh"),
    "tatoeba": (30.0, "ar bg bn de el es et eu fa fi fr it ja jv ka kk ko ml mr pt ru sw ta te th tr zh"),
}  # fmt: skip
"""Score without intermediate training, and languages."""

MIXES = [
    "noise-5",
    "noise-10",
    "noise-20",
    "mix-15-0",
    "mix-15-1",
    "mix-30-0",
    "mix-30-1",
    "mix-50-0",
    "mix-50-1",
]


def scores_of(
    arms: Sequence[str] = ("squad_v1", "mnli", "hellaswag", "mixture"),
    volumes: Sequence[int] = (300, 1000, 3000, 10000),
    seeds: Sequence[int] = (0, 1, 2),
    targets: Sequence[str] = tuple(LEVELS),
    perturbations: Sequence[str] = ("", *MIXES),
) -> pd.DataFrame:
    """A table of scores with every cell."""
    random = np.random.default_rng(7)
    lines: list[list[Any]] = []
    for arm, volume in [("none", 0), *((arm, volume) for arm in arms for volume in volumes)]:
        gain = GAINS[arm] * math.log(volume / 100) / math.log(100) if volume else 0.0
        for seed in seeds:
            luck = random.normal(0, 0.4)
            for target in targets:
                lines += _cells([arm, volume, seed], target, gain + luck, perturbations, random)
    return pd.DataFrame(lines, columns=pd.Index(COLUMNS))


def _cells(
    start: list[Any], target: str, gain: float, perturbations: Sequence[str], random: np.random.Generator
) -> list[list[Any]]:
    """The scores of one replicate in one target."""
    level, languages = LEVELS[target]
    lines = []
    for place, language in enumerate(languages.split()):
        clean = level - 0.7 * place + gain * (0.4 + 0.05 * place) + random.normal(0, 0.3)
        for perturbation in perturbations if target in ("xnli", "xquad") else [""]:
            kind, _, amount = perturbation.partition("-")
            lost = {"": 0.0, "noise": 0.012, "mix": 0.004}[kind] * float(amount.split("-")[0] or 0)
            score = clean * (1 - lost) + (random.normal(0, 0.3) if kind else 0)
            run = f"evaluate-{start[0]}-{start[1] or 'none'}-s{start[2]}-{target}"
            tested = [score, 1000, "test", "", run, "no"]
            lines.append([*start, start[2], target, language, perturbation, *tested])
    return lines


def runs_of(scores: pd.DataFrame) -> pd.DataFrame:
    """A run of every phase for every replicate of the scores."""
    lines: list[list[Any]] = []
    for (arm, volume, seed), part in scores.groupby(KEY[:3]):
        label = f"{arm}-{volume}-s{seed}"
        if arm != "none":
            lines.append(_run("intermediate", f"intermediate-{label}-0f3a9b12cd", arm, volume, seed, ""))
        for target in part["target"].unique():
            for phase in ("target", "evaluate")[target == "tatoeba" :]:
                name = f"{phase}-{label}-{target}-t{seed}-77aa01bc9e"
                lines.append(_run(phase, name, arm, volume, seed, target))
    return pd.DataFrame(lines, columns=pd.Index(RUN_COLUMNS))


def _run(phase: str, name: str, arm: str, volume: int, seed: int, target: str) -> list[Any]:
    """A line of the table of runs."""
    config = f"""seed_everything: {seed}
model:
  encoder: runs/study/intermediate-{arm}-{volume}-s{seed}-0f3a9b12cd
  learning_rate: {1e-05 if target else 2e-05}
  dropout: 0.1
data:
  tasks: [{target or arm}]
  volume: {volume}
  tokens_per_micro_batch: 4096
  micro_batches_per_step: 2
  max_length: 128
trainer:
  max_steps: {2000 if target else 1000}
  precision: 32-true
  default_root_dir: runs/study/{name}
wandb: {{group: volume, job_type: {phase}}}
"""
    tokens = 0 if phase == "evaluate" else 2_400_000
    url = f"https://wandb.ai/lab/xlt/runs/{zlib.crc32(name.encode()):08x}" if phase != "evaluate" else ""
    dev = (None, None) if phase == "evaluate" else (34.0 if (arm, seed) == ("mnli", 1) else 60.0, 33.3)
    precision = "bf16-mixed" if phase == "evaluate" else ""
    return [phase, name, name, arm, volume, seed, target, tokens, 0.21, url, *dev, precision, config]


ABOUT = {
    "encoder": "encoders/mini (6 layers × 256)",
    "date": "2026-11-25",
    "device": "two CPU cores, fp32",
    "versions": "xlt 0.1.0, torch 2.13.0, transformers 5.23.0",
    "command": "python -m xlt.study --config configs/study/volume.yaml",
    "words": "These numbers are made up, to see what the page looks like. A small encoder says how the "
    "measures behave, not what XLM-R Large gains.",
}


def study_of(scores: pd.DataFrame | None = None, **changes: Any) -> StudyResults:
    """A study whose report can be written."""
    found = scores_of() if scores is None else scores
    known = {"runs": runs_of(found), "about": ABOUT, "missing": []}
    return StudyResults("made-up", found, **{**known, **changes})
