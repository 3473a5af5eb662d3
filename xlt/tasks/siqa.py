"""Social IQa: which of three answers fits a question about people's motives and reactions? In English.

Sap et al. (2019), https://aclanthology.org/D19-1454.

Sizes: 33,410 train, 1,954 dev.
"""

from xlt.data.class_names import is_missing
from xlt.data.examples import UNLABELLED, Choices
from xlt.data.sources import Hub, Row
from xlt.kinds import MultipleChoice


def read(row: Row) -> Choices:
    """Return the situation as context. A choice is the question with an answer. Labels count from 1."""
    answers = tuple(f"{row['question']} {row[f'answer{letter}']}" for letter in "ABC")
    label = UNLABELLED if is_missing(row["label"]) else int(row["label"]) - 1
    return Choices(row["context"], answers, label)


TASK = MultipleChoice(
    source=Hub("lighteval/siqa"),
    read=read,
    num_choices=3,
    licence="none stated",
    citation="Sap et al. 2019, D19-1454",
)
