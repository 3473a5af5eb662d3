"""Private parts of datasets, read in version 5.2: the only module of xlt that touches them."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


def fingerprint_of(dataset: "Dataset") -> str:
    """Return the hash by which datasets' own cache knows the rows; no public attribute has it."""
    return dataset._fingerprint


def revision_of(dataset: "Dataset") -> str | None:
    """Return the commit that `datasets` downloaded, from its record of checksums; None if it has none."""
    for url in dataset.info.download_checksums or {}:
        found = re.search(r"@([0-9a-f]{40})/", str(url))
        if found:
            return found.group(1)
    return None
