"""Hook of MkDocs: the site has the repository's own paths, so that a link works here and in the site.

Pages of docs/ stay in docs/, and the README is the home page. Files that they link to are added.
"""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

OUTSIDE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "CITATION.cff",
    "encoders/mini/README.md",
    "encoders/mini/loss.png",
    "notebooks/study.ipynb",
    "samples/open/README.md",
    "samples/restricted/README.md",
    "scripts/e5_small.md",
    "scripts/slurm/README.md",
)
"""Files outside docs/ that belong to the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the site's files by their paths in the repository."""
    root = Path(config.config_file_path).parent
    own = [file for file in files if file.src_dir == config.docs_dir]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    pages = [
        File.generated(
            config, f"docs/{file.src_uri}", abs_src_path=file.abs_src_path, inclusion=file.inclusion
        )
        for file in own
    ]
    others = [File.generated(config, name, abs_src_path=str(root / name)) for name in OUTSIDE]
    return Files([*theme, *pages, *others])
