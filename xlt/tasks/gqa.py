"""GQA: answer a question about an image, in English. The classes are the answers of the training rows.

Hudson and Manning (2019), https://arxiv.org/abs/1902.09506, the balanced questions.

Sizes: 943,000 train, 132,062 dev.
"""

from xlt.data.examples import ImageTextPair
from xlt.data.image_sources import BySplit, Illustrated
from xlt.data.sources import Hub, Row
from xlt.kinds import VisualClassification


def read(row: Row) -> ImageTextPair:
    """Return the image, the question and its answer."""
    return ImageTextPair(row["question"], None, row["answer"], images=(row["image"],))


def questions(split: str) -> Illustrated:
    """Return the questions of a split. Each image stands once, apart from the questions."""
    images = Hub("lmms-lab/GQA", f"{split}_balanced_images", train=split, validation=split)
    rows = Hub("lmms-lab/GQA", f"{split}_balanced_instructions", train=split, validation=split)
    return Illustrated(rows, images=images, on="imageId", image_id="id")


TASK = VisualClassification(
    source=BySplit(train=questions("train"), validation=questions("val")),
    read=read,
    single_text=True,
    has_open_labels=True,
    licence="CC BY 4.0",
    citation="Hudson and Manning 2019, arXiv 1902.09506",
)
