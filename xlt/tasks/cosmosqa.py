"""Cosmos QA: which of four answers fits a narrative and a question about its unstated content?

Huang et al. (2019), https://aclanthology.org/D19-1243.

Sizes: 25,262 train, 2,985 dev. Phang et al. (2020) count 25,588 training examples.
"""

from xlt.data.examples import Choices
from xlt.data.sources import Hub, Row
from xlt.kinds import MultipleChoice


def read(row: Row) -> Choices:
    """Return the narrative as context. Each choice is the question with an answer."""
    answers = tuple(row["question"] + " " + row[f"answer{i}"] for i in range(4))
    return Choices(row["context"], answers, row["label"], row["id"])


TASK = MultipleChoice(
    source=Hub("allenai/cosmos_qa", "default"),
    read=read,
    num_choices=4,
    licence="CC BY 4.0",
    citation="Huang et al. 2019, D19-1243",
)
