"""Tatoeba: find the translation of each of up to 1,000 English sentences, in 36 languages, without training.

Artetxe and Schwenk (2019), https://arxiv.org/abs/1812.10464, section 4.3. One set a language.
"""

from xlt.data.examples import Text
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import TranslationRetrieval

ISO3 = {
    "af": "afr", "ar": "ara", "bg": "bul", "bn": "ben", "de": "deu", "el": "ell", "es": "spa", "et": "est",
    "eu": "eus", "fa": "pes", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind",
    "it": "ita", "ja": "jpn", "jv": "jav", "ka": "kat", "kk": "kaz", "ko": "kor", "ml": "mal", "mr": "mar",
    "nl": "nld", "pt": "por", "ru": "rus", "sw": "swh", "ta": "tam", "te": "tel", "th": "tha", "tl": "tgl",
    "tr": "tur", "ur": "urd", "vi": "vie", "zh": "cmn",
}  # fmt: skip


def read(row: Row) -> Text:
    """Return the sentence and its English translation."""
    return Text(*((row[side] or "").strip() for side in ("source_sentence", "target_sentence")))


TASK = TranslationRetrieval(
    source=Multilingual(Hub("google/xtreme", "tatoeba.{language}", test="validation"), ISO3),
    read=read,
    languages=tuple(ISO3),
    only_test=True,
    licence="CC BY 2.0 FR",
    citation="Artetxe and Schwenk 2019, arXiv 1812.10464",
)
