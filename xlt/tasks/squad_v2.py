"""SQuAD 2.0: SQuAD 1.1 and as many questions again that the paragraph does not answer.

Rajpurkar et al. (2018), https://aclanthology.org/P18-2124. 130,319 train, 11,873 dev.
"""

from xlt.data.examples import Question
from xlt.data.sources import Hub, Row
from xlt.kinds import SpanExtraction


def read(row: Row) -> Question:
    """A question, its paragraph, and the annotators' answers, none where there is no answer."""
    answers = row["answers"]
    texts, starts = tuple(answers["text"]), tuple(answers["answer_start"])
    return Question(row["question"], row["context"], texts, starts, row["id"])


TASK = SpanExtraction(
    source=Hub("rajpurkar/squad_v2", "squad_v2"),
    read=read,
    null_threshold=0.0,
    licence="CC BY-SA 4.0",
    citation="Rajpurkar et al. 2018, P18-2124",
)
