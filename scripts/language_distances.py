"""Write the syntactic distances of languages from English, by the features of URIEL+ and Grambank.

    python -m scripts.language_distances --out xlt/studies/analysis/syntactic_distances.csv

The package urielplus must be installed (pip install urielplus==1.3.2). xlt itself does not need it. The
distance is the angle between two vectors of syntactic features, over the features that both languages have.
It is 0 if the languages are the same, and 1 if they share no feature.
"""

import argparse
import csv
import logging
from collections.abc import Iterable
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from langcodes import Language

from xlt.data.multilingual import ENGLISH
from xlt.studies.analysis.language_facts import FAMILIES, read_table

ISO_639_3 = {"ar": "arb", "et": "ekk", "fa": "pes", "ms": "zsm", "qu": "quz", "sw": "swh", "zh": "cmn"}
"""ISO 639-3 code of the individual language that represents each macrolanguage."""

MIN_FEATURES = 30
"""Minimum number of shared features. With fewer features, the distance is left empty."""

HEADER = """\
# Syntactic distance of languages from English, written by `python -m scripts.language_distances`.
# distance: angular distance over the syntactic features that both languages have, from 0 to 1.
# features: number of these features; the distance is empty below 30 features.
# Source: URIEL+ 1.3.2 (Khan et al. 2025, https://aclanthology.org/2025.coling-main.463) with Grambank 1.0.3
# (Skirgard et al. 2023, https://doi.org/10.1126/sciadv.adg6175), from the package urielplus.
# Licence of this file: CC BY-SA 4.0, https://creativecommons.org/licenses/by-sa/4.0, as that of URIEL+.
"""


def glottocodes(languages: Iterable[str]) -> dict[str, str]:
    """Return the Glottolog code of each language."""
    table = files("urielplus") / "database" / "urielplus_csvs" / "uriel_glottocode_map.csv"
    with table.open(encoding="utf-8") as file:
        known = {line["iso_code"]: line["glottocode"] for line in csv.DictReader(file)}
    codes = {code: ISO_639_3.get(code) or Language.get(code).to_alpha3() for code in languages}
    return {code: known["tgl" if iso == "fil" else iso] for code, iso in codes.items()}


def lines_of(uriel: Any, codes: dict[str, str]) -> list[str]:
    """Return the lines of the table: language, distance from English and number of shared features.

    Args:
        uriel: The database, a `URIELPlus`.
        codes: Glottolog code of each language.
    """
    names = uriel.get_typological_languages_array().tolist()
    is_syntax = [name.startswith("S_") for name in uriel.get_typological_features_array()]
    data = uriel.get_typological_data_array()[:, is_syntax]
    known = {code: (data[names.index(name)] >= 0).any(axis=-1) for code, name in codes.items()}
    lines = []
    for code, name in codes.items():
        features = int((known[code] & known[ENGLISH]).sum())
        is_known = features >= MIN_FEATURES
        distance = uriel.new_syntactic_distance(codes[ENGLISH], name) if is_known else None
        lines.append(f"{code},{'' if distance is None else f'{distance:.4f}'},{features}")
    return lines


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description="Write the syntactic distances of languages from English.")
    parser.add_argument("--out", type=Path, required=True, help="path of the CSV file")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    # Not an import statement: the package is no dependency of xlt, whose table is written once.
    uriel = import_module("urielplus.urielplus").URIELPlus()
    uriel.integrate_grambank()
    lines = lines_of(uriel, glottocodes(read_table(FAMILIES).index))
    args.out.write_text("\n".join([f"{HEADER}language,distance,features", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
