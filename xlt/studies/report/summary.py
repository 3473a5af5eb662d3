"""The answer of a study in sentences: the question, the verdicts, and conclusions that are not allowed."""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from xlt.studies.analysis import names
from xlt.studies.analysis.collapsed import RUN, judged_runs
from xlt.studies.analysis.equivalence import EQUIVALENT, UNDECIDED, in_words
from xlt.studies.analysis.findings import Findings
from xlt.studies.analysis.points import at_common_volume, common_volume
from xlt.studies.design.nodes import NONE
from xlt.studies.report import figures, tables
from xlt.system.tables import counted, number

LISTED = 6
"""Largest number of decided effects that the answer names one by one."""

ORDER = ["gain", "loss", "supported", "contradicted", EQUIVALENT, UNDECIDED, "not run"]
"""Order of the verdicts in sentences."""

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
"""White space between two sentences."""


def sentences_of(words: str) -> list[str]:
    """Return the sentences of a text."""
    return [part for part in SENTENCE_END.split(words.strip()) if part]


def cautions(findings: Findings) -> Iterator[str]:
    """Yield sentences on conclusions that the verdicts and the seeds of the study do not allow."""
    undecided = int((findings.verdicts["verdict"] == UNDECIDED).sum())
    if undecided:
        yield (
            f"Undecided is not the same as no effect: {undecided} of {len(findings.verdicts)} effects are "
            "undecided, and may be gains or losses."
        )
    if len(findings.seeds) == 1:
        yield "One seed decides nothing: differences between single runs may be chance."
    if len(findings.verdicts):
        words = in_words(EQUIVALENT, findings.study.margin).capitalize()
        yield (
            f'"{words}" holds for the mean of the languages or targets. Single languages can differ by more.'
        )


def summary(findings: Findings) -> Iterator[str]:
    """Yield the sentences of the section `Answer`: the question, then what the data say."""
    yield question(findings)
    if len(findings.pooled):
        yield figures.extreme_effects(findings.pooled)
        yield from _describe_widths(findings.pooled)
        yield from _describe_curves(findings)
        yield from _describe_more_examples(findings)
        own = at_common_volume(findings.effects)
        volume = common_volume(findings.by_language)
        where = f"At {volume:,} examples" if volume else "At each task's largest volume"
        gains, losses = int((own["low"] > 0).sum()), int((own["high"] < 0).sum())
        yield (
            f"{where}, the interval of the effect is above zero in {gains} and below zero in {losses} of "
            f"{len(own)} pairs of an intermediate task and a target (not adjusted for their number)."
        )
    elif findings.arms:
        yield "No effect can be computed: no seed has both a run with and one without intermediate training."
    yield from _describe_verdicts(findings)
    yield from _describe_image_gain(findings)
    yield collapse_sentence(findings)
    yield from _describe_unlearned(findings.study.runs)
    yield from _describe_precisions(findings.study.runs)
    count = len(findings.study.missing)
    yield (
        f"{count:,} runs or test languages are missing; they are listed below."
        if count
        else "No run is missing."
    )


def _describe_verdicts(findings: Findings) -> Iterator[str]:
    """Yield sentences with the numbers of verdicts on effects and on claims."""
    margin, found = findings.study.margin, findings.verdicts
    means, single = found["target"] == "all", found["target"] != "all"
    for what, own in (("means over all targets", means), ("effects on single targets", single)):
        verdicts = found.loc[own, "verdict"].tolist()
        if verdicts:
            yield f"Of {len(verdicts)} {what}, after Holm's adjustment: {_counted(verdicts, margin)}."
    decided = found[single & (found["verdict"] != UNDECIDED)]
    if 0 < len(decided) <= LISTED:
        parts = [_decided(line, margin) for _, line in decided.iterrows()]
        yield f"Decided on single targets, in points: {'; '.join(parts)}."
    verdicts = [one.verdict for one in findings.judged]
    if verdicts:
        yield f"Of {len(verdicts)} claims of Phang et al. (2020): {_counted(verdicts, margin)}."


def _describe_image_gain(findings: Findings) -> Iterator[str]:
    """Yield a sentence for each target that was also trained and tested without images."""
    for measure in [one for one in findings.measures if one.name == "image_gain"]:
        for target, own in measure.by_target.groupby("target"):
            plain = own[own["intermediate"] == NONE].assign(after="without intermediate training")
            trained = at_common_volume(own)
            trained = trained.assign(after="after " + trained["intermediate"].map(names.task_name))
            gains = [
                f"{tables.interval(line, '+')} {line['after']}"
                for line in pd.concat([plain, trained]).to_dict("records")
            ]
            yield (
                f"Image gain of {names.task_name(target)}, in points above a run that never saw an image: "
                f"{'; '.join(gains)}."
            )


