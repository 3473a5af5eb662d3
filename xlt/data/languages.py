"""Names, three-letter codes and scripts of languages, by the package langcodes (Unicode CLDR and ISO 639).

A language is an ISO 639-1 code, such as `sw`. The tables here hold the few languages for which data sets and
papers use another name or code than langcodes does.
"""

import re
from collections.abc import Iterable

from langcodes import Language, tag_is_valid

NAMES = {"bn": "Bengali", "tl": "Tagalog"}
"""Names in XTREME (Hu et al. 2020, https://arxiv.org/abs/2003.11080); CLDR has Bangla and Filipino."""

TATOEBA_CODES = {"fa": "pes", "sw": "swh", "tl": "tgl", "zh": "cmn"}
"""ISO 639-3 codes in Tatoeba; langcodes has those of the macrolanguages."""

UNKNOWN_SCRIPT = "Zyyy"
"""ISO 15924 code of an unknown script."""


def name_of(code: str) -> str:
    """Return a language's English name, or the code itself if the language is unknown."""
    if code in NAMES:
        return NAMES[code]
    return Language.get(code).display_name() if tag_is_valid(code) else code


def names_of(codes: Iterable[str]) -> dict[str, str]:
    """Return the English name of each language."""
    return {code: name_of(code) for code in codes}


def hint(code: str, names: Iterable[str]) -> str:
    """Return a sentence on a name that seems to mean a language; an empty text if there is none.

    Args:
        code: ISO 639-1 code of the language, such as `zh`.
        names: Names of languages in a data set, such as `zh-CN`, `zh_Hans`, `cmn`, `ZH` or `Chinese`.
    """
    forms = {code.lower(), name_of(code).lower()}
    if tag_is_valid(code):
        forms |= {Language.get(code).to_alpha3(), tatoeba_code(code)}
    for name in names:
        if {name.lower(), re.split("[-_]", name.lower())[0]} & forms:
            return f' If {name} is {code}, write names={{"{code}": "{name}"}} in the task\'s source'
    return ""


def tatoeba_code(code: str) -> str:
    """Return the ISO 639-3 code by which Tatoeba knows a language."""
    return TATOEBA_CODES.get(code) or Language.get(code).to_alpha3()


def script_of(code: str) -> str:
    """Return the ISO 15924 code of the script that a language is mostly written in, or `Zyyy` if unknown."""
    script = Language.get(code).maximize().script if tag_is_valid(code) else None
    return script or UNKNOWN_SCRIPT
