"""CommonsenseQA: which of five concepts answers a question that needs common sense?

Talmor et al. (2019), https://aclanthology.org/N19-1421.

Sizes: 9,741 train, 1,221 dev.
"""

from xlt.data.class_names import is_missing, name_of
from xlt.data.examples import UNLABELLED, Choices
from xlt.data.sources import Hub, Row
from xlt.kinds import MultipleChoice


def read(row: Row) -> Choices:
    """Return the question and its answers. The key is a letter; an empty key marks a missing label."""
    choices, key = row["choices"], name_of(row["answerKey"])
    label = choices["label"].index(key) if not is_missing(key) else UNLABELLED
    return Choices(row["question"], tuple(choices["text"]), label, row["id"])


TASK = MultipleChoice(
    source=Hub("tau/commonsense_qa", "default"),
    read=read,
    num_choices=5,
    licence="MIT",
    citation="Talmor et al. 2019, N19-1421",
)
