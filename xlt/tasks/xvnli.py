"""XVNLI: does a photo entail a sentence, in 5 languages? Training uses SNLI-VE.

Bugliarello et al. (2022), https://arxiv.org/abs/2201.11732 (IGLUE), whose models read no premise text. A data
root may hold `xvnli.parquet` and `xvnli_images.parquet`.

Sizes: 1,164 test.
"""

from xlt.data.image_sources import FirstOf, Illustrated, LanguageSplits, RootFile
from xlt.data.sources import Hub
from xlt.kinds import VisualClassification
from xlt.tasks.snli_ve import LABELS, read

LANGUAGES = ("en", "ar", "es", "fr", "ru")
SOURCE = FirstOf(
    (
        Illustrated(RootFile("xvnli", "language"), images=RootFile("xvnli_images")),
        Illustrated(LanguageSplits(Hub("floschne/xvnli")), only=LANGUAGES),
    )
)

TASK = VisualClassification(
    source=SOURCE,
    read=read,
    labels=LABELS,
    single_text=True,
    trains_on="snli_ve",
    validates_on="snli_ve",
    languages=LANGUAGES,
    only_test=True,
    is_parallel=True,
    mean_without_english=True,
    licence="MIT; texts CC BY-SA 4.0; photos of Flickr for research only",
    citation="Bugliarello et al. 2022, arXiv 2201.11732",
)
