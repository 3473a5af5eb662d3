"""SQuAD 2.0: the questions of SQuAD 1.1, and about half as many that the paragraph does not answer.

Rajpurkar et al. (2018), https://aclanthology.org/P18-2124.

Sizes: 130,319 train, 11,873 dev.
"""

from xlt.data.examples import Question
from xlt.data.sources import Hub, Row
from xlt.kinds import SpanExtraction
from xlt.tasks import squad_v1


def read(row: Row) -> Question:
    """Return a question. Empty answers mean that the paragraph has no answer."""
    if row["answers"] is None:
        raise ValueError("answers is null: an empty list of answers says that the question has no answer")
    return squad_v1.read(row)


TASK = SpanExtraction(
    source=Hub("rajpurkar/squad_v2", "squad_v2"),
    read=read,
    null_threshold=0.0,
    licence="CC BY-SA 4.0",
    citation="Rajpurkar et al. 2018, P18-2124",
)
