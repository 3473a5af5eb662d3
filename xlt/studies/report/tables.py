"""The numbers of a study: as files of comma-separated values, and as a reader takes them."""

# pandas says what it returns too widely.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xlt.data.languages import name_of
from xlt.studies.analysis import names
from xlt.studies.analysis.claims import Judged
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.measures import Measure
from xlt.studies.analysis.power import smallest_difference
from xlt.studies.analysis.statistics import seeds_needed
from xlt.studies.design.targets import NONE
from xlt.studies.report.drawing import number


def csv_files(findings: Findings) -> dict[str, pd.DataFrame]:
    """Name of each file to its table."""
    study = findings.study
    missing = pd.DataFrame(
        [tuple(line) for line in study.missing], columns=pd.Index(["what", "reason", "log"])
    )
    pooled = findings.pooled.assign(target="all")
    tested = {"checkpoints": study.checkpoints} if len(study.checkpoints) else {}
    return tested | {
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
    """Points of curves for a reader: a line a target and arm, a column a volume.

    Args:
        points: What `over_seeds` returns, by target, which is `all` for the mean of all.
        signed: Whether they are differences.
    """
    lines, volumes = [], sorted(set(points["volume"]))
    for target in ["all", *names.targets(set(points["target"]) - {"all"})]:
        own = points[points["target"] == target]
        for arm in [
            arm for arm in [NONE, *names.arms(own["intermediate"])] if (own["intermediate"] == arm).any()
        ]:
            line = own[own["intermediate"] == arm]
            cells = {point["volume"]: _cell(point, signed) for _, point in line.iterrows()}
            shown = target if target == "all" else names.task(target)
            lines.append([shown, names.task(arm), *(cells.get(v, "") for v in volumes), share(line.iloc[0])])
    heads = ["Target", "Intermediate task", *(f"{volume:,}" for volume in volumes), "Mean of"]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def _cell(point: Any, signed: bool) -> str:
    """A point with its interval, and its seeds where others have more."""
    text = interval(point, "+" if signed else "")
    return text if point["complete"] else f"{text} ({point['seeds']} of the seeds)"


def of_measures(measures: Sequence[Measure]) -> pd.DataFrame:
    """Points of the measures of robustness for a reader: the means over targets."""
    parts = []
    for measure in measures:
        table = of_points(measure.pooled.assign(target="all")).drop(columns="Target")
        table.insert(0, "Measure", f"{measure.words.title} ({measure.words.axis})")
        parts.append(table)
    return pd.concat(parts, ignore_index=True).fillna("")


def of_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Effects by language for a reader: a line an arm and language, a column a target."""
    targets, lines = names.targets(cells["target"]), []
    for arm in names.arms(cells["intermediate"]):
        own = cells[cells["intermediate"] == arm]
        found = {(line.language, line.target): number(line.mean, "+") for line in own.itertuples()}
        for code in sorted(set(own["language"]), key=name_of):
            texts = [found.get((code, target), "–") for target in targets]
            lines.append([names.task(arm), name_of(code), *texts])
    heads = ["Intermediate task", "Language", *map(names.task, targets)]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def of_claims(judged: Sequence[Judged]) -> pd.DataFrame:
    """Claims for a reader."""
    lines = [[one.claim.text, estimate(one), one.verdict, one.words] for one in judged]
    return pd.DataFrame(lines, columns=pd.Index(["Claim", "Estimate, points", "Verdict", "Why"]))


ENDS = ("mean", "low", "high")


def interval(point: Any, sign: str = "", digits: int = 1) -> str:
    """`41.2 [40.1, 42.3]`, or `41.2` where there is no interval."""
    if math.isnan(point["low"]):
        return number(point["mean"], sign, digits)
    mean, low, high = (number(point[end], sign, digits) for end in ENDS)
    return f"{mean} [{low}, {high}]"


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
    texts = ["" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in model["p"]]
    numbers = []
    for _, term in model.rename(columns={"estimate": "mean"}).iterrows():
        is_level = term["term"] == NONE or term["term"].startswith("SD of ")
        numbers.append(interval(term, "" if is_level else "+", 2))
    return pd.DataFrame({"Term": model["term"], "Estimate, points [95 % interval]": numbers, "p": texts})


def of_power(findings: Findings) -> pd.DataFrame:
    """SD over seeds of each target's effect, what the study's seeds see of it and what one point needs."""
    seeds = len(findings.seeds)
    lines = [
        [names.task(target), f"{sd:.2f}", f"{smallest_difference(seeds, sd):.1f}", seeds_needed(1.0, sd)]
        for target in names.targets(findings.sds)
        if seeds > 1 and (sd := findings.sds[target]) > 0
    ]
    heads = ["Target", "SD over seeds, points", f"Seen by {seeds} seeds, points", "Seeds for 1 point"]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def _exponent(fit: Any) -> str:
    """The exponent of a fit with its interval, where it is told."""
    if not fit["identifiable"]:
        return "not identifiable"
    return f"{fit['b']:.2f} [{fit['b_low']:.2f}, {fit['b_high']:.2f}]"
