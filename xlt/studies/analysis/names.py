"""Names of tasks for readers."""

from collections.abc import Iterable

from xlt.studies.design.targets import NONE

TASKS = {
    "none": "no intermediate task", "mixture": "mixture",
    "anli_plus": "ANLI+", "mnli": "MNLI", "qqp": "QQP", "squad_v1": "SQuAD 1.1", "squad_v2": "SQuAD 2.0",
    "hellaswag": "HellaSwag", "ccg": "CCG", "cosmosqa": "Cosmos QA", "commonsenseqa": "CommonsenseQA",
    "mlm": "MLM", "tlm": "TLM",
    "xnli": "XNLI", "pawsx": "PAWS-X", "udpos": "UDPOS", "panx": "PAN-X", "xquad": "XQuAD", "mlqa": "MLQA",
    "tydiqa": "TyDiQA", "bucc2018": "BUCC", "tatoeba": "Tatoeba",
}  # fmt: skip
"""Names of arms and targets; another task is shown by its own name."""

ORDER = list(TASKS)


def task(name: str) -> str:
    """Return the name of a task or an arm."""
    return TASKS.get(name, name)


def targets(found: Iterable[str]) -> list[str]:
    """Return targets in XTREME's order, each once."""
    return sorted(set(found), key=_place)


def arms(found: Iterable[str]) -> list[str]:
    """Return intermediate tasks in one order, each once, the mixture last; without `none`."""
    return sorted(set(found) - {NONE}, key=lambda name: (name == "mixture", *_place(name)))


def _place(name: str) -> tuple[int, str]:
    """Return the key to sort a task by."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
