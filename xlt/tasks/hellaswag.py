"""HellaSwag: which of four endings continues a description of an everyday event?

Zellers et al. (2019), https://aclanthology.org/P19-1472.

Sizes: 39,905 train, 10,042 dev.
"""

from xlt.data.examples import Choices
from xlt.data.sources import Hub, Row
from xlt.kinds import MultipleChoice


def read(row: Row) -> Choices:
    """Return the context and its endings. The label is a number as text; an empty text means no label."""
    return Choices(row["ctx"], tuple(row["endings"]), row["label"])


TASK = MultipleChoice(
    source=Hub("Rowan/hellaswag", "default"),
    read=read,
    num_choices=4,
    licence="MIT",
    citation="Zellers et al. 2019, P19-1472",
)
