"""The systems' own messages, which a benchmark's tables do without."""

import logging
import warnings

import transformers
from datasets import disable_progress_bars


def quiet() -> None:
    """Leave them out, in this process."""
    warnings.filterwarnings("ignore")
    disable_progress_bars()
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
