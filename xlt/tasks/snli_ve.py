"""SNLI-VE: does a photo entail a sentence? Three classes, in English.

Xie et al. (2019), https://arxiv.org/abs/1901.06706. A data root may hold `xvnli_train.parquet` and
`xvnli_validation.parquet` instead, with their photos in `flickr/train.parquet`.

Sizes: 529,527 train, 17,858 dev.
"""

from xlt.data.examples import ImageTextPair
from xlt.data.image_sources import BySplit, FirstOf, Illustrated, RootFile
from xlt.data.sources import Hub, Row
from xlt.kinds import VisualClassification

LABELS = ("entailment", "neutral", "contradiction")
ROOT = Illustrated(RootFile("xvnli_{split}", "language"), images=RootFile("flickr/train"))
SOURCE = FirstOf((ROOT, Illustrated(Hub("Phando/snli-ve-shuffled"))))


def read(row: Row) -> ImageTextPair:
    """Return the photo and the hypothesis. The premise is the photo, not its caption."""
    text = row["hypothesis"] if "hypothesis" in row else row["sentence"]
    label = row["label"] if "label" in row else row["gold_label"]
    return ImageTextPair(text, None, label, row.get("pair_id") or "", images=(row["image"],))


TASK = VisualClassification(
    source=BySplit(train=SOURCE, validation=SOURCE),
    read=read,
    labels=LABELS,
    single_text=True,
    licence="SNLI CC BY-SA 4.0; photos of Flickr for research only",
    citation="Xie et al. 2019, arXiv 1901.06706",
)
