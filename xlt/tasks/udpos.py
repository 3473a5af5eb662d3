"""UDPOS: the part of speech of each word, 17 universal tags; XTREME's share of Universal Dependencies 2.5.

Nivre et al. (2018), http://hdl.handle.net/11234/1-2895; Hu et al. (2020), https://arxiv.org/abs/2003.11080.
21,253 English training sentences.
"""

from xlt.data.examples import TaggedWords
from xlt.data.sources import Hub, Row
from xlt.kinds import Tagging

TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""In the hub's order."""


def read(row: Row) -> TaggedWords:
    """Words and tags; a tag is an index."""
    return TaggedWords(tuple(row["tokens"]), tuple(TAGS[tag] for tag in row["pos_tags"]))


TASK = Tagging(
    source=Hub("google/xtreme", "udpos.English"),
    read=read,
    labels=TAGS,
    licence="Universal Dependencies 2.5, by treebank; mostly CC BY-SA, some non-commercial",
    citation="Nivre et al. 2018; Hu et al. 2020, arXiv 2003.11080",
)
