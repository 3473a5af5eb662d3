"""COPA: which of two sentences is the more plausible cause or effect of a premise? In English.

Roemmele et al. (2011), https://people.ict.usc.edu/~gordon/copa.html; splits of SuperGLUE, Wang et al. (2019),
https://arxiv.org/abs/1905.00537.

Sizes: 400 train, 100 dev.
"""

from xlt.data.examples import Choices
from xlt.data.sources import Hub, Row
from xlt.kinds import MultipleChoice

SOURCE = Hub("aps/super_glue", "copa")

QUESTIONS = {"cause": "What was the CAUSE of this?", "effect": "What happened as a RESULT?"}
"""COPA's own question for each value of the column."""


def read(row: Row) -> Choices:
    """Return the premise with its question, and the two sentences. XCOPA's questions are in English, too."""
    context = f"{row['premise']} {QUESTIONS[row['question']]}"
    return Choices(context, (row["choice1"], row["choice2"]), row["label"], str(row["idx"]))


TASK = MultipleChoice(
    source=SOURCE,
    read=read,
    num_choices=2,
    licence="BSD 2-Clause",
    citation="Roemmele et al. 2011, AAAI Spring Symposium; Wang et al. 2019, arXiv 1905.00537",
)
