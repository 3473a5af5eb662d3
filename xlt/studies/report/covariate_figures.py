"""The figure of effects by language against facts about the languages, and its table."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportReturnType=false

import math
from collections.abc import Iterator, Sequence

import altair as alt
import pandas as pd

from xlt.data.languages import name_of
from xlt.studies.analysis import names
from xlt.studies.analysis.covariates import describe_covariates, language_effects
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.language_facts import FAR, GERMANIC, OTHER, describe_lacking, facts_of
from xlt.studies.report.charts import HEIGHT, WIDTH, Marks, vertical_axis
from xlt.studies.report.drawing import MUTED, Figure, Panel
from xlt.studies.report.tables import interval
from xlt.system.tables import number

SCRIPTS = ("Latin", "another")
"""The script of English, and other scripts."""

NO_FIT = "–"


def effect_by_covariate(findings: Findings, marks: Marks) -> Iterator[Figure]:
    """Yield the figure of effects by language against script, family, pre-training text and distance."""
    points = language_effects(findings.cells)
    if points.empty or points["language"].nunique() < 2:
        return
    facts = facts_of(points["language"])
    points = points.merge(facts, left_on="language", right_index=True)
    points["script"] = points["same_script"].map({1.0: SCRIPTS[0], 0.0: SCRIPTS[1]})
    panels = [
        _panel(points, marks, "script", "Script", SCRIPTS),
        _panel(points, marks, "group", "Family", (GERMANIC, OTHER, FAR)),
        _panel(points, marks, "gib", "CC-100 text, GiB"),
        _panel(points, marks, "distance", "Syntactic distance from English"),
    ]
    sentences = [
        describe_covariates(findings.covariates),
        "Effect in each language, as if all languages had all targets, against facts about the language.",
        "English is left out, because it is the language of the training rows.",
        "Lines are least-squares fits. The table of the mixed model has their intervals.",
        *describe_lacking(facts),
    ]
    yield Figure(
        "covariates", "Effect by language against facts about the language", sentences,
        [panel for panel in panels if panel], points_table(points), columns=2,
    )  # fmt: skip


def _panel(
    points: pd.DataFrame, marks: Marks, column: str, title: str, order: Sequence[str] = ()
) -> Panel | None:
    """Return the panel of one fact, by categories if an order is given; None if no language has the fact."""
    own = points.dropna(subset=column)
    own = own[own["gib"] > 0] if column == "gib" else own
    if own.empty:
        return None
    chart = _by_category(own, marks, column, order) if order else _by_value(own, marks, column)
    counts = own.drop_duplicates("language")
    words = f"{title}: effect in {len(counts)} languages, from {number(own['mean'].min(), '+')} to "
    return Panel(chart, title, f"{words}{number(own['mean'].max(), '+')} points.")


def _styled(points: pd.DataFrame, marks: Marks) -> tuple[alt.Chart, dict[str, object]]:
    """Return the base chart of some points, and their vertical axis, colour and shape."""
    arms = names.sort_arms(points["intermediate"])
    table = points[["language", "mean"]].assign(arm=points["intermediate"].map(names.task_name))
    table = table.join(points.drop(columns=["language", "mean"]))
    shown = [names.task_name(arm) for arm in arms]
    legend = alt.Legend(title=None, orient="bottom", columns=2)
    axis = vertical_axis("Effect, points", signed=True)
    colours, shapes = [marks[arm].colour for arm in arms], [marks[arm].shape for arm in arms]
    channels: dict[str, object] = {
        "y": alt.Y("mean:Q", axis=axis, scale=alt.Scale(zero=True, nice=True)),
        "color": alt.Color("arm:N", scale=alt.Scale(domain=shown, range=colours), legend=legend),
        "shape": alt.Shape("arm:N", scale=alt.Scale(domain=shown, range=shapes), legend=legend),
    }
    return alt.Chart(table, width=WIDTH, height=HEIGHT), channels


def _zero(base: alt.Chart) -> alt.Chart:
    """Draw the line of no effect."""
    return base.mark_rule(color=MUTED, strokeDash=[5, 3]).encode(y=alt.YDatum(0))


def _by_category(points: pd.DataFrame, marks: Marks, column: str, order: Sequence[str]) -> alt.LayerChart:
    """Draw the effects in each category, the arms side by side."""
    base, channels = _styled(points, marks)
    shown = [name for name in order if (points[column] == name).any()]
    axis = alt.Axis(
        title=None, labelAngle=0, ticks=False, grid=False, labelExpr="split(datum.label, ' ')", labelLimit=90
    )
    x = alt.X(f"{column}:N", sort=shown, axis=axis, scale=alt.Scale(domain=shown, paddingInner=0.5))
    arms = [names.task_name(arm) for arm in names.sort_arms(points["intermediate"])]
    offset = alt.XOffset("arm:N", sort=arms, scale=alt.Scale(domain=arms))
    drawn = base.mark_point(size=34, strokeWidth=1.4, opacity=0.8).encode(x=x, xOffset=offset, **channels)
    return alt.layer(_zero(base), drawn)


def _by_value(points: pd.DataFrame, marks: Marks, column: str) -> alt.LayerChart:
    """Draw the effects against a value, with a least-squares line for each arm; text is on a log scale."""
    base, channels = _styled(points, marks)
    is_log = column == "gib"
    low, high = points[column].min(), points[column].max()
    edges = [low / 1.3, high * 1.3] if is_log else [low - 0.03, high + 0.03]
    scale = alt.Scale(type="log" if is_log else "linear", domain=edges, nice=False)
    ticks = [10**power for power in range(math.ceil(math.log10(low)), 4)] if is_log else None
    axis = alt.Axis(title=None, grid=False, format="~g", **({"values": ticks} if ticks else {"tickCount": 5}))
    x = alt.X(f"{column}:Q", scale=scale, axis=axis)
    drawn = base.mark_point(size=34, strokeWidth=1.4, opacity=0.8).encode(x=x, **channels)
    layers = [_zero(base), drawn]
    if points[column].nunique() > 2:
        method = "log" if is_log else "linear"
        fitted = base.transform_regression(column, "mean", groupby=["arm"], method=method)
        layers.append(fitted.mark_line(strokeWidth=1.4).encode(x=x, y=channels["y"], color=channels["color"]))
    return alt.layer(*layers)


def points_table(points: pd.DataFrame) -> pd.DataFrame:
    """Return the effects and the facts for the reader: a line for each language, a column for each arm."""
    arms, lines = names.sort_arms(points["intermediate"]), []
    for code, own in points.groupby("language"):
        fact = own.iloc[0]
        found = dict(zip(own["intermediate"], own["mean"], strict=True))
        facts = [fact["script"], _shown(fact["group"]), _shown(fact["gib"]), _shown(fact["distance"])]
        texts = [number(found[arm], "+") if arm in found else NO_FIT for arm in arms]
        lines.append([name_of(str(code)), *facts, *texts])
    heads = ["Language", "Script", "Family", "CC-100, GiB", "Syntactic distance"]
    return pd.DataFrame(lines, columns=pd.Index([*heads, *map(names.task_name, arms)]))


def _shown(value: object) -> str:
    """Return a fact as text; a dash if it is unknown."""
    if pd.isna(value):
        return NO_FIT
    return value if isinstance(value, str) else f"{value:g}"


def covariates_table(found: pd.DataFrame) -> pd.DataFrame:
    """Return the mixed models of the covariates for the reader.

    Args:
        found: The table that `covariate_effects` returns.
    """
    lines = []
    for _, line in found.iterrows():
        is_fitted = not math.isnan(line["estimate"])
        point = {"mean": line["estimate"], "low": line["low"], "high": line["high"]}
        text = interval(point, "+") if is_fitted else NO_FIT
        p = f"{line['p_holm']:.3f}" if not math.isnan(line["p_holm"]) else ""
        counts = f"{line['languages']} languages, {line['targets']} targets"
        cells = [names.task_name(line["intermediate"]), line["model"], line["term"], text, p, counts]
        lines.append([*cells, line["words"]])
    heads = ["Intermediate task", "Covariates", "Term", "Points [95 % interval]", "p after Holm", "Of"]
    return pd.DataFrame(lines, columns=pd.Index([*heads, "Remarks"]))
