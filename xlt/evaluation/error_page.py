"""Sections of report.html about the errors of each task: confusions, calibration, lengths, examples."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xlt.data.languages import name_of
from xlt.data.multilingual import ENGLISH
from xlt.evaluation.errors import (
    LENGTHS,
    NUM_BINS,
    Calibration,
    Flips,
    LanguageErrors,
    errors_of,
    flips,
    rows_at,
)
from xlt.training.html import table_of

MAX_CLASSES = 5
"""Maximum number of classes for which the page shows the table of all confusions."""

MAX_CONFUSIONS = 10
"""Maximum number of confusions that the page shows for a task."""

MAX_ERRORS = 12
"""Maximum number of confident errors that the page shows for a task."""

MAX_FLIPS = 2
"""Maximum number of flips that the page shows for a language in each direction."""

MAX_CHARACTERS = 300
"""Maximum number of characters of a text on the page."""

FACTS = (
    *("language", "perturbation", "example", "english", "id", "gold", "prediction", "prediction_text"),
    *("start", "end", "probability", "gold_probability", "correct", "score", "tokens"),
)
"""Columns of an example that are not its texts."""


def task_sections(paths: Mapping[str, Mapping[str, Path]]) -> Iterator[dict[str, Any]]:
    """Yield the content of each task's section.

    Args:
        paths: Tables of examples by task and language, English first.
    """
    for task, by_language in paths.items():
        found = [errors_of(language, path) for language, path in by_language.items()]
        compared = flips(found)
        classes = sorted({name for e in found for pair in e.confusion for name in pair})
        yield {
            "task": task,
            "languages": _languages(found),
            "lengths": _lengths(found),
            "calibration": _calibration(found),
            "confusions": _confusions(found),
            "matrices": [_matrix(e, classes) for e in found if 0 < len(classes) <= MAX_CLASSES],
            "worst": _worst(found),
            "flips": _flip_table(compared),
            "flipped": list(_flipped(compared, by_language)),
        }


def language_name(code: str) -> str:
    """Return the name of a language with its code, such as `Swahili (sw)`."""
    return f"{name_of(code)} ({code})"


def _languages(found: Sequence[LanguageErrors]) -> dict[str, Any]:
    """Return the table of scores and confidence by language."""
    rows = []
    for errors in found:
        counts, confidence, correct = (float(part.sum()) for part in errors.calibration)
        shares = [f"{100 * part / max(1.0, counts):.1f}" for part in (correct, confidence)]
        numbers = [f"{len(errors.score):,}", f"{errors.score.mean():.1f}", f"{counts:,.0f}", *shares]
        rows.append([language_name(errors.language), *numbers, f"{errors.calibration.error:.1f}"])
    heads = ["Language", "Examples", "Mean score", "Predictions", "Right %", "Mean confidence %"]
    return table_of([*heads, "Calibration error"], rows)


def _lengths(found: Sequence[LanguageErrors]) -> dict[str, Any]:
    """Return the table of mean scores by language and number of tokens."""
    lows = [0, *LENGTHS]
    heads = [f"{low + 1}–{high}" for low, high in zip(lows, LENGTHS, strict=False)] + [f"> {LENGTHS[-1]}"]
    bins = [errors.by_length() for errors in found]
    used = [i for i in range(len(heads)) if any(row[i][1] for row in bins)]
    rows = [
        [language_name(e.language), *(f"{row[i][0]:.1f} ({row[i][1]:,})" if row[i][1] else "–" for i in used)]
        for e, row in zip(found, bins, strict=True)
    ]
    return table_of(["Tokens", *(heads[i] for i in used)], rows)


def _calibration(found: Sequence[LanguageErrors]) -> dict[str, Any]:
    """Return the table of accuracy by confidence, in English and in the other languages."""
    groups = {
        "English": [e.calibration for e in found if e.language == ENGLISH],
        "other languages": [e.calibration for e in found if e.language != ENGLISH],
    }
    sums = {name: sum(parts[1:], parts[0]) for name, parts in groups.items() if parts}
    heads, rows = ["Confidence %"], []
    for name in sums:
        heads += [f"Predictions, {name}", "mean confidence %", "right %"]
    for i in range(NUM_BINS):
        width = 100 // NUM_BINS
        parts = [part for group in sums.values() for part in _bin(group, i)]
        if any(part != "–" for part in parts):
            rows.append([f"{width * i}–{width * (i + 1)}", *parts])
    return table_of(heads, rows)


def _bin(group: Calibration, i: int) -> list[str]:
    """Return number, mean confidence and accuracy of a bin."""
    count = group.counts[i]
    if not count:
        return ["–"] * 3
    return [f"{count:,}", f"{100 * group.confidence[i] / count:.1f}", f"{100 * group.correct[i] / count:.1f}"]


def _confusions(found: Sequence[LanguageErrors]) -> dict[str, Any]:
    """Return the table of the task's largest confusions, by language in percent of the gold class."""
    totals: dict[tuple[str, str], int] = {}
    for errors in found:
        for pair, count in errors.confusion.items():
            if pair[0] != pair[1]:
                totals[pair] = totals.get(pair, 0) + count
    pairs = sorted(totals, key=lambda pair: -totals[pair])[:MAX_CONFUSIONS]
    rows = []
    for errors in found:
        golds: dict[str, int] = {}
        for (gold, _), count in errors.confusion.items():
            golds[gold] = golds.get(gold, 0) + count
        cells = [_share(errors.confusion.get(pair, 0), golds.get(pair[0], 0)) for pair in pairs]
        rows.append([language_name(errors.language), *cells])
    return table_of(["Gold → prediction", *(" → ".join(pair) for pair in pairs)], rows if pairs else [])