def _decided(line: pd.Series, margin: float) -> str:
    """Return a decided effect on a target in words."""
    size = tables.interval(line.rename({"effect": "mean"}), "+")
    return f"{tables.place(line)} examples {size} ({in_words(line['verdict'], margin)})"


def _counted(verdicts: Sequence[str], margin: float) -> str:
    """Return the number of times that each verdict appears, in words."""
    parts = []
    for verdict, count in sorted(Counter(verdicts).items(), key=lambda item: ORDER.index(item[0])):
        plural = {"gain": "gains", "loss": "losses"}.get(verdict, verdict) if count > 1 else verdict
        parts.append(f"{count} {'with ' if verdict == EQUIVALENT else ''}{in_words(plural, margin)}")
    return ", ".join(parts)


def collapse_sentence(findings: Findings) -> str:
    """Return a sentence with the numbers of collapsed runs, judged runs, and runs that are not judged."""
    judged, runs = len(judged_runs(findings.clean)), len(findings.clean.drop_duplicates(RUN))
    if not judged:
        return "It is unknown which runs have collapsed: older scores and very small splits do not show it."
    rest = f" {runs - judged:,} other runs cannot be judged." if judged < runs else ""
    count = len(findings.collapsed)
    return f"{count:,} of {judged:,} runs have collapsed to constant predictions.{rest}"


LEARNED = 5.0
"""Points above chance on the dev rows from which on a task counts as learned."""


def _describe_unlearned(runs: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence with the runs of intermediate training that have learned little of their own tasks."""
    own = runs[(runs["phase"] == "intermediate") & runs["dev_score"].notna()]
    few = own[(own["dev_score"] - own["dev_chance"]).astype(float) < LEARNED]
    if len(few):
        named = [f"{names.task_name(arm)} ({len(part)})" for arm, part in few.groupby("intermediate")]
        yield (
            f"{len(few):,} of {counted(len(own), 'run')} of intermediate training ended less than "
            f"{LEARNED:g} points above chance on their own dev rows: {', '.join(named)}. Their "
            "effects are those of training on a task that was not learned."
        )


def _describe_precisions(runs: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence with the precisions of the evaluations if there are several."""
    counts = Counter(runs.loc[runs["precision"].fillna("") != "", "precision"])
    if len(counts) > 1:
        told = " and ".join(f"{count:,} in {precision}" for precision, count in sorted(counts.items()))
        yield (
            f"Evaluations have several precisions: {told}. So a part of a "
            "difference between arms may come from the precision."
        )


def question(findings: Findings) -> str:
    """Return the study's question."""
    arms, targets = (
        ", ".join(map(names.task_name, found)) or "no task" for found in (findings.arms, findings.targets)
    )
    volumes = [f"{volume:,}" for volume in findings.volumes]
    span = f"from {volumes[0]} to {volumes[-1]}" if len(volumes) > 1 else "".join(volumes) or "0"
    more = ", and do more examples help more" if len(volumes) > 1 else ""
    return (
        f"Question: does intermediate training on {arms}, with {span} examples, help zero-shot "
        f"transfer in {targets}{more}?"
    )


def _describe_widths(points: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence on the widths of the intervals of the mean effects, if there are intervals."""
    widths = (points["high"] - points["low"]).dropna()
    if len(widths):
        yield (
            f"The median width of the 95 % intervals of the mean effects is {number(widths.median())} points "
            f"({number(widths.min())} to {number(widths.max())}): smaller differences may be chance."
        )


def _describe_curves(findings: Findings) -> Iterator[str]:
    """Yield a sentence on the best curve over all targets of each arm that has several volumes."""
    if not len(findings.fits):
        return
    fits = findings.fits[(findings.fits["target"] == "") & (findings.fits["best"] != "")]
    parts = [
        f"{best} for {', '.join(map(names.task_name, names.sort_arms(own['intermediate'])))}"
        for best, own in fits.groupby("best", sort=False)
    ]
    if parts:
        yield f"The curve over the volume that fits best, by AICc over all targets: {'; '.join(parts)}."


def _describe_more_examples(findings: Findings) -> Iterator[str]:
    """Yield a sentence on the change from each arm's smallest to its largest volume, over all targets."""
    found = findings.volume_verdicts
    means = found[found["target"] == "all"] if "all" in set(found["target"]) else found
    parts = [
        f"{names.task_name(line['intermediate'])} {tables.interval(line, '+')} "
        f"(from {line['smallest']:,} to {line['volume']:,}: {in_words(line['verdict'], line['margin'])})"
        for line in means.rename(columns={"effect": "mean"}).to_dict("records")
    ]
    if parts:
        yield f"Change of the mean score by more examples, in points: {'; '.join(parts)}."
