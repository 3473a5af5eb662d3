"""Perturbations of images: `corrupt-fog-3` corrupts them, `no-image` drops them, `other-image` swaps them.

Texts and labels do not change. All draws depend on the seed and the image, so an image is perturbed in the
same way in every row and language.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial, singledispatch
from typing import Any, NamedTuple, TypeVar

from xlt.data.examples import ImageCaption, ImageTextPair
from xlt.data.images import Image
from xlt.data.sampling.order import seed_of
from xlt.evaluation.perturbations import corruption
from xlt.evaluation.perturbations.corruption import KINDS, SEVERITIES, corrupted

E = TypeVar("E")

CORRUPT, NO_IMAGE, OTHER_IMAGE = "corrupt", "no-image", "other-image"

NO_IMAGES = "its examples have no images"
"""Reason why text cannot have a perturbation of images."""

VERSION = 1
"""Version of the code that drops and swaps images. Raise it when a change gives other images."""


class ImageName(NamedTuple):
    """Name of a perturbation of images, in its parts.

    Args:
        kind: `corrupt`, `no-image` or `other-image`.
        corruption: Kind of the corruption. Defaults to none.
        severity: Severity of the corruption, 1 to 5. Defaults to 0, no corruption.
    """

    kind: str
    corruption: str = ""
    severity: int = 0

    @property
    def level(self) -> str:
        """The name, such as `corrupt-fog-3`."""
        return f"{CORRUPT}-{self.corruption}-{self.severity}" if self.corruption else self.kind

    def __str__(self) -> str:
        """Return the name, such as `corrupt-fog-3`."""
        return self.level


def image_name(text: str) -> ImageName | None:
    """Return the perturbation of images with this name; None for a name of another form.

    Raises:
        ValueError: The name begins with `corrupt`, but is not of a kind and a severity; or corrupt-tta is not
            installed.
    """
    if text in (NO_IMAGE, OTHER_IMAGE):
        return ImageName(text)
    if text.partition("-")[0] != CORRUPT:
        return None
    found = re.fullmatch(rf"{CORRUPT}-(\w+)-([{SEVERITIES[0]}-{SEVERITIES[-1]}])", text)
    if not found or found[1] not in KINDS:
        raise ValueError(
            f"perturbations names {text!r}: it must be corrupt-KIND-SEVERITY, such as corrupt-fog-3, with a "
            f"severity of {SEVERITIES[0]} to {SEVERITIES[-1]} and one of the kinds {', '.join(KINDS)}"
        )
    corruption.check_library()
    return ImageName(CORRUPT, found[1], int(found[2]))


@singledispatch
def with_images(example: Any, images: Sequence[Image]) -> Any:  # noqa: ARG001 (for the types below)
    """Return the example with other images.

    Raises:
        TypeError: An example of this type has no images.
    """
    raise TypeError(f"a {type(example).__name__} has no images")


@with_images.register
def _(example: ImageTextPair, images: Sequence[Image]) -> ImageTextPair:
    return replace(example, images=tuple(images))


@with_images.register
def _(example: ImageCaption, images: Sequence[Image]) -> ImageCaption:
    (image,) = images
    return replace(example, image=image)


@dataclass(frozen=True)
class Corruption:
    """Function from an example to the example with corrupted images.

    Args:
        kind: Kind of the corruption, one of KINDS.
        severity: 1 to 5.
        seed: Seed of all draws.
    """

    kind: str
    severity: int
    seed: int

    @property
    def fingerprint(self) -> str:
        """Return a text that differs from that of a corruption with other results."""
        return f"{self} {corruption.definition()}"

    def __call__(self, example: E) -> E:
        """Return the example with corrupted images.

        Raises:
            TypeError: An example of this type has no images.
        """
        return with_images(example, list(map(self.image, getattr(example, "images", ()))))

    def image(self, image: Image) -> Image:
        """Return the corrupted image, which is made when it is read."""
        draws = seed_of(CORRUPT, self.seed, image.key, bits=64)
        read = partial(_read_corrupted, image.read, self.kind, self.severity, draws)
        return Image(seed_of(self.fingerprint, image.key, bits=64), read)


def _read_corrupted(read: Callable[[], bytes], kind: str, severity: int, seed: int) -> bytes:
    """Return the content of a corrupted image's file."""
    return corrupted(read(), kind, severity, seed)


@dataclass(frozen=True)
class NoImage:
    """Function from an example to the example without images."""

    @property
    def fingerprint(self) -> str:
        """Return a text that differs from that of other perturbations."""
        return f"{self} version {VERSION}"

    def __call__(self, example: E) -> E:
        """Return the example without images.

        Raises:
            TypeError: An example of this type has no images.
        """
        return with_images(example, ())


@dataclass(frozen=True)
class OtherImage:
    """Function from an example to the example with other images of the split.

    The distinct images stand in a circle, in an order that their content and the seed draw. Each image of an
    example is replaced by the image that stands N places on. N is the smallest number that gives the example
    none of its own images: always 1 for examples with one image.

    Args:
        seed: Seed of the order.
        rows: Fingerprints of the split's rows.
        read: Function that returns the examples of the split.
    """

    seed: int
    rows: str
    read: Callable[[], Iterable[Any]] = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """Return a text that differs from that of another exchange."""
        return f"{self} version {VERSION}"

    @cached_property
    def circle(self) -> list[Image]:
        """The distinct images of the split, in the order of the circle."""
        images = {image.key: image for example in self.read() for image in example.images}
        return sorted(images.values(), key=lambda image: seed_of(OTHER_IMAGE, self.seed, image.key))

    @cached_property
    def _places(self) -> dict[int, int]:
        """The place of each image in the circle, by its key."""
        return {image.key: place for place, image in enumerate(self.circle)}

    def __call__(self, example: E) -> E:
        """Return the example with other images.

        Raises:
            TypeError: An example of this type has no images.
            ValueError: The split has too few images.
        """
        images: Sequence[Image] = getattr(example, "images", ())
        places, total = [self._places[image.key] for image in images], len(self.circle)
        for step in range(1, total):
            moved = [(place + step) % total for place in places]
            if not set(moved) & set(places):
                return with_images(example, [self.circle[place] for place in moved])
        raise ValueError(
            f"other-image: the split has {total} distinct images, too few to give the row others than its "
            f"own {len(set(places))}. Take other-image out of perturbations"
        )


def why_not(name: ImageName, examples: Iterable[Any]) -> str:
    """Return the reason why images of examples cannot be perturbed; an empty text if they can.

    Args:
        name: The perturbation.
        examples: The examples of a split, which are read only as far as needed.
    """
    seen: set[int] = set()
    most = 0
    for example in examples:
        if not getattr(example, "images", ()):
            return NO_IMAGES
        if isinstance(example, ImageCaption) and name.kind == NO_IMAGE:
            return "captions are matched with images, so there is nothing to match without images"
        if isinstance(example, ImageCaption) and name.kind == OTHER_IMAGE:
            return (
                "the right answer to a caption is its own image. With another image no answer is right, and "
                "the score says nothing about the model"
            )
        if name.kind != OTHER_IMAGE:
            return ""
        keys = {image.key for image in example.images}
        seen |= keys
        most = max(most, len(keys))
        if len(seen) > most * (most - 1) + 1:  # some shift gives no own image
            return ""
    if name.kind != OTHER_IMAGE:
        return ""
    return f"its rows have {len(seen)} distinct image(s), too few for another image in every row"
