"""PAN-X: names of persons, places and organisations in Wikipedia (WikiAnn), in 40 languages.

Pan et al. (2017), https://aclanthology.org/P17-1178; balanced splits of Rahimi et al. (2019). In
Chinese and Japanese a word is a character.

Sizes: 20,000 train, 100 to 10,000 dev.
"""

from xlt.data.examples import TaggedWords, classes_of
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import XtremeTagging

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
"""Tags in the hub's order."""

LANGUAGES = (
    *("en", "af", "ar", "bg", "bn", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu", "id"),
    *("it", "ja", "jv", "ka", "kk", "ko", "ml", "mr", "ms", "my", "nl", "pt", "ru", "sw", "ta", "te", "th"),
    *("tl", "tr", "ur", "vi", "yo", "zh"),
)


def read(row: Row) -> TaggedWords:
    """Return words and tags. A tag is an index."""
    return TaggedWords(tuple(row["tokens"]), classes_of(row["ner_tags"], TAGS))


TASK = XtremeTagging(
    source=Multilingual(Hub("google/xtreme", "PAN-X.{language}")),
    read=read,
    labels=TAGS,
    languages=LANGUAGES,
    licence="none stated; of Wikipedia, CC BY-SA",
    citation="Pan et al. 2017, P17-1178; Rahimi et al. 2019, P19-1015",
)
