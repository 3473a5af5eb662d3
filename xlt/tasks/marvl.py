"""MaRVL: is a sentence true of two photos, in 5 languages? Training, and the test in English, use NLVR2.

Liu et al. (2021), https://aclanthology.org/2021.emnlp-main.818, as in IGLUE, Bugliarello et al. (2022),
https://arxiv.org/abs/2201.11732.

Sizes: 1,012 to 1,242 test.
"""

from xlt.data.image_sources import FirstOf, Illustrated, LanguageSplits
from xlt.data.sources import Hub
from xlt.kinds import VisualClassification
from xlt.tasks import nlvr2

OTHERS = ("id", "sw", "ta", "tr", "zh")
SOURCE = Illustrated(LanguageSplits(Hub("floschne/marvl")), columns=("left_img", "right_img"), only=OTHERS)

TASK = VisualClassification(
    source=FirstOf((SOURCE, nlvr2.SOURCE)),
    read=nlvr2.read,
    labels=nlvr2.LABELS,
    single_text=True,
    num_images=2,
    trains_on="nlvr2",
    validates_on="nlvr2",
    languages=("en", *OTHERS),
    only_test=True,
    mean_without_english=True,
    licence="CC BY 4.0",
    citation="Liu et al. 2021, 2021.emnlp-main.818",
)
