"""Names as a reader knows them, of tasks and languages."""

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
"""Of arms and targets; any other is called by its own name."""

LANGUAGES = {
    "af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kk": "Kazakh", "ko": "Korean",
    "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "my": "Burmese", "nl": "Dutch", "pt": "Portuguese",
    "ru": "Russian", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog",
    "tr": "Turkish", "ur": "Urdu", "vi": "Vietnamese", "yo": "Yoruba", "zh": "Chinese",
}  # fmt: skip
"""English names of XTREME's languages by ISO 639-1."""

ORDER = list(TASKS)


def task(name: str) -> str:
    """A task, or an arm, as a reader knows it."""
    return TASKS.get(name, name)


def language(code: str) -> str:
    """A language in English."""
    return LANGUAGES.get(code, code)


def targets(found: Iterable[str]) -> list[str]:
    """Targets in XTREME's order, each once."""
    return sorted(set(found), key=_place)


def arms(found: Iterable[str]) -> list[str]:
    """Intermediate tasks in one order, each once, the mixture last; without `none`."""
    return sorted(set(found) - {NONE}, key=lambda name: (name == "mixture", *_place(name)))


def _place(name: str) -> tuple[int, str]:
    """What to sort by."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
