"""XCOPA: which of two sentences is the more plausible cause or effect, in 11 languages? Training uses COPA.

Ponti et al. (2020), https://aclanthology.org/2020.emnlp-main.185, who train on Social IQa, then on COPA. The
English rows are COPA's, whose test rows have no public labels.

Sizes: 100 dev, 500 test.
"""

from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub
from xlt.kinds import MultipleChoice
from xlt.tasks import copa

TASK = MultipleChoice(
    source=Multilingual(Hub("cambridgeltl/xcopa", "{language}"), english=copa.SOURCE),
    read=copa.read,
    num_choices=2,
    trains_on="copa",
    languages=("en", "et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh"),
    is_parallel=True,
    mean_without_english=True,
    licence="CC BY 4.0",
    citation="Ponti et al. 2020, 2020.emnlp-main.185",
)
