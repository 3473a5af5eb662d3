"""Private parts of wandb_workspaces, read in version 0.4: the only module of xlt that touches them."""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace


def stored_form(made: "Workspace") -> dict[str, Any]:
    """Return a workspace's panels and settings as W&B stores them."""
    view = made._to_model()
    return json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
