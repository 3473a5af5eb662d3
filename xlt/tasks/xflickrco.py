"""xFlickr&CO: find the photo of a caption, and a caption of a photo, in 8 languages.

Bugliarello et al. (2022), https://arxiv.org/abs/2201.11732 (IGLUE). Training uses English captions of Flickr
photos. A data root may hold `xflickrco.parquet` and `xflickrco_images.parquet`.

Sizes: 2,000 test.
"""

from xlt.data.image_sources import FirstOf, Illustrated, LanguageSplits, RootFile
from xlt.data.sources import Hub
from xlt.kinds import VisualRetrieval
from xlt.tasks.flickr_captions import read

LANGUAGES = ("en", "de", "es", "id", "ja", "ru", "tr", "zh")
ROWS, HUB = RootFile("xflickrco", "language"), LanguageSplits(Hub("floschne/xflickrco"))

TASK = VisualRetrieval(
    source=FirstOf(
        (
            Illustrated(
                ROWS, images=RootFile("xflickrco_images"), texts=dict.fromkeys(LANGUAGES, "captions")
            ),
            Illustrated(HUB, texts=dict.fromkeys(LANGUAGES, "sentences")),
        )
    ),
    read=read,
    trains_on="flickr_captions",
    validates_on="flickr_captions",
    languages=LANGUAGES,
    only_test=True,
    mean_without_english=True,
    licence="CC BY 4.0; photos of Flickr and COCO for research only",
    citation="Bugliarello et al. 2022, arXiv 2201.11732",
)
