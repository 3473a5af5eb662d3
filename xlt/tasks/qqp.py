"""QQP: do two questions from Quora ask the same?

Iyer et al. (2017), as in GLUE (Wang et al. 2019, https://arxiv.org/abs/1804.07461).

Sizes: 363,846 train, 40,430 dev.
"""

from xlt.data.examples import TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification


def read(row: Row) -> TextPair:
    """Return the two questions. The label is an index."""
    return TextPair(row["question1"], row["question2"], row["label"])


TASK = Classification(
    source=Hub("nyu-mll/glue", "qqp"),
    read=read,
    labels=("not_duplicate", "duplicate"),
    f1=True,
    licence="Quora's terms of service, non-commercial",
    citation="Iyer et al. 2017; Wang et al. 2019, arXiv 1804.07461",
)
