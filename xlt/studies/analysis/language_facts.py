"""Facts about languages that may explain how much they gain: script, family, pre-training text, distance.

languages.csv               family, branch, and GiB of CC-100 text, with a source for each column
syntactic_distances.csv     distance from English by syntactic features (URIEL+ and Grambank)
"""

# pandas declares its return types too broadly.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from xlt.data.languages import name_of, script_of
from xlt.data.multilingual import ENGLISH

FAMILIES = Path(__file__).parent / "languages.csv"
DISTANCES = Path(__file__).parent / "syntactic_distances.csv"

GERMANIC, OTHER, FAR = "Germanic", "other Indo-European", "not Indo-European"
"""Groups of families, from near to far."""


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of facts by language; lines that begin with # are its sources."""
    text = {"language": str, "family": str, "branch": str}
    return pd.read_csv(path, comment="#", dtype=text, encoding="utf-8").set_index("language")


def facts_of(languages: Iterable[str]) -> pd.DataFrame:
    """Return the facts about each language.

    Args:
        languages: ISO 639-1 codes.

    Returns:
        One line for each language: `same_script` (1 if it is mostly written in the script of English, else
        0), `group` (`Germanic`, `other Indo-European`, `not Indo-European`), `gib` (GiB of CC-100 text) and
        `distance` (syntactic distance from English, 0 to 1). Unknown values are NaN.
    """
    codes = sorted(set(languages))
    table = read_table(FAMILIES).reindex(codes)
    group = np.where(table["branch"] == GERMANIC, GERMANIC, OTHER)
    group = pd.Series(np.where(table["family"] == "Indo-European", group, FAR), codes)
    script = script_of(ENGLISH)
    return pd.DataFrame({
        "same_script": [float(script_of(code) == script) for code in codes],
        "group": group.where(table["family"].notna()),
        "gib": table["cc100_gib"],
        "distance": read_table(DISTANCES)["distance"].reindex(codes),
    }, index=pd.Index(codes, name="language"))  # fmt: skip


LACKING = {"group": "family", "gib": "text in CC-100", "distance": "syntactic distance"}
"""Facts that languages can lack, in words."""


def describe_lacking(facts: pd.DataFrame) -> list[str]:
    """Return a sentence for each fact that languages lack, with the names of the languages."""
    found = []
    for column, words in LACKING.items():
        names = [name_of(str(code)) for code in facts.index[facts[column].isna()]]
        if names:
            found.append(f"No {words} is known for {', '.join(names)}.")
    return found
