"""Examples: the values that a task's `read` returns. Each type checks its fields when an example is made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xlt.data.class_names import ClassNumber, is_missing
from xlt.data.images import Image, image_of

UNLABELLED = -1
"""Label of a row without a label. Such rows are left out and counted."""


def _check(example: object, expected: dict[str, type | tuple[type, ...]]) -> None:
    """Raise TypeError for the first field whose value is not of the expected type."""
    for name, kind in expected.items():
        value: Any = getattr(example, name)
        items = value if isinstance(value, tuple) else (value,)
        for item in items:
            if not isinstance(item, kind) or isinstance(item, bool):
                raise TypeError(f"{name} must be {_names(kind)}, not {item!r} ({type(item).__name__})")


def _names(kind: type | tuple[type, ...]) -> str:
    """Return the names of types for an error message, such as `text or a whole number`."""
    words = {
        str: "text",
        int: "a whole number",
        ClassNumber: "the number of a class with a name",
        type(None): "None",
    }
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(words[k] for k in kinds)


def classes_of(numbers: Iterable[int | str | None] | None, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes that rows give by number or by name; empty if no word has a class.

    Args:
        numbers: The classes, as numbers or names. For no classes: null, or null, -1 or an empty text for
            each.
        names: Names of the task's classes, in its order. If the file names its classes, the names decide.

    Raises:
        ValueError: A number is out of range, some words have no class, or the file has other classes.
    """
    found = tuple(numbers or ())
    if all(is_missing(number) and number not in names for number in found):
        return ()
    return tuple(_class_of(number, names) for number in found)


def _class_of(number: int | str | None, names: Sequence[str]) -> str:
    """Return the name of a class."""
    if isinstance(number, str):
        return number
    place = number.index(names) if isinstance(number, ClassNumber) else number
    if not isinstance(place, int) or not 0 <= place < len(names):
        raise ValueError(f"class {place} is not between 0 and {len(names) - 1}")
    return names[place]


def answers_of(answers: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the texts and the first characters of a row's gold answers, as SQuAD's files hold them.

    Args:
        answers: `text` and `answer_start`. For no answers: null, or only null or blank texts.
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
        second: The second text. An empty text is still read as the second of a pair. None if the task reads
            single texts (`single_text`).
        label: The label's name or its index in the task's `labels`. For no label: null, -1, or a text that is
            empty or -1.
        id: The data set's own id of the row. Defaults to none.
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
class ImageTextPair(TextPair):
    """One or two texts about images, and the label of their relation.

    Args:
        images: The images, in the order in which the encoder reads them. Each may be an Image, the bytes of
            an image file, a struct of bytes and path, or a path. Defaults to none.
    """

    images: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        """Refuse fields of another type, and make Images of the images."""
        TextPair.__post_init__(self)
        object.__setattr__(self, "images", tuple(map(image_of, self.images)))


@dataclass(frozen=True, slots=True)
class ImageCaption:
    """An image and a text that describes it.

    Args:
        image: The image: an Image, the bytes of an image file, a struct of bytes and path, or a path.
        text: The caption.
        id: The data set's own id of the row. Defaults to none.
    """

    image: Image
    text: str
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse fields of another type, and make an Image of the image."""
        object.__setattr__(self, "image", image_of(self.image))
        _check(self, {"text": str, "id": str})

    @property
    def images(self) -> tuple[Image, ...]:
        """The image, as a tuple."""
        return (self.image,)


@dataclass(frozen=True, slots=True)
class Choices:
    """A context and its continuations or answers, of which one is right.

    Args:
        context: The text before every choice.
        choices: The choices. Every row of a task has the same number.
        label: Index of the right choice, as a number or its digits. For no label: null, -1, or a text that is
            empty or -1.
        id: The data set's own id of the row. Defaults to none.
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
        answers: Gold answers, verbatim in the passage. Empty if the passage has no answer.
        starts: Index of the first character of each answer. Training uses the first answer.
        id: The data set's own id of the row. Defaults to none.
    """

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    id: str = ""

    def __post_init__(self) -> None:
        """Refuse fields of another type, and answers that are not at their place in the passage."""
        _check(self, {"question": str, "context": str, "answers": str, "starts": int, "id": str})
        if len(self.answers) != len(self.starts):
            raise ValueError(f"{len(self.answers)} answers but {len(self.starts)} starts")
        for answer, start in zip(self.answers, self.starts, strict=True):
            found = self.context[start : start + len(answer)] if start >= 0 else ""
            if found != answer:
                raise ValueError(f"answer {answer!r} is not at character {start}: {found!r} is")


@dataclass(frozen=True, slots=True)
class TaggedWords:
    """A sentence as words, each with a tag.

    Args:
        words: The words.
        tags: The name of each word's tag, or the number of a class that the file names. For no tags: nothing,
            or null, -1 or an empty text for each word.
        id: The data set's own id of the row. Defaults to none.
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
    """Plain text, or a text with its translation.

    Args:
        text: A sentence, a paragraph or a document.
        translation: The translation. An empty text is still read as the second of a pair. None if the task
            reads only plain text.
    """

    text: str
    translation: str | None = None

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        _check(self, {"text": str, "translation": (str, type(None))})


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of one of two languages, which may have a translation in the other.

    Args:
        text: The sentence.
        side: 0 for the foreign language, 1 for English.
        pairs: Ids of a foreign sentence and of each translation, separated by a tab. Empty for English.
        copies: Number of times that the sentence occurs in its file.
        id: The data set's own id of the sentence.
    """

    text: str
    side: int
    pairs: tuple[str, ...]
    copies: int
    id: str

    def __post_init__(self) -> None:
        """Refuse fields of another type."""
        _check(self, {"text": str, "side": int, "pairs": str, "copies": int, "id": str})


Example = TextPair | ImageTextPair | ImageCaption | Choices | Question | TaggedWords | Text | Sentence
