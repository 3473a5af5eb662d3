"""The numbers of a study: as CSV files, and as tables for the reader."""

# pandas declares its return types too broadly.
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xlt.data.languages import name_of
from xlt.studies.analysis import names
from xlt.studies.analysis.claims import PAPER, Judged
from xlt.studies.analysis.equivalence import in_words
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.measures import Measure
from xlt.studies.analysis.power import smallest_difference
from xlt.studies.analysis.statistics import seeds_needed
from xlt.studies.design.nodes import NONE
from xlt.system.tables import number


def csv_files(findings: Findings) -> dict[str, pd.DataFrame]:
    """Return the table of each CSV file by its name without suffix."""
    study = findings.study
    missing = pd.DataFrame(
        [tuple(line) for line in study.missing], columns=pd.Index(["what", "reason", "log"])
    )
    pooled = findings.pooled.assign(target="all")
    further = {"checkpoints": study.checkpoints} if len(study.checkpoints) else {}
    further |= _recipe_tables(findings)
    return further | {
        "scores": study.scores,
        "effects": findings.by_language,
        "effects_by_volume": pd.concat([pooled, findings.effects], ignore_index=True),
        "robustness": pd.concat(
            [*map(_measure_csv, findings.measures)] or [pd.DataFrame()], ignore_index=True
        ),
        "curves": findings.fits,
        "mixed_model": findings.model,
        "claims": _claims_csv(findings.judged),
        "verdicts": findings.verdicts,
        "volume_verdicts": findings.volume_verdicts,
        "covariates": findings.covariates,
        "missing": missing,
    }


def _recipe_tables(findings: Findings) -> dict[str, pd.DataFrame]:
    """Return the tables of the recipes; none if the study has one recipe."""
    found = findings.recipes
    if found is None:
        return {}
    return {
        "recipe_scores": findings.study.recipes,
        "recipe_seeds": found.by_seed,
        "recipe_effects": found.points,
        "recipe_ranges": found.ranges,
        "recipe_variance": found.shares,
    }


def write_csv(tables: Mapping[str, pd.DataFrame], out: Path) -> None:
    """Write the CSV files; existing files are replaced.

    Args:
        tables: Tables by the names of their files.
        out: Folder of the files.
    """
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")


def _measure_csv(measure: Measure) -> pd.DataFrame:
    """Return a measure by target and over all targets in one table."""
    table = pd.concat([measure.pooled.assign(target="all"), measure.by_target], ignore_index=True)
    points = ["mean", "low", "high", "seeds", "common", "of", "complete", "collapsed"]
    columns = ["target", "intermediate", "volume", *points]
    return table[columns].assign(measure=measure.name)[["measure", *columns]]


