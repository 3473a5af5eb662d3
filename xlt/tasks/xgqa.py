"""xGQA: answer a question about an image, in 8 languages, in English words. Training uses GQA.

Pfeiffer et al. (2022), https://arxiv.org/abs/2109.06082, as in IGLUE, Bugliarello et al. (2022),
https://arxiv.org/abs/2201.11732.

Sizes: 9,666 test.
"""

from xlt.data.image_sources import Illustrated, LanguageSplits
from xlt.data.sources import Hub
from xlt.kinds import VisualClassification
from xlt.tasks.gqa import read

LANGUAGES = ("en", "bn", "de", "id", "ko", "pt", "ru", "zh")

TASK = VisualClassification(
    source=Illustrated(LanguageSplits(Hub("floschne/xgqa")), only=LANGUAGES),
    read=read,
    single_text=True,
    has_open_labels=True,
    trains_on="gqa",
    validates_on="gqa",
    languages=LANGUAGES,
    only_test=True,
    is_parallel=True,
    mean_without_english=True,
    licence="CC BY 4.0",
    citation="Pfeiffer et al. 2022, arXiv 2109.06082",
)
