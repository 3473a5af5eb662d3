"""Display names and order of tasks."""

from collections.abc import Iterable

from xlt.studies.design.nodes import NONE

TASK_NAMES = {
    "none": "no intermediate task", "mixture": "mixture",
    "anli_plus": "ANLI+", "mnli": "MNLI", "qqp": "QQP", "squad_v1": "SQuAD 1.1", "squad_v2": "SQuAD 2.0",
    "hellaswag": "HellaSwag", "ccg": "CCG", "cosmosqa": "Cosmos QA", "commonsenseqa": "CommonsenseQA",
    "siqa": "Social IQa", "copa": "COPA", "mlm": "MLM", "tlm": "TLM",
    "xnli": "XNLI", "pawsx": "PAWS-X", "udpos": "UDPOS", "panx": "PAN-X", "xquad": "XQuAD", "mlqa": "MLQA",
    "tydiqa": "TyDiQA", "bucc2018": "BUCC", "tatoeba": "Tatoeba",
    "xcopa": "XCOPA",
    "captions": "captions", "flickr_captions": "Flickr captions", "snli": "SNLI", "snli_ve": "SNLI-VE",
    "gqa": "GQA", "nlvr2": "NLVR2",
    "xvnli": "XVNLI", "xvnli_premise": "XVNLI with premise", "xgqa": "xGQA", "marvl": "MaRVL",
    "xflickrco": "xFlickr&CO",
}  # fmt: skip
"""Display names of arms and targets; other tasks keep their own names."""

ORDER = list(TASK_NAMES)
"""Order of arms and targets in tables and figures."""


def task_name(name: str) -> str:
    """Return the display name of a task or an arm."""
    return TASK_NAMES.get(name, name)


def sort_targets(found: Iterable[str]) -> list[str]:
    """Return the targets in XTREME's order, without repeats."""
    return sorted(set(found), key=_sort_key)


def sort_arms(found: Iterable[str]) -> list[str]:
    """Return the arms in the order of `ORDER`, without repeats and `none`; the mixture comes last."""
    return sorted(set(found) - {NONE}, key=lambda name: (name == "mixture", *_sort_key(name)))


def _sort_key(name: str) -> tuple[int, str]:
    """Return the key to sort a name by: known names first."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
