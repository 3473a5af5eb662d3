"""Disk space that the runs of a study need, and the space that is free."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from xlt.studies.design.node_files import Kept, nodes_to_run
from xlt.studies.design.plan import Study
from xlt.system.folders import MODEL, WEIGHTS

RATIO = 4.0
"""Size of a run with its checkpoints, in sizes of its model: weights twice, and two moments of AdamW."""


def gigabytes_left(study: Study) -> dict[Kept, float] | None:
    """Return the gigabytes that the unfinished runs will need at the end, by what is kept of them.

    A run has the size of the largest finished run, or of the encoder's weights if none is finished.

    Returns:
        None if neither is on this disk.
    """
    runs = [node for node in study.nodes.values() if node.phase != "evaluate"]
    names = set(nodes_to_run(study.folder, study.nodes))
    left = [node for node in runs if node.name in names]
    finished = [study.folder / node.name for node in runs if node.name not in names]
    models = [size for path in finished if (size := _size(path / MODEL))] or [_size(Path(study.encoder))]
    model = max(models)
    if not model:
        return None
    whole = max([RATIO * model, *map(_size, finished)])
    intermediate = sum(node.phase == "intermediate" for node in left)
    return {"all": len(left) * whole, "models": len(left) * model, "scores": intermediate * model}


def disk_lines(study: Study, kept: Kept) -> Iterator[str]:
    """Yield a line on the space that the study needs, and a warning if the disk has less.

    Args:
        study: The study.
        kept: What is to be kept of a finished run.
    """
    needs = gigabytes_left(study)
    if needs is None or not needs["all"]:
        return
    place = next(
        path for path in (study.folder.absolute(), *study.folder.absolute().parents) if path.is_dir()
    )
    free = shutil.disk_usage(place).free / 1e9
    sizes = ", ".join(f"{size:,.0f} GB with --keep {name}" for name, size in needs.items())
    yield f"disk: the unfinished runs leave about {sizes}; {place} has {free:,.0f} GB free."
    if needs[kept] > free:
        yield (
            f"This is too little for --keep {kept}: free some space, or keep less. The study stops where the "
            "disk is full, and the same command resumes it."
        )


def _size(folder: Path) -> float:
    """Return the gigabytes of the files in a folder; 0 if it has no weights or is none."""
    files = [(place, name) for place, _, names in os.walk(folder) for name in names]
    size = 0.0
    for place, name in files:
        with suppress(FileNotFoundError):  # a study that runs now deletes files
            size += Path(place, name).stat().st_size / 1e9
    return size if any(name == WEIGHTS for _, name in files) else 0.0
