"""NLVR2: is a sentence true of two photos? In English.

Suhr et al. (2019), https://arxiv.org/abs/1811.00491. The photos of the training rows are not on the hub as
parquet.

Sizes: 86,373 train, 6,982 dev.
"""

from xlt.data.examples import ImageTextPair
from xlt.data.image_sources import Illustrated
from xlt.data.sources import Local, Row
from xlt.kinds import VisualClassification

LABELS = ("false", "true")
SOURCE = Illustrated(
    Local(
        "lil-lab/nlvr2",
        how_to_get="Write the rows of https://github.com/lil-lab/nlvr with the columns sentence, label "
        "(true or false), left_img and right_img (bytes of an image file, or a path beside the file)",
    ),
    columns=("left_img", "right_img"),
)


def read(row: Row) -> ImageTextPair:
    """Return both photos and the sentence. The label may be a truth value, or its name."""
    text, label = row["sentence"] if "sentence" in row else row["hypothesis"], row["label"]
    named = str(label).lower() if isinstance(label, bool | str) else label
    return ImageTextPair(text, None, named, images=(row["left_img"], row["right_img"]))


TASK = VisualClassification(
    source=SOURCE,
    read=read,
    labels=LABELS,
    single_text=True,
    num_images=2,
    licence="CC BY 4.0; photos of the web for research only",
    citation="Suhr et al. 2019, arXiv 1811.00491",
)
