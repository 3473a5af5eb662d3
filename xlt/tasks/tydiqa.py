"""TyDiQA-GoldP: questions about Wikipedia, asked in nine languages, none translated. Training is in English.

Clark et al. (2020), https://aclanthology.org/2020.tacl-1.30. One set is the dev and the test set. The passage
is given. There is no English dev split: one training passage in ten is used.

Sizes: 3,696 train.
"""

from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import XtremeQuestions
from xlt.tasks.squad_v1 import read

NAMES = {
    "en": "english", "ar": "arabic", "bn": "bengali", "fi": "finnish", "id": "indonesian", "ko": "korean",
    "ru": "russian", "sw": "swahili", "te": "telugu",
}  # fmt: skip


def language_of(row: Row) -> str:
    """Return the row's language, with which its id begins."""
    return row["id"].partition("-")[0]


TASK = XtremeQuestions(
    source=Multilingual(Hub("google/xtreme", "tydiqa", test="validation"), NAMES, language_of, held_out=10),
    read=read,
    languages=tuple(NAMES),
    only_test=True,
    licence="Apache 2.0",
    citation="Clark et al. 2020, 2020.tacl-1.30",
)
