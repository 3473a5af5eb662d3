"""What a task's `read` returns: one example of one of six shapes, its fields checked as it is made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from xlt.data.class_names import ClassNumber, is_missing

UNLABELLED = -1
"""A label that says the row has none; such rows are dropped and counted."""


def _check(example: object, expected: dict[str, type | tuple[type, ...]]) -> None:
    """Raise TypeError for the first field whose value is not of the expected type."""
    for field in fields(example):  # type: ignore[arg-type]
        value: Any = getattr(example, field.name)
        kind = expected[field.name]
        items = value if isinstance(value, tuple) else (value,)
        for item in items:
            if not isinstance(item, kind) or isinstance(item, bool):
                raise TypeError(f"{field.name} must be {_names(kind)}, not {item!r} ({type(item).__name__})")


def _names(kind: type | tuple[type, ...]) -> str:
    """`text`, `a whole number`, or both, for an error message."""
    words = {
        str: "text",
        int: "a whole number",
        ClassNumber: "the number of a class with a name",
        type(None): "None",
    }
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(words[k] for k in kinds)


def classes_of(numbers: Iterable[int | str | None] | None, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes that rows give by number, or by name; none if no word has a class.

    Args:
        numbers: The classes, as numbers or names; null, or null, -1 or an empty text each, if there are none.
        names: Names of the task's classes, in its order. If the file names the classes, the names count.

    Raises:
        ValueError: A number is below 0 or above the last, some words have no class, or the file's classes are
            others.
    """
    found = tuple(numbers or ())
    if all(is_missing(number) and number not in names for number in found):
        return ()
    return tuple(_class_of(number, names) for number in found)


def _class_of(number: int | str | None, names: Sequence[str]) -> str:
    """Return the name of one class."""
    if isinstance(number, str):
        return number
    place = number.index(names) if isinstance(number, ClassNumber) else number
    if not isinstance(place, int) or not 0 <= place < len(names):
        raise ValueError(f"class {place} is none of 0 to {len(names) - 1}")
    return names[place]


def answers_of(answers: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the texts of a row's gold answers and where they start, as SQuAD's files hold them.

    Args:
        answers: `text` and `answer_start`; null, or with null or blank texts alone, if the row has no label.
    """
    texts, starts = ((answers or {}).get(name) or () for name in ("text", "answer_start"))
    if not any(text is not None and str(text).strip() for text in texts):
        return (), ()
    return tuple(texts), tuple(starts)


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts and the label of their relation.

    Args:
        first: The first text.
        second: The second text; an empty one is still read as the second of a pair. None if the task reads
            single texts (`single_text`).
        label: The label's name or its index in the task's `labels`; null, -1, or a text that is empty or -1,
            if the row has none.
        id: The data set's own name of the row, where it has one.
    """

    first: str
    second: str | None
    label: str | int
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        if not isinstance(self.label, str) and is_missing(self.label):
            object.__setattr__(self, "label", UNLABELLED)
        _check(self, {"first": str, "second": (str, type(None)), "label": (str, int), "id": str})


@dataclass(frozen=True, slots=True)
class Choices:
    """A context and its continuations or answers, one of them right.

    Args:
        context: What every choice is read after.
        choices: The choices, as many in every row of a task.
        label: Index of the right choice, a number or its digits; null, -1, or a text that is empty or -1, if
            the row has none.
        id: The data set's own name of the row, where it has one.
    """

    context: str
    choices: tuple[str, ...]
    label: int
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        label: Any = self.label
        if is_missing(label):
            object.__setattr__(self, "label", UNLABELLED)
        elif isinstance(label, str) and label.strip().isdecimal():
            object.__setattr__(self, "label", int(label))
        _check(self, {"context": str, "choices": str, "label": int, "id": str})


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a passage, answered by spans of it.

    Args:
        question: The question.
        context: The passage.
        answers: Gold answers, verbatim in the passage; empty where the passage has none.
        starts: Character at which each answer starts; the first one is trained on.
        id: The data set's own name of the row.
    """

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse fields of another type, and answers that do not stand where they should."""
        _check(self, {"question": str, "context": str, "answers": str, "starts": int, "id": str})
        if len(self.answers) != len(self.starts):
            raise ValueError(f"{len(self.answers)} answers but {len(self.starts)} starts")
        for answer, start in zip(self.answers, self.starts, strict=True):
            found = self.context[start : start + len(answer)] if start >= 0 else ""
            if found != answer:
                raise ValueError(f"answer {answer!r} is not at character {start}: {found!r} is")


@dataclass(frozen=True, slots=True)
class TaggedWords:
    """A sentence as words with a tag each.

    Args:
        words: The words.
        tags: The name of each word's tag, or the number of a class that the file names; none, or null, -1 or
            an empty text each, if the sentence has no tags.
        id: The data set's own name of the row, where it has one.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse fields of another type, and words without tags."""
        tags: Any = self.tags or ()
        object.__setattr__(
            self, "tags", tuple("" if tag is None or tag == UNLABELLED else tag for tag in tags)
        )
        _check(self, {"words": str, "tags": (str, ClassNumber), "id": str})
        if self.tags and len(self.words) != len(self.tags):
            raise ValueError(f"{len(self.words)} words but {len(self.tags)} tags")


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text, with its translation where it has one.

    Args:
        text: A sentence, a paragraph or a document.
        translation: The same in another language; an empty one is still read as the second of a pair. None
            if the task reads plain text alone.
    """

    text: str
    translation: str | None = None

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        _check(self, {"text": str, "translation": (str, type(None))})


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of one of two texts, some of which translate each other.

    Args:
        text: The sentence.
        side: 0 for the foreign text, 1 for the English one.
        pairs: Ids of the sentence and its translation, tab-separated, for each translation; of a foreign one.
        copies: How often it stands in its text.
        id: The data set's own name of the sentence.
    """

    text: str
    side: int
    pairs: tuple[str, ...]
    copies: int
    id: str

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        _check(self, {"text": str, "side": int, "pairs": str, "copies": int, "id": str})


Example = TextPair | Choices | Question | TaggedWords | Text | Sentence
