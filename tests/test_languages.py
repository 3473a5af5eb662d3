"""Languages: the names, codes and scripts on which file names, tables and groups of XTREME depend."""

import pytest

from xlt.data.languages import name_of, script_of, tatoeba_code
from xlt.tasks import load

NAMES = {
    "af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "de": "German", "el": "Greek",
    "en": "English", "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian", "it": "Italian",
    "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kk": "Kazakh", "ko": "Korean",
    "ml": "Malayalam", "mr": "Marathi", "ms": "Malay", "my": "Burmese", "nl": "Dutch", "pt": "Portuguese",
    "ru": "Russian", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai", "tl": "Tagalog",
    "tr": "Turkish", "ur": "Urdu", "vi": "Vietnamese", "yo": "Yoruba", "zh": "Chinese",
}  # fmt: skip
"""English names of XTREME's languages, as its files and papers have them."""

ISO3 = {
    "af": "afr", "ar": "ara", "bg": "bul", "bn": "ben", "de": "deu", "el": "ell", "es": "spa", "et": "est",
    "eu": "eus", "fa": "pes", "fi": "fin", "fr": "fra", "he": "heb", "hi": "hin", "hu": "hun", "id": "ind",
    "it": "ita", "ja": "jpn", "jv": "jav", "ka": "kat", "kk": "kaz", "ko": "kor", "ml": "mal", "mr": "mar",
    "nl": "nld", "pt": "por", "ru": "rus", "sw": "swh", "ta": "tam", "te": "tel", "th": "tha", "tl": "tgl",
    "tr": "tur", "ur": "urd", "vi": "vie", "zh": "cmn",
}  # fmt: skip
"""Tatoeba's codes."""

SCRIPTS = {
    "Latn": "af de en es et eu fi fr hu id it jv ms nl pt sw tl tr vi yo", "Cyrl": "bg kk ru",
    "Arab": "ar fa ur", "Deva": "hi mr", "Beng": "bn", "Grek": "el", "Hebr": "he", "Jpan": "ja", "Geor": "ka",
    "Kore": "ko", "Mlym": "ml", "Mymr": "my", "Taml": "ta", "Telu": "te", "Thai": "th", "Hans": "zh",
}  # fmt: skip
"""Scripts (ISO 15924) of most of XTREME's test sets; Chinese as in XNLI."""


def test_names_are_those_of_the_files():
    assert {code: name_of(code) for code in NAMES} == NAMES
    assert load("udpos").source.names == {code: NAMES[code] for code in load("udpos").languages}


def test_a_language_without_a_name_is_shown_by_its_code():
    assert name_of("xx") == "xx"
    assert name_of("not a code") == "not a code"
    assert name_of("cy") == "Welsh"


def test_codes_are_those_of_tatoeba():
    assert {code: tatoeba_code(code) for code in ISO3} == ISO3
    assert load("tatoeba").source.names == ISO3


def test_scripts_are_those_of_the_world():
    for script, codes in SCRIPTS.items():
        assert {script_of(code) for code in codes.split()} == {script}
    assert script_of("xx") == "Zyyy"
    assert sum(len(codes.split()) for codes in SCRIPTS.values()) == 40


@pytest.mark.parametrize(
    "task", ["xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc2018", "tatoeba"]
)
def test_every_language_of_xtreme_has_a_name_and_a_script(task: str):
    for code in load(task).languages:
        assert name_of(code) == NAMES[code]
        assert any(code in codes.split() for codes in SCRIPTS.values())
