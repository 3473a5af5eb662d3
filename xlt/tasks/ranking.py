"""Translation ranking: find each sentence's translation among the translations of the micro-batch.

Feng et al. (2022), https://aclanthology.org/2022.acl-long.62 (LaBSE), section 3.1.
"""

from xlt.kinds import TranslationRanking
from xlt.tasks.tlm import SOURCE, read

TASK = TranslationRanking(
    source=SOURCE,
    read=read,
    licence="that of the text",
    citation="Feng et al. 2022, 2022.acl-long.62",
)
