"""MLQA: questions about Wikipedia passages in seven languages. Training uses SQuAD 1.1.

Lewis et al. (2020), https://aclanthology.org/2020.acl-main.653.

Sizes: 500 to 1,148 dev, 4,517 to 11,590 test.
"""

from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub
from xlt.kinds import XtremeQuestions
from xlt.tasks.squad_v1 import read

TASK = XtremeQuestions(
    source=Multilingual(Hub("google/xtreme", "MLQA.{language}.{language}")),
    read=read,
    by_language=True,
    trains_on="squad_v1",
    validates_on="squad_v1",
    languages=("en", "ar", "de", "es", "hi", "vi", "zh"),
    licence="CC BY-SA 3.0",
    citation="Lewis et al. 2020, 2020.acl-main.653",
)
