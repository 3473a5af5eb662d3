"""Description of the machine and of the library versions behind a result."""

import platform
from datetime import date
from typing import Any

import torch
import transformers


def machine() -> dict[str, Any]:
    """Return the date, the CPU with its threads and instructions, and the versions of the libraries."""
    return {
        "date": date.today().isoformat(),
        "device": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
