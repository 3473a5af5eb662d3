"""The runs that a run builds on. Its encoder may be the folder of an earlier run, and so on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xlt.system.folders import MODEL
from xlt.training.run_folder import RunFolder


def ancestors(encoder: str) -> list[RunFolder]:
    """Return the runs that an encoder comes from, the nearest first; none for an encoder that is no run.

    Args:
        encoder: Value of model.encoder: a name on the hub, an encoder's folder, a run's folder, or model/ in
            it.
    """
    found: list[RunFolder] = []
    while True:
        path = Path(encoder)
        run = RunFolder(path.parent if path.name == MODEL else path)
        seen = {one.path.resolve() for one in found}
        if not run.config.is_file() or run.path.resolve() in seen:
            return found
        found.append(run)
        encoder = run.read_config()["model"]["encoder"]


def first_encoder(encoder: str) -> str:
    """Return the encoder that the first run of the lineage began with."""
    runs = ancestors(encoder)
    return runs[-1].read_config()["model"]["encoder"] if runs else encoder


def lineage(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what dashboards compare runs by: encoder, intermediate tasks, target, volume, seed and parent.

    Args:
        config: The whole config of a run, nested.
    """
    runs = ancestors(config["model"]["encoder"])
    configs = [run.read_config() for run in runs]
    intermediate = next((c for c in [config, *configs] if _phase(c) == "intermediate"), None)
    parent = runs[0] if runs else None
    has_id = parent is not None and parent.wandb_id.is_file()
    return {
        "encoder": configs[-1]["model"]["encoder"] if configs else config["model"]["encoder"],
        "intermediate": "+".join(intermediate["data"]["tasks"]) if intermediate else "none",
        "volume": intermediate["data"].get("volume") if intermediate else 0,
        "target": "+".join(config["data"]["tasks"]) if _phase(config) == "target" else "",
        "seed": config["seed_everything"],
        "parent_run": parent.wandb_id.read_text(encoding="utf-8").strip() if parent and has_id else "",
        "parent_folder": str(parent.path) if parent else "",
    }


def _phase(config: Mapping[str, Any]) -> str:
    """Return the phase of a run."""
    return config.get("wandb", {}).get("job_type", "")
