"""UDPOS: the part of speech of each word, 17 universal tags, in 33 languages of Universal Dependencies 2.5.

Nivre et al. (2018), http://hdl.handle.net/11234/1-2895; Hu et al. (2020), https://arxiv.org/abs/2003.11080.

Sizes: 21,253 train.
"""

from xlt.data.examples import TaggedWords, classes_of
from xlt.data.languages import names_of
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import XtremeTagging

TAGS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""Tags in the hub's order."""

LANGUAGES = (
    *("en", "af", "ar", "bg", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu", "id", "it"),
    *("ja", "kk", "ko", "mr", "nl", "pt", "ru", "ta", "te", "th", "tl", "tr", "ur", "vi", "yo", "zh"),
)


def read(row: Row) -> TaggedWords:
    """Return words and tags. A tag is an index."""
    return TaggedWords(tuple(row["tokens"]), classes_of(row["pos_tags"], TAGS))


TASK = XtremeTagging(
    source=Multilingual(Hub("google/xtreme", "udpos.{language}"), names=names_of(LANGUAGES)),
    read=read,
    labels=TAGS,
    languages=LANGUAGES,
    licence="Universal Dependencies 2.5, by treebank; mostly CC BY-SA, some non-commercial",
    citation="Nivre et al. 2018; Hu et al. 2020, arXiv 2003.11080",
)
