"""Task of the measured rows: classification of text pairs with three classes."""

from xlt.data.examples import TextPair
from xlt.data.sources import Hub, Row
from xlt.kinds import Classification


def read(row: Row) -> TextPair:
    """Return both texts of a row and its class."""
    return TextPair(row["first"], row["second"], row["label"])


TASK = Classification(source=Hub("xlt/mixed", "default"), read=read, labels=("0", "1", "2"))
