"""The results of a study's finished nodes in one zip file, from which any machine reports or continues it.

<node>/<file>              what the report reads of a node: scores, but no model, checkpoint or text
logs/<node>.json           the seconds that the node took
"""

import io
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from xlt.studies.design.node_files import is_finished, log_path
from xlt.studies.design.plan import Study
from xlt.system.files import write_atomically
from xlt.system.lock import locked
from xlt.system.tables import counted
from xlt.system.wandb_mode import PAGE_URL
from xlt.training.run_folder import check_writable

log = logging.getLogger(__name__)

FILES = ("sources.json", "summary.json", PAGE_URL, "scores/*.json", "example_scores/*.npy", "results.json")
"""Patterns of the files of a node that are archived."""

NODE, NAME = r"(?:intermediate|target|evaluate)-[^/\\]+", r"[^/\\]+"
_FILE = "|".join(re.escape(pattern).replace(r"\*", NAME) for pattern in FILES)
MEMBER = re.compile(rf"(?P<node>{NODE})/(?:{_FILE})|logs/(?P<log>{NODE})\.json")
"""Path of a file in the archive. No other path is written to the disk."""

PATIENCE = 600.0
"""Seconds to wait for another study that writes the archive."""

DATE = (1980, 1, 1, 0, 0, 0)
"""Date of every file in an archive, so that equal results make equal archives."""


def restore(study: Study, archive: Path) -> int:
    """Write the study's archived nodes that its folder lacks; return their number.

    A run that has checkpoints in the folder is left to resume.

    Args:
        study: The study, whose folder may be new.
        archive: The archive. If it does not exist, nothing is restored.

    Raises:
        ValueError: The file is no archive of a study, or it is damaged.
    """
    if not archive.exists():
        return 0
    content = _read(archive)
    known = _nodes(content) & set(study.nodes)
    if content and not known:
        log.warning(
            "archive %s has no node of this study: its nodes have other keys or another encoder. Check "
            "the config and the encoder",
            archive,
        )
    lacking = {
        node
        for node in known
        if not is_finished(study.folder, node) and not (study.folder / node / "checkpoints").is_dir()
    }
    # A node with results.json is finished.
    for name in sorted(content, key=lambda name: PurePosixPath(name).name == "results.json"):
        found = MEMBER.fullmatch(name)
        if found and (found["node"] or found["log"]) in lacking:
            path = study.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content[name])
    return len(lacking)


@contextmanager
def saved(study: Study, archive: Path) -> Iterator[None]:
    """Save the finished nodes when the runs have ended, also after Ctrl-C or an error.

    Args:
        study: The study, whose nodes run meanwhile.
        archive: The archive.

    Raises:
        OSError: The archive cannot be written. It is raised before the first run.
    """
    check_writable(archive.parent, "the folder of the archive", "archive")
    try:
        yield
    finally:
        print(f"{counted(save(study, archive), 'node')} in {archive}")


def save(study: Study, archive: Path) -> int:
    """Write the study's finished nodes into the archive; return the number of its nodes.

    Nodes that are in the archive already stay there, also those of other seeds or of other studies.

    Args:
        study: The study.
        archive: The archive. It is replaced as a whole, or not at all.

    Raises:
        ValueError: The file exists and is no archive of a study, it is damaged, or another process writes it.
        OSError: The file cannot be written.
    """
    with locked(archive.with_name(f".{archive.name}.lock"), PATIENCE, "archive"):
        content = _read(archive) if archive.exists() else {}
        for name in filter(partial(is_finished, study.folder), study.nodes):
            files = [path for pattern in FILES for path in (study.folder / name).glob(pattern)]
            seconds = log_path(study.folder, name, "json")
            for path in [*files, *([seconds] if seconds.is_file() else [])]:
                content[path.relative_to(study.folder).as_posix()] = path.read_bytes()
        write_atomically(archive, _zip(content.items()))
    return len(_nodes(content))


def _read(archive: Path) -> dict[str, bytes]:
    """Return the content of each file of an archive by its path.

    Raises:
        ValueError: The file is no archive of a study, or it is damaged.
    """
    if archive.is_dir():
        raise ValueError(f"archive {archive} is a folder: name a file in it, such as {archive / 'nodes.zip'}")
    try:
        with zipfile.ZipFile(archive) as file:
            content = {name: file.read(name) for name in file.namelist()}
        for name in filter(MEMBER.fullmatch, content):
            if name.endswith(".json"):
                json.loads(content[name])
    except (OSError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"archive {archive} cannot be read ({error}): restore the file from a copy, or name a new one"
        ) from error
    strange = [name for name in content if not MEMBER.fullmatch(name)]
    if strange:
        raise ValueError(
            f"archive {archive} is no archive of a study: it has {strange[0]!r}. Name a file that xlt study "
            "--archive wrote, or a new one"
        )
    return content


def _nodes(content: Collection[str]) -> set[str]:
    """Return the names of the nodes that are finished in an archive, with all files that the report needs."""
    names = {name.removesuffix("/results.json") for name in content if name.endswith("/results.json")}
    needed = {name: "summary" if name.startswith("evaluate-") else "sources" for name in names}
    return {name for name in names if f"{name}/{needed[name]}.json" in content}


def _zip(content: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a zip file of the content, in the order of the paths."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as file:
        for name, data in sorted(content):
            file.writestr(zipfile.ZipInfo(name, DATE), data, zipfile.ZIP_LZMA)
    return buffer.getvalue()
