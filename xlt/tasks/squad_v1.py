"""SQuAD 1.1: the span of a Wikipedia paragraph that answers a question.

Rajpurkar et al. (2016), https://aclanthology.org/D16-1264.

Sizes: 87,599 train, 10,570 dev.
"""

from xlt.data.examples import Question, answers_of
from xlt.data.sources import Hub, Row
from xlt.kinds import SpanExtraction


def read(row: Row) -> Question:
    """Return a question, its paragraph, and the annotators' answers."""
    texts, starts = answers_of(row["answers"])
    return Question(row["question"], row["context"], texts, starts, row["id"])


TASK = SpanExtraction(
    source=Hub("rajpurkar/squad", "plain_text"),
    read=read,
    licence="CC BY-SA 4.0",
    citation="Rajpurkar et al. 2016, D16-1264",
)
