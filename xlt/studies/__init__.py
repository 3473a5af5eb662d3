"""Studies: many runs planned, run and compared as one. They need the extra `study`."""

from importlib.util import find_spec

_lacking = [
    name
    for name in ("snakemake", "statsmodels", "altair", "vl_convert", "wandb_workspaces")
    if find_spec(name) is None
]
if _lacking:
    raise ImportError(f"studies need {', '.join(_lacking)}: in your clone, pip install -e '.[study]'")
