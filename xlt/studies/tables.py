"""The numbers of a study: as files of comma-separated values, and as a reader takes them."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xlt.studies import names
from xlt.studies.claims import Judged
from xlt.studies.findings import Findings
from xlt.studies.measures import Measure
from xlt.studies.power import smallest_difference
from xlt.studies.statistics import seeds_needed


def csv_files(findings: Findings) -> dict[str, pd.DataFrame]:
    """Name of each file to its table."""
    study = findings.study
    missing = pd.DataFrame(
        [tuple(line) for line in study.missing], columns=pd.Index(["what", "reason", "log"])
    )
    pooled = findings.pooled.assign(target="all")
    return {
        "scores": study.scores,
        "effects": findings.by_language,
        "effects_by_volume": pd.concat([pooled, findings.effects], ignore_index=True),
        "robustness": pd.concat([*map(_both, findings.measures)] or [pd.DataFrame()], ignore_index=True),
        "curves": findings.fits,
        "mixed_model": findings.model,
        "claims": _claims(findings.judged),
        "missing": missing,
    }


def write_csv(tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write the files; what was there is replaced."""
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def _both(measure: Measure) -> pd.DataFrame:
    """A measure by target and over all, in one table."""
    table = pd.concat([measure.pooled.assign(target="all"), measure.by_target], ignore_index=True)
    columns = ["target", "intermediate", "volume", "mean", "low", "high", "seeds", "common", "of", "complete"]
    return table[columns].assign(measure=measure.name)[["measure", *columns]]


def _claims(judged: Sequence[Judged]) -> pd.DataFrame:
    """The claims' file."""
    lines = []
    for one in judged:
        estimate, here = (part or (math.nan, math.nan, math.nan) for part in (one.estimate, one.here))
        about = [one.claim.name, one.claim.text, one.claim.paper, one.verdict]
        lines.append([*about, *estimate, *here[1:], one.p, one.volume, one.words])
    columns = ["name", "claim", "paper", "verdict", "estimate", "low", "high", "seeds_low", "seeds_high", "p"]
    return pd.DataFrame(lines, columns=pd.Index([*columns, "volume", "words"]))


def of_points(points: pd.DataFrame, signed: bool = False) -> pd.DataFrame:
    """Points of curves for a reader."""
    sign = "+" if signed else ""
    return pd.DataFrame({
        "Target": points["target"].map(lambda name: "all" if name == "all" else names.task(name)),
        "Intermediate task": points["intermediate"].map(names.task),
        "Examples": points["volume"].map("{:,}".format),
        "Mean [95 % interval]": [interval(point, sign) for _, point in points.iterrows()],
        "Seeds": points["seeds"],
        "Of": [share(point) for _, point in points.iterrows()],
    })  # fmt: skip


def of_measures(measures: Sequence[Measure]) -> pd.DataFrame:
    """Points of the measures of robustness for a reader."""
    parts = [
        of_points(m.pooled.assign(target="all")).assign(Measure=f"{m.words.title} ({m.words.axis})")
        for m in measures
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["Measure", *(name for name in table if name not in ("Measure", "Target"))]]


def of_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Effects by language for a reader: a line an arm and language, a column a target."""
    own = cells.assign(text=[f"{mean:+.1f}" for mean in cells["mean"]])
    wide = own.pivot_table(
        index=["intermediate", "language"], columns="target", values="text", aggfunc="first"
    )
    wide = wide[names.targets(wide.columns)].rename(columns=names.task).fillna("–").reset_index()
    wide["intermediate"], wide["language"] = (
        wide["intermediate"].map(names.task),
        wide["language"].map(names.language),
    )
    return wide.rename(columns={"intermediate": "Intermediate task", "language": "Language"})


def of_claims(judged: Sequence[Judged]) -> pd.DataFrame:
    """Claims for a reader."""
    lines = [[one.claim.text, estimate(one), one.verdict, one.words] for one in judged]
    return pd.DataFrame(lines, columns=pd.Index(["Claim", "Estimate, points", "Verdict", "Why"]))


ENDS = ("mean", "low", "high")


def interval(point: Any, sign: str = "", digits: int = 1) -> str:
    """`41.2 [40.1, 42.3]`, or `41.2` where there is no interval."""
    mean, low, high = (f"{point[end]:{sign}.{digits}f}" for end in ENDS)
    return mean if math.isnan(point["low"]) else f"{mean} [{low}, {high}]"


def share(point: Any) -> str:
    """How many languages or targets a mean is over, of how many."""
    common, of = point["common"], point["of"]
    return f"{common}" if common == of else f"{common} of {of}"


def estimate(one: Judged) -> str:
    """A claim's estimate with its interval, or a dash."""
    return "–" if one.estimate is None else interval(dict(zip(ENDS, one.estimate, strict=True)), "+")


def of_fits(fits: pd.DataFrame) -> pd.DataFrame:
    """Fitted curves for a reader."""
    best = fits["best"].replace("", "none can be fitted")
    told = [_exponent(fit) for _, fit in fits.iterrows()]
    return pd.DataFrame({
        "Target": fits["target"].map(lambda name: names.task(name) if name else "all"),
        "Intermediate task": fits["intermediate"].map(names.task),
        "Best curve": best,
        "Exponent b": told,
        "Why": fits["reason"],
    })  # fmt: skip


def of_model(model: pd.DataFrame) -> pd.DataFrame:
    """The mixed model for a reader."""
    texts = [f"{p:.3f}" if pd.notna(p) else "" for p in model["p"]]
    numbers = [
        interval(dict(zip(ENDS, ends, strict=True)), "+", 2)
        for ends in model[["estimate", "low", "high"]].to_numpy()
    ]
    return pd.DataFrame({"Term": model["term"], "Estimate, points [95 % interval]": numbers, "p": texts})


def of_power(findings: Findings) -> pd.DataFrame:
    """SD over seeds of each target's effect, what the study's seeds see of it and what one point needs."""
    seeds = len(findings.seeds)
    lines = [
        [names.task(target), f"{sd:.2f}", f"{smallest_difference(seeds, sd):.1f}", seeds_needed(1.0, sd)]
        for target, sd in findings.sds.items()
        if seeds > 1 and sd > 0
    ]
    heads = ["Target", "SD over seeds, points", f"Seen by {seeds} seeds, points", "Seeds for 1 point"]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def _exponent(fit: Any) -> str:
    """The exponent of a fit with its interval, where it is told."""
    if not fit["identifiable"]:
        return "not identifiable"
    return f"{fit['b']:.2f} [{fit['b_low']:.2f}, {fit['b_high']:.2f}]"
