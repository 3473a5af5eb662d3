"""The measured rows as a task: three classes for a pair of texts."""

from xlt.data.examples import TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification


def read(row: Row) -> TextPair:
    """Return both texts and the class."""
    return TextPair(row["first"], row["second"], row["label"])


TASK = Classification(source=Hub("xlt/mixed", "default"), read=read, labels=("0", "1", "2"))
