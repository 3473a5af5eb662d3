"""Hide the messages of the measured systems. A benchmark then prints only its tables."""

import logging
import warnings

import transformers
from datasets import disable_progress_bars


def quiet() -> None:
    """Hide warnings, progress bars and log messages of libraries in this process. Errors stay visible."""
    warnings.filterwarnings("ignore")
    disable_progress_bars()
    for name in ("lightning.pytorch", "lightning.fabric", "transformers", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
