"""The mode of Weights & Biases, the identifiers of its runs, and the address of a run's page."""

import contextlib
import hashlib
import netrc
import os
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

Mode = Literal["online", "offline", "disabled"]

OLDER_NAMES = {"dryrun": "offline", "run": "online"}
"""Older names of the modes."""

PAGE_URL = "wandb_url"
"""File in a run's folder with the address of the run's page. An offline run has none."""


def wandb_mode() -> Mode:
    """Return the mode of Weights & Biases.

    It is WANDB_MODE if set. Otherwise it is online if WANDB_API_KEY or ~/.netrc holds a key, else offline.
    """
    if os.environ.get("WANDB_DISABLED", "").strip().lower() in ("1", "true", "yes", "on"):
        return "disabled"
    chosen = os.environ.get("WANDB_MODE", "").strip().lower()
    if chosen:
        return cast(Mode, OLDER_NAMES.get(chosen, chosen))
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        login = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (FileNotFoundError, netrc.NetrcParseError):
        login = None
    return "online" if login else "offline"


def hashed_run_id(text: str) -> str:
    """Return the identifier of a W&B run: 16 hexadecimal digits of a hash of the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_page_url(folder: Path, run: Any) -> None:
    """Write the address of a run's page into a folder, if the run has a page and the folder is writable.

    Args:
        folder: The folder of the run or of the evaluation.
        run: The run of wandb.
    """
    # wandb warns if an offline run is asked for its address.
    url = None if getattr(run, "offline", False) else getattr(run, "url", None)
    if isinstance(url, str):
        with contextlib.suppress(OSError):
            (folder / PAGE_URL).write_text(url + "\n", encoding="utf-8")


def read_page_url(folder: Path) -> str:
    """Return the address of a run's page, or an empty text if the run has none."""
    path = folder / PAGE_URL
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
