"""Captions of Flickr photos: find the photo of a caption, and a caption of a photo, in 4 languages.

Young et al. (2014), https://aclanthology.org/Q14-1006 (English); Multi30k, Elliott et al. (2016, 2017) and
Barrault et al. (2018), https://aclanthology.org/W16-3210 (German, French, Czech). A data root may hold
`flickr/{train,validation,test}.parquet` with image, captions_en, caption_de, caption_fr and caption_cs. The
hub has the English captions. Each caption is an example.

Sizes: 145,000 train, 5,070 dev, 5,000 test.
"""

from xlt.data.examples import ImageCaption
from xlt.data.image_rows import CAPTION
from xlt.data.image_sources import FirstOf, Illustrated, RootFile
from xlt.data.sources import Hub, Row
from xlt.kinds import VisualRetrieval

COLUMNS = {"en": "captions_en", "de": "caption_de", "fr": "caption_fr", "cs": "caption_cs"}
HUB = Hub("umaru97/flickr30k_train_val_test", validation="val")


def read(row: Row) -> ImageCaption:
    """Return the photo and the caption."""
    return ImageCaption(row["image"], row[CAPTION])


TASK = VisualRetrieval(
    source=FirstOf(
        (Illustrated(RootFile("flickr/{split}"), texts=COLUMNS), Illustrated(HUB, texts={"en": "caption"}))
    ),
    read=read,
    languages=tuple(COLUMNS),
    mean_without_english=True,
    licence="captions CC BY 3.0 and for research; photos of Flickr for research only",
    citation="Young et al. 2014, Q14-1006; Elliott et al. 2016, W16-3210",
)
