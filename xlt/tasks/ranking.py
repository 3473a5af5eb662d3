"""Translation ranking: find each sentence's translation among those of the batch.

Feng et al. (2022), https://aclanthology.org/2022.acl-long.62 (LaBSE), section 3.1.
"""

from xlt.data.examples import Text
from xlt.data.sources import Row
from xlt.data.texts import Texts
from xlt.kinds import TranslationRanking


def read(row: Row) -> Text:
    """The sentence and its translation."""
    return Text(row["source"], row["target"])


TASK = TranslationRanking(
    source=Texts(
        "parallel",
        ("source", "target"),
        without=("ted",),  # CC BY-NC-ND: weights trained on it could not be given away
        how_to_get="Write pairs as parallel/<language>-<language>.parquet, columns source and target",
    ),
    read=read,
    licence="that of the text",
    citation="Feng et al. 2022, 2022.acl-long.62",
)
