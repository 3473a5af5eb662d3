"""Private parts of datasets, read in version 5.2: the only module of xlt that touches them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


def fingerprint_of(dataset: "Dataset") -> str:
    """Return the hash by which datasets' own cache knows the rows; no public attribute has it."""
    return dataset._fingerprint
