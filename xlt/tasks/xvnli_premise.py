"""XVNLI with premise text: do a photo and its caption entail a sentence, in 5 languages?

Bugliarello et al. (2022), https://arxiv.org/abs/2201.11732 (IGLUE), whose models read no premise text. On the
hub, 1 of 30 photos of SNLI-VE's training rows is held out as the dev set.
"""

from xlt.data.examples import ImageTextPair
from xlt.data.image_sources import BySplit, FirstOf, Illustrated
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import VisualClassification
from xlt.tasks.snli_ve import LABELS, ROOT
from xlt.tasks.xvnli import LANGUAGES
from xlt.tasks.xvnli import SOURCE as TEST

HUB = Multilingual(Hub("Multimodal-Fatima/SNLI-VE_train"), held_out=30, passage="filename")
SOURCE = FirstOf((ROOT, Illustrated(HUB, only=("en",))))


def read(row: Row) -> ImageTextPair:
    """Return the photo, the premise text and the hypothesis."""
    premise = row["premise"] if "premise" in row else row["caption"]
    return ImageTextPair(premise, row["hypothesis"], row["label"], row.get("pair_id") or "", (row["image"],))


TASK = VisualClassification(
    source=BySplit(train=SOURCE, validation=SOURCE, test=TEST),
    read=read,
    labels=LABELS,
    languages=LANGUAGES,
    only_test=True,
    is_parallel=True,
    mean_without_english=True,
    licence="MIT; texts CC BY-SA 4.0; photos of Flickr for research only",
    citation="Bugliarello et al. 2022, arXiv 2201.11732",
)
