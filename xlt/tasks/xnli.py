"""XNLI: does a sentence entail another, in 15 languages? Training uses MNLI.

Conneau et al. (2018), https://aclanthology.org/D18-1269.

Sizes: 2,490 dev, 5,010 test.
"""

from xlt.data.examples import TextPair
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import XtremeClassification


def read(row: Row) -> TextPair:
    """Return premise and hypothesis. The label is a name."""
    return TextPair(row["sentence1"], row["sentence2"], row["gold_label"])


def language_of(row: Row) -> str:
    """Return the row's language."""
    return row["language"]


TASK = XtremeClassification(
    source=Multilingual(Hub("google/xtreme", "XNLI"), language_of=language_of),
    read=read,
    labels=("entailment", "neutral", "contradiction"),
    trains_on="mnli",
    languages=("en", "ar", "bg", "de", "el", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"),
    is_parallel=True,
    licence="CC BY-NC 4.0",
    citation="Conneau et al. 2018, D18-1269",
)
