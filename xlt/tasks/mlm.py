"""Masked language modelling: predict masked tokens of plain text. Each batch is in one language.

Devlin et al. (2019), https://aclanthology.org/N19-1423; in many languages, Conneau et al. (2020),
https://aclanthology.org/2020.acl-main.747. Each file in a data root is a language. If a
language is named, such as mlm/sw, and no data root has its file, the rows are read from Wikipedia.
"""

from xlt.data.examples import Text
from xlt.data.sources import Hub, Row
from xlt.data.texts import Texts
from xlt.kinds import MaskedLanguageModelling


def read(row: Row) -> Text:
    """Return the text."""
    return Text(row["text"])


TASK = MaskedLanguageModelling(
    source=Texts(
        "mono",
        ("text",),
        without=("ted",),  # CC BY-NC-ND: weights trained on it could not be given away
        how_to_get="Write sentences or documents as mono/<language>.parquet with the column text",
        hub=Hub("wikimedia/wikipedia", "20231101.{language}"),
    ),
    read=read,
    licence="that of the text",
    citation="Devlin et al. 2019, N19-1423",
)
