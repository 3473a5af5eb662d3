"""Hashes of files."""

import hashlib
from pathlib import Path

from xlt.system.folders import WEIGHTS, model_folder


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(model: str) -> str:
    """Return a hash of a model's weights, or the model's name if the weights are on the hub.

    Raises:
        FileNotFoundError: The folder has no weights.
    """
    folder = Path(model_folder(model))
    if not folder.is_dir():
        return model
    weights = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
    if not weights:
        raise FileNotFoundError(
            f"{folder} has no weights ({WEIGHTS}). Give an encoder with weights, such as an export of a run "
            "(xlt.export)"
        )
    digest = hashlib.sha256()
    for path in weights:
        digest.update(hash_file(path).encode())
    return digest.hexdigest()
