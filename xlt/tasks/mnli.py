"""MNLI: does a sentence entail another, contradict it, or neither?

Williams et al. (2018), https://aclanthology.org/N18-1101.

Sizes: 392,702 train, 9,815 dev (matched).
"""

from xlt.data.examples import TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification


def read(row: Row) -> TextPair:
    """Return premise and hypothesis. The label is an index."""
    return TextPair(row["premise"], row["hypothesis"], row["label"])


TASK = Classification(
    source=Hub("nyu-mll/glue", "mnli", validation="validation_matched"),
    read=read,
    labels=("entailment", "neutral", "contradiction"),
    licence="OANC and others, mixed; free for research",
    citation="Williams et al. 2018, N18-1101",
)
