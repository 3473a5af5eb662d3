"""Studies whose nodes run a script and compute nothing."""

from pathlib import Path

import pytest

from xlt.studies.design.nodes import Node
from xlt.studies.run import engine

PROFILE = "profile"
"""Profile of the engine: with one, nodes are started without a launcher."""


def run_script(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every node run a module with this text; the working directory becomes the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{engine.SNAKEFILE.parents[3]}")
    monkeypatch.setattr(Node, "module", "scripted")
    (folder / "scripted.py").write_text(text)
    (folder / PROFILE).mkdir()
    (folder / PROFILE / "config.yaml").write_text("cores: 1\n")
