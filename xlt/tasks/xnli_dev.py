"""XNLI's dev rows as training rows in 15 languages, such as `xnli_dev/de`: few rows for meta-learning.

Conneau et al. (2018), https://aclanthology.org/D18-1269. X-MAML trains on these rows after MNLI
(Nooralahzadeh et al. 2020, https://arxiv.org/abs/2003.02739).

Sizes: 2,268 train, 222 dev (English). The held-out premises are drawn in each language.
"""

from xlt.data.examples import TextPair
from xlt.data.multilingual import Multilingual
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification
from xlt.tasks.xnli import language_of


def read(row: Row) -> TextPair:
    """Return premise and hypothesis. The label is a name."""
    return TextPair(row["sentence1"], row["sentence2"], row["gold_label"])


TASK = Classification(
    source=Multilingual(
        Hub("google/xtreme", "XNLI", train="validation"),
        language_of=language_of,
        held_out=10,
        passage="sentence1",
    ),
    read=read,
    labels=("entailment", "neutral", "contradiction"),
    head_name="mnli",
    licence="CC BY-NC 4.0",
    citation="Conneau et al. 2018, D18-1269",
)
