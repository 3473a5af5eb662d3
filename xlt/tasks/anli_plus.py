"""ANLI+: MNLI, SNLI and the three rounds of adversarial NLI as one task.

Nie et al. (2020), https://aclanthology.org/2020.acl-main.441; Phang et al. (2020) train on all three sets
together: 392,702 rows of MNLI, 549,367 labelled rows of SNLI, 162,865 rows of ANLI.

Sizes: 1,104,934 train.
"""

from xlt.data.examples import TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification


def read(row: Row) -> TextPair:
    """Return premise and hypothesis. The three sets have the same numbers for the same labels."""
    return TextPair(row["premise"], row["hypothesis"], row["label"])


TASK = Classification(
    source=(
        Hub("nyu-mll/glue", "mnli", validation="validation_matched"),
        Hub("stanfordnlp/snli", "plain_text"),
        Hub(
            "facebook/anli",
            "plain_text",
            train=("train_r1", "train_r2", "train_r3"),
            validation=("dev_r1", "dev_r2", "dev_r3"),
        ),
    ),
    read=read,
    labels=("entailment", "neutral", "contradiction"),
    licence="MNLI mixed; SNLI CC BY-SA 4.0; ANLI CC BY-NC 4.0",
    citation="Nie et al. 2020, 2020.acl-main.441; Bowman et al. 2015, D15-1075",
)
