"""CCG supertagging: the lexical category of each word in combinatory categorial grammar.

Hockenmaier and Steedman (2007), https://aclanthology.org/J07-3004.
CCGbank is licensed (LDC2005T13), so the rows are local files with the columns `tokens` and `tags`.

Sizes: 38,015 train, as Phang et al. (2020) count.
"""

from xlt.data.examples import TaggedWords
from xlt.data.sources import Local, Row
from xlt.kinds import Tagging


def read(row: Row) -> TaggedWords:
    """Return words and their categories."""
    return TaggedWords(tuple(row["tokens"]), tuple(row["tags"] or ()))


TASK = Tagging(
    source=Local(
        "ccg",
        "CCGbank is licensed (LDC2005T13): write its sections 02-21 as train.parquet and 00 as "
        "validation.parquet, columns tokens and tags (lists of text), into that folder",
    ),
    read=read,
    licence="LDC, licensed; not on the hub",
    citation="Hockenmaier and Steedman 2007, J07-3004",
)