def _claims_csv(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return the table of claims for the CSV file."""
    lines = []
    for one in judged:
        estimate, seeds_only = (
            part or (math.nan, math.nan, math.nan) for part in (one.estimate, one.seeds_only)
        )
        claim = [one.claim.name, one.claim.text, one.claim.paper, one.verdict]
        tests = [one.p, one.p_equivalent, one.margin, one.volume, one.words]
        lines.append([*claim, PAPER.get(one.claim.name, math.nan), *estimate, *seeds_only[1:], *tests])
    columns = ["name", "claim", "paper", "verdict", "paper_points", "estimate", "low", "high"]
    columns += ["seeds_low", "seeds_high", "p", "p_equivalent", "margin", "volume", "words"]
    return pd.DataFrame(lines, columns=pd.Index(columns))


def points_table(points: pd.DataFrame, signed: bool = False) -> pd.DataFrame:
    """Return points of curves for the reader: a line for each target and arm, a column for each volume.

    Args:
        points: The table that `average_over_seeds` returns, by target; `all` is the mean over targets.
        signed: True if the points are differences.
    """
    lines, volumes = [], sorted(set(points["volume"]))
    for target in ["all", *names.sort_targets(set(points["target"]) - {"all"})]:
        own = points[points["target"] == target]
        for arm in [
            arm for arm in [NONE, *names.sort_arms(own["intermediate"])] if (own["intermediate"] == arm).any()
        ]:
            line = own[own["intermediate"] == arm]
            cells = {point["volume"]: _cell(point, signed) for _, point in line.iterrows()}
            shown = target if target == "all" else names.task_name(target)
            lines.append(
                [shown, names.task_name(arm), *(cells.get(v, "") for v in volumes), coverage(line.iloc[0])]
            )
    heads = ["Target", "Intermediate task", *(f"{volume:,}" for volume in volumes), "Mean of"]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def _cell(point: Any, signed: bool) -> str:
    """Return a point with its interval, its number of seeds if other points have more, and its collapses."""
    notes = [] if point["complete"] else [f"fewer seeds: {point['seeds']}"]
    notes += [f"{point['collapsed']} collapsed"] if point["collapsed"] else []
    return interval(point, "+" if signed else "") + (f" ({', '.join(notes)})" if notes else "")


def measures_table(measures: Sequence[Measure]) -> pd.DataFrame:
    """Return the measures of robustness for the reader: means over targets."""
    parts = []
    for measure in measures:
        table = points_table(measure.pooled.assign(target="all")).drop(columns="Target")
        table.insert(0, "Measure", f"{measure.labels.title} ({measure.labels.axis})")
        parts.append(table)
    return pd.concat(parts, ignore_index=True).fillna("")


def cells_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return effects for the reader: a line for each arm and language, a column for each target."""
    targets, lines = names.sort_targets(cells["target"]), []
    for arm in names.sort_arms(cells["intermediate"]):
        own = cells[cells["intermediate"] == arm]
        found = {(line.language, line.target): number(line.mean, "+") for line in own.itertuples()}
        for code in sorted(set(own["language"]), key=name_of):
            texts = [found.get((code, target), "–") for target in targets]
            lines.append([names.task_name(arm), name_of(code), *texts])
    heads = ["Intermediate task", "Language", *map(names.task_name, targets)]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def claims_table(judged: Sequence[Judged]) -> pd.DataFrame:
    """Return the claims for the reader: the paper's figure beside this study's, and the verdict."""
    lines = [
        [one.claim.text, one.claim.paper, estimate(one), one.verdict_in_words, one.words] for one in judged
    ]
    heads = ["Claim", "In the paper", "In this study, points", "Verdict", "Reason"]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def verdicts_table(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return verdicts on effects for the reader: a line for each target and arm, a column for each volume.

    Args:
        verdicts: The table that `effect_verdicts` returns, or some of its lines.
    """
    lines, volumes = [], sorted(set(verdicts["volume"]))
    for target in ["all", *names.sort_targets(set(verdicts["target"]) - {"all"})]:
        own = verdicts[verdicts["target"] == target]
        for arm in names.sort_arms(own["intermediate"]):
            cells = {
                line.volume: f"{number(line.effect, '+')}: {in_words(line.verdict, line.margin)}"
                for line in own[own["intermediate"] == arm].itertuples()
            }
            shown = target if target == "all" else names.task_name(target)
            lines.append([shown, names.task_name(arm), *(cells.get(volume, "") for volume in volumes)])
    heads = ["Target", "Intermediate task", *(f"{volume:,}" for volume in volumes)]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def volume_verdicts_table(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return verdicts on more examples for the reader: a line for each target and arm.

    Args:
        verdicts: The table that `volume_verdicts` returns.
    """
    lines = [
        [
            line["target"] if line["target"] == "all" else names.task_name(line["target"]),
            names.task_name(line["intermediate"]),
            f"{line['smallest']:,} to {line['volume']:,}",
            interval(line, "+"),
            in_words(line["verdict"], line["margin"]),
        ]
        for line in verdicts.rename(columns={"effect": "mean"}).to_dict("records")
    ]
    heads = ["Target", "Intermediate task", "Examples", "Change, points [95 % interval]", "Verdict"]
    return pd.DataFrame(lines, columns=pd.Index(heads))


ENDS = ("mean", "low", "high")
"""Columns of a point's mean and interval."""


def interval(point: Any, sign: str = "", digits: int = 1) -> str:
    """Return a point as `41.2 [40.1, 42.3]`, or as `41.2` without interval."""
    if math.isnan(point["low"]):
        return number(point["mean"], sign, digits)
    mean, low, high = (number(point[end], sign, digits) for end in ENDS)
    return f"{mean} [{low}, {high}]"


def place(line: Any) -> str:
    """Return the target, the intermediate task and the volume of an effect in words."""
    after = f"{names.task_name(line['target'])} after {names.task_name(line['intermediate'])}"
    return f"{after} at {line['volume']:,}"


def coverage(point: Any) -> str:
    """Return the number of languages or targets that a mean covers, as `10` or `9 of 10`."""
    common, of = point["common"], point["of"]
    return f"{common}" if common == of else f"{common} of {of}"


def estimate(one: Judged) -> str:
    """Return a claim's estimate with its interval, or a dash."""
    return "–" if one.estimate is None else interval(dict(zip(ENDS, one.estimate, strict=True)), "+")


def fits_table(fits: pd.DataFrame) -> pd.DataFrame:
    """Return the fitted curves for the reader."""
    best = fits["best"].replace("", "no curve can be fitted")
    exponents = [_exponent(fit) for _, fit in fits.iterrows()]
    return pd.DataFrame({
        "Target": fits["target"].map(lambda name: names.task_name(name) if name else "all"),
        "Intermediate task": fits["intermediate"].map(names.task_name),
        "Best curve": best,
        "Exponent b": exponents,
        "Collapsed runs": fits["collapsed"],
        "Reason": fits["reason"],
    })  # fmt: skip


def model_table(model: pd.DataFrame) -> pd.DataFrame:
    """Return the mixed model for the reader."""
    texts = ["" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" for p in model["p"]]
    numbers = []
    for _, term in model.rename(columns={"estimate": "mean"}).iterrows():
        is_level = term["term"] == NONE or term["term"].startswith("SD of ")
        numbers.append(interval(term, "" if is_level else "+", 2))
    return pd.DataFrame({"Term": model["term"], "Estimate, points [95 % interval]": numbers, "p": texts})


def power_table(findings: Findings) -> pd.DataFrame:
    """Return each question's SD over seeds, smallest detectable difference, and numbers of seeds."""
    seeds, margin = len(findings.seeds), findings.study.margin
    lines = []
    for name, of, sd in findings.questions if seeds > 1 else ():
        if sd > 0:
            smallest, needed = smallest_difference(seeds, sd), [seeds_needed(d, sd) for d in (1.0, margin)]
            lines.append([f"{names.task_name(name)}, {of}", f"{sd:.2f}", f"{smallest:.1f}", *needed])
    heads = [
        *("Effect", "SD over seeds, points"),
        f"Smallest difference with {seeds} seeds, points",
        *("Seeds needed for 1 point", f"Seeds needed for {margin:g} points"),
    ]
    return pd.DataFrame(lines, columns=pd.Index(heads))


def _exponent(fit: Any) -> str:
    """Return the exponent of a fit with its interval, if it is identifiable."""
    if not fit["identifiable"]:
        return "not identifiable"
    return f"{fit['b']:.2f} [{fit['b_low']:.2f}, {fit['b_high']:.2f}]"
