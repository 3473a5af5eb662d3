"""Tatoeba: find the translation of each of up to 1,000 English sentences, in 36 languages, without training.

Artetxe and Schwenk (2019), https://arxiv.org/abs/1812.10464, section 4.3. One set for each language.

Sizes: up to 1,000 dev and test.
"""

from xlt.data.examples import Text
from xlt.data.languages import tatoeba_code
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import TranslationRetrieval

LANGUAGES = (
    *("af", "ar", "bg", "bn", "de", "el", "es", "et", "eu", "fa", "fi", "fr", "he", "hi", "hu", "id", "it"),
    *("ja", "jv", "ka", "kk", "ko", "ml", "mr", "nl", "pt", "ru", "sw", "ta", "te", "th", "tl", "tr", "ur"),
    *("vi", "zh"),
)
NAMES = {code: tatoeba_code(code) for code in LANGUAGES}


def read(row: Row) -> Text:
    """Return the sentence and its English translation."""
    return Text(*((row[side] or "").strip() for side in ("source_sentence", "target_sentence")))


TASK = TranslationRetrieval(
    source=Multilingual(Hub("google/xtreme", "tatoeba.{language}", test="validation"), NAMES),
    read=read,
    languages=LANGUAGES,
    only_test=True,
    licence="CC BY 2.0 FR",
    citation="Artetxe and Schwenk 2019, arXiv 1812.10464",
)