def _share(count: int, total: int) -> str:
    """Return a count with its share in percent."""
    return f"{100 * count / total:.0f} % ({count:,})" if total else "–"


def _matrix(errors: LanguageErrors, classes: Sequence[str]) -> dict[str, Any]:
    """Return the table of gold by predicted class in a language."""
    rows = [[gold, *(f"{errors.confusion.get((gold, p), 0):,}" for p in classes)] for gold in classes]
    name = language_name(errors.language)
    return {"language": name, "table": table_of(["gold ↓ prediction →", *classes], rows)}


def _worst(found: Sequence[LanguageErrors]) -> list[dict[str, Any]]:
    """Return the most confident errors of all languages."""
    every = sorted(((p, i, row) for i, e in enumerate(found) for p, row in e.worst(MAX_ERRORS)), reverse=True)
    chosen = every[:MAX_ERRORS]
    texts = {
        i: dict(zip(rows, rows_at(found[i].path, rows), strict=True))
        for i in {i for _, i, _ in chosen}
        if (rows := [row for _, j, row in chosen if j == i])
    }
    return [shown(texts[i][row]) for _, i, row in chosen]


def _flip_table(compared: Sequence[Flips]) -> dict[str, Any]:
    """Return the table of answers that agree and disagree with English."""
    rows = []
    for one in compared:
        counts = one.both, len(one.lost), len(one.gained), one.neither
        rows.append([language_name(one.language), f"{sum(counts):,}", *(f"{count:,}" for count in counts)])
    heads = ["Language", "Examples", "Right in both", "Right in English alone", "Right here alone"]
    return table_of([*heads, "Wrong in both"], rows)


def _flipped(compared: Sequence[Flips], paths: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Yield some flips of each language, with both texts."""
    for one in compared:
        pairs = [*one.lost[:MAX_FLIPS], *one.gained[:MAX_FLIPS]]
        own = rows_at(paths[one.language], [row for row, _ in pairs])
        english = rows_at(paths[ENGLISH], [row for _, row in pairs])
        yield {
            "language": language_name(one.language),
            "pairs": [(shown(e), shown(o)) for e, o in zip(english, own, strict=True)],
        }


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return an example in the form that the template expects.

    Args:
        row: A row of a table of examples.
    """
    texts = {name: value for name, value in row.items() if name not in FACTS and value is not None}
    has_tags = isinstance(row["prediction"], list)
    words = texts.pop("words", None) if has_tags else None
    shares = [f"{100 * p:.0f} %" for p in row["probability"]] if words and row["probability"] else []
    gold = row["gold"] if isinstance(row["gold"], list) and not has_tags else [row["gold"]]
    answers = [str(answer) for answer in gold if answer is not None]
    return {
        "language": row["language"],
        "name": language_name(row["language"]),
        "example": row["example"],
        "texts": [(name, _cut(_text(value), answers)) for name, value in texts.items()],
        "words": list(zip(words or (), row["gold"], row["prediction"], shares, strict=True))
        if shares
        else [],
        "gold": [] if has_tags else answers,
        "prediction": "" if has_tags else str(row["prediction"]),
        "probability": "" if has_tags or row["probability"] is None else f"{100 * row['probability']:.1f} %",
        "score": f"{row['score']:.1f}",
        "is_correct": row["correct"],
    }


def _text(value: Any) -> str:
    """Return a text, or numbered texts as one."""
    return (
        " · ".join(f"{i}: {part}" for i, part in enumerate(value)) if isinstance(value, list) else str(value)
    )


def _cut(text: str, answers: Sequence[str]) -> str:
    """Return a text of at most MAX_CHARACTERS, which holds the first answer if the text holds it."""
    if len(text) <= MAX_CHARACTERS:
        return text
    place = max(0, text.find(answers[0])) if answers else 0
    start = max(0, min(place - MAX_CHARACTERS // 2, len(text) - MAX_CHARACTERS))
    end = start + MAX_CHARACTERS
    return ("… " if start else "") + text[start:end] + (" …" if end < len(text) else "")
