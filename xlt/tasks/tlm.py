"""Translation language modelling: predict masked tokens of a sentence and its translation, read together.

Conneau and Lample (2019), https://arxiv.org/abs/1901.07291, section 3.3.
"""

from xlt.data.examples import Text
from xlt.data.sources import Row
from xlt.data.texts import Texts
from xlt.kinds import MaskedLanguageModelling

SOURCE = Texts(
    "parallel",
    ("source", "target"),
    without=("ted",),  # CC BY-NC-ND: weights trained on it could not be given away
    how_to_get="Write pairs as parallel/<language>-<language>.parquet, columns source and target",
)


def read(row: Row) -> Text:
    """Return the sentence and its translation."""
    return Text(row["source"], row["target"])


TASK = MaskedLanguageModelling(
    source=SOURCE,
    read=read,
    with_translation=True,
    head_name="mlm",
    licence="that of the text",
    citation="Conneau and Lample 2019, arXiv 1901.07291",
)
