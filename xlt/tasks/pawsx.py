"""PAWS-X: do two sentences with many common words have the same meaning, in seven languages?

Yang et al. (2019), https://aclanthology.org/D19-1382.

Sizes: 49,401 train, 2,000 dev and test.
"""

from xlt.data.examples import TextPair
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import XtremeClassification


def read(row: Row) -> TextPair:
    """Return two sentences. The label is 1 or "1" if they mean the same. Some copies of the set have ids."""
    name = "" if row.get("id") is None else str(row["id"])
    return TextPair(row["sentence1"], row["sentence2"], row["label"], name)


TASK = XtremeClassification(
    source=Multilingual(Hub("google/xtreme", "PAWS-X.{language}")),
    read=read,
    labels=("0", "1"),
    languages=("en", "de", "es", "fr", "ja", "ko", "zh"),
    is_parallel=True,
    licence="free for any use, with attribution",
    citation="Yang et al. 2019, D19-1382",
)
