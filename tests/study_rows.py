"""Synthetic tables of scores, as a study collects them, with effects that are known beforehand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

LANGUAGES = ("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
"""XNLI's fifteen."""

TARGETS = {"xnli": LANGUAGES[:4], "udpos": LANGUAGES[:4]}
"""Two targets in four languages: what tests take where they ask for no others."""

FIVE_TARGETS = dict.fromkeys(("xnli", "pawsx", "udpos", "xquad", "tatoeba"), LANGUAGES)
"""As many cells as a study of the paper's size has."""

EFFECTS = {"squad_v1": 4.0, "mnli": 2.0}

SPANS = ("udpos", "panx")
"""Targets whose example scores are counts of spans."""


def everywhere(volume: int) -> float:
    """The share of an arm's effect at a volume: all of it at each."""
    return 1.0


def base(targets: Sequence[str], target: str, language: str) -> float:
    """A cell's score without an intermediate task: 60 in English, less by the language and the target."""
    order = LANGUAGES.index(language) if language in LANGUAGES else len(LANGUAGES)
    return 60.0 - order - 5.0 * list(targets).index(target)


def loss(perturbation: str) -> float:
    """Points lost: a tenth of the noise's percent; a tenth of the mix's, and one for each mix's number."""
    kind, *numbers = perturbation.split("-")
    return int(numbers[0]) / 10 + (int(numbers[1]) if kind == "mix" else 0) if numbers else 0.0


def make_scores(
    effects: Mapping[str, float] = EFFECTS,
    volumes: Sequence[int] = (1000, 4000),
    seeds: Sequence[int] = (0, 1, 2),
    targets: Mapping[str, Sequence[str]] = TARGETS,
    perturbations: Sequence[str] = ("",),
    *,
    seed_sd: float = 0.0,
    noise_sd: float = 0.0,
    heterogeneity_sd: float = 0.0,
    shape: Callable[[int], float] = everywhere,
    by_target: Mapping[str, float] | None = None,
    random: int = 0,
) -> pd.DataFrame:
    """A complete table of scores.

    Args:
        effects: Points that each intermediate task gains over none, in every cell.
        volumes: Volumes of the intermediate tasks.
        seeds: Replicates.
        targets: Languages by target.
        perturbations: Of the test rows; "" for the rows as they are.
        seed_sd: SD of what a run's seeds do to all languages of a target alike, in points.
        noise_sd: SD of what is left, by line.
        heterogeneity_sd: SD over the targets of an intermediate task's effect.
        shape: Share of the effect at a volume.
        by_target: Points that a target gains on top wherever there is an intermediate task.
        random: Of the noise.
    """
    draw = np.random.default_rng(random)
    own = {
        (arm, target): draw.normal(0, heterogeneity_sd) + (by_target or {}).get(target, 0.0)
        for arm in effects
        for target in targets
    }
    lines = []
    for arm, volume in [("none", 0), *((arm, volume) for arm in effects for volume in volumes)]:
        gain = effects[arm] * shape(volume) if arm != "none" else 0.0
        for target, languages in targets.items():
            extra = gain + own.get((arm, target), 0.0)
            for seed in seeds:
                run = draw.normal(0, seed_sd)
                for language in languages:
                    score = base(list(targets), target, language) + extra + run + draw.normal(0, noise_sd)
                    cell = (arm, volume, seed, seed, target, language)
                    lines += [(*cell, name, score - loss(name)) for name in perturbations]
    names = ["intermediate", "volume", "seed", "target_seed", "target", "language", "perturbation", "score"]
    found = pd.DataFrame(lines, columns=names)
    return found.assign(rows=100, split="validation", example_scores="", run=found["target"] + "-run")


def make_example_scores(scores: pd.DataFrame, folder: Path, rows: int = 50, random: int = 0) -> pd.DataFrame:
    """The table with files of example scores that come to about its scores, which become theirs.

    An example is as hard in every language and run: it is answered where its difficulty lies below the score.

    Args:
        scores: A table of `make_scores`.
        folder: The study's folder.
        rows: Examples of each cell.
        random: Of the examples' difficulty.
    """
    hardness = np.random.default_rng(random).uniform(0, 100, rows)
    found = scores.copy()
    (folder / "example_scores").mkdir(parents=True, exist_ok=True)
    for place, line in enumerate(scores.itertuples()):
        right = (hardness < line.score).astype(np.float32)
        values = 100 * right
        if line.target in SPANS:
            values = np.stack([4 * right, np.full(rows, 4), np.full(rows, 4)], 1).astype(np.float32)
        path = f"example_scores/{line.target}-{line.language}-{place}.npy"
        np.save(folder / path, values)
        found.loc[found.index[place], ["score", "example_scores", "rows"]] = [100 * right.mean(), path, rows]
    return found
