"""XQuAD: SQuAD 1.1 questions about 240 paragraphs, translated into ten languages. Training uses SQuAD 1.1.

Artetxe et al. (2020), https://aclanthology.org/2020.acl-main.421. One set for each language.

Sizes: 1,190 dev and test.
"""

from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub
from xlt.kinds import XtremeQuestions
from xlt.tasks.squad_v1 import read

TASK = XtremeQuestions(
    source=Multilingual(Hub("google/xtreme", "XQuAD.{language}", test="validation")),
    read=read,
    trains_on="squad_v1",
    validates_on="squad_v1",
    languages=("en", "ar", "de", "el", "es", "hi", "ru", "th", "tr", "vi", "zh"),
    only_test=True,
    is_parallel=True,
    licence="CC BY-SA 4.0",
    citation="Artetxe et al. 2020, 2020.acl-main.421",
)
