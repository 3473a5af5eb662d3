"""BUCC 2018: find the translations among sentences of English and of another language, without training.

Zweigenbaum et al. (2018), https://comparable.limsi.fr/bucc2018. XTREME's files hold all sentences of both
languages. The hub's copy has only the gold pairs.
"""

from xlt.data.examples import Sentence
from xlt.data.sentence_files import SentenceFiles
from xlt.data.sources import Row
from xlt.kinds import BitextMining


def read(row: Row) -> Sentence:
    """Return a sentence of either language."""
    return Sentence(row["text"], row["side"], tuple(row["pairs"]), row["copies"], row["id"])


TASK = BitextMining(
    source=SentenceFiles(
        "bucc2018",
        "XTREME's scripts/download_data.sh fetches them (download/bucc2018): put the folder in a data root. "
        "It deletes the gold pairs of the test sets, de-en.test.gold: BUCC has them as de-en.training.gold",
    ),
    read=read,
    languages=("de", "fr", "ru", "zh"),
    licence="BUCC 2018 shared task, for research",
    citation="Zweigenbaum et al. 2018",
)
