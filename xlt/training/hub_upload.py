"""Upload of an exported folder to the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
)
from huggingface_hub.utils import validate_repo_id


def check_hub_name(name: str) -> None:
    """Check the form of a model's name on the hub.

    Args:
        name: The name, such as me/udpos.

    Raises:
        ValueError: The name has another form.
    """
    try:
        validate_repo_id(name)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"push_to_hub is {name!r}, which is no name of a model ({first}). Use OWNER/NAME, as in me/udpos"
        ) from error


def push(folder: Path, name: str, is_private: bool) -> str:
    """Upload a folder as a model, and return its address. The model is created if there is none.

    Args:
        folder: The folder.
        name: Name of the model on the hub, such as me/udpos.
        is_private: True to make a new model private.

    Raises:
        OSError: There is no token, the hub cannot be reached, or the hub refuses the upload.
    """
    written = f"{folder} is written, but not uploaded to {name}"
    if get_token() is None:
        raise OSError(f"{written}: there is no token. Set HF_TOKEN, or run `hf auth login`, and export again")
    api = HfApi()
    try:
        api.create_repo(name, private=is_private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload of xlt export")
    except HfHubHTTPError as error:
        reason = error.server_message or str(error).strip().splitlines()[0]
        status = error.response.status_code
        raise OSError(
            f"{written}: the hub refused the upload ({status}: {reason}). Check that the token may write to "
            "this model, and export again"
        ) from error
    except ValueError as error:  # the hub found an error in the card's metadata
        raise OSError(f"{written}: the hub refused the upload ({error}). Correct README.md there") from error
    except (HTTPError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise OSError(
            f"{written}: the hub cannot be reached ({first}). Check the network and HF_ENDPOINT, and export "
            "again"
        ) from error
    return f"{api.endpoint}/{name}"
