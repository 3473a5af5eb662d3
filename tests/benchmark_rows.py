"""A small root in XTREME's layout, made of the repository's sample rows: languages are other rows.

And readers of the files that XTREME's evaluator compares, written from its description alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

TAGS = ("NOUN", "VERB", "ADJ", "SCONJ", "X", "PUNCT")
ENTITIES = ("O", "B-PER", "I-PER", "B-LOC")


def write_root(samples: Path, root: Path) -> Path:
    """Write the root: XNLI, PAWS-X, UDPOS, PAN-X, XQuAD, MLQA, TyDiQA, Tatoeba and BUCC in some languages."""
    mnli = pq.read_table(samples / "nyu-mll/glue/mnli/train.parquet").to_pylist()
    squad = pq.read_table(samples / "rajpurkar/squad/plain_text/train.parquet").to_pylist()
    for name in ("nyu-mll", "rajpurkar"):
        (root / name).symlink_to((samples / name).resolve())
    names = ("entailment", "neutral", "contradiction")
    xnli = [
        {
            "language": lang,
            "sentence1": r["premise"],
            "sentence2": r["hypothesis"],
            "gold_label": names[r["label"]],
        }
        for i, lang in enumerate(("ar", "de", "en"))
        for r in mnli[40 * i : 40 * i + 40]
    ]
    write(root, "XNLI", "validation", xnli)
    write(root, "XNLI", "test", xnli[::-1])
    for lang, first in (("en", 0), ("de", 50)):
        pairs = [
            {"sentence1": r["premise"], "sentence2": r["hypothesis"], "label": str(r["label"] % 2)}
            for r in mnli[first : first + 50]
        ]
        for split in ("train", "validation", "test")[: None if lang == "en" else 3]:
            write(root, f"PAWS-X.{lang}", split, pairs)
    for config, column, tags in (("udpos.English", "pos_tags", 17), ("PAN-X.en", "ner_tags", 7)):
        for split in ("train", "validation"):
            write(root, config, split, tagged(mnli[:60], column, tags))
    for config, column, tags in (("udpos.German", "pos_tags", 17), ("PAN-X.sw", "ner_tags", 7)):
        write(root, config, "validation", tagged(mnli[60:100], column, tags))
    for config, rows in (("XQuAD.en", squad[:12]), ("XQuAD.vi", squad[12:24]), ("MLQA.de.de", squad[24:36])):
        write(root, config, "validation", questions(rows))
    numbered = questions(squad[:60])
    for i, row in enumerate(numbered):
        row["id"] = f"{'english' if i % 3 else 'finnish'}-{i}"
    write(root, "tydiqa", "train", numbered)
    write(root, "tydiqa", "validation", numbered)
    for iso3, first in (("deu", 0), ("swh", 30)):
        pairs = [
            {"source_sentence": r["premise"], "target_sentence": r["hypothesis"] + "\n", "source_lang": iso3}
            for r in mnli[first : first + 30]
        ]
        write(root, f"tatoeba.{iso3}", "validation", pairs)
    write_mining(root, mnli[:24])
    return root


def tagged(rows: Sequence[dict[str, Any]], column: str, num_tags: int) -> list[dict[str, Any]]:
    """Words of the premises, each with a tag that its letters decide."""
    words = [r["premise"].split()[:30] for r in rows]
    return [{"tokens": w, column: [sum(map(ord, word)) % num_tags for word in w]} for w in words if w]


def questions(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of questions as XTREME's configs have them."""
    return [{name: r[name] for name in ("id", "title", "context", "question", "answers")} for r in rows]


def write_mining(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Files of sentences: of each pair of six the first three are gold; a German one stands twice."""
    folder = root / "bucc2018"
    folder.mkdir()
    for part in ("dev", "test"):
        german = [f"de-{i:03d}\t{r['premise']}" for i, r in enumerate(rows)]
        german.append(f"de-{len(rows):03d}\t{rows[5]['premise']}")
        english = [f"en-{i:03d}\t{r['premise'].replace('the', 'a')}" for i, r in enumerate(rows)]
        gold = [f"de-{i:03d}\ten-{i:03d}" for i in range(0, len(rows), 2)]
        for end, lines in (("de", german), ("en", english), ("gold", gold)):
            (folder / f"de-en.{part}.{end}").write_text("\n".join(lines) + "\n")


def write(root: Path, config: str, split: str, rows: Sequence[dict[str, Any]]) -> None:
    """A file of google/xtreme."""
    path = root / "google" / "xtreme" / config / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def read_lines(path: Path) -> list[str]:
    """Labels, indices or pairs, one a line."""
    return path.read_text().splitlines()


def read_sentences(path: Path) -> list[list[str]]:
    """Tags of each sentence; an empty line ends one."""
    sentences: list[list[str]] = [[]]
    for line in path.read_text().splitlines():
        if line:
            sentences[-1].append(line)
        else:
            sentences.append([])
    return [tags for tags in sentences if tags]


def read_gold_answers(path: Path) -> dict[str, list[str]]:
    """Gold answers by the question's id, from a file in SQuAD's form."""
    return {
        qa["id"]: [answer["text"] for answer in qa["answers"]]
        for article in json.loads(path.read_text())["data"]
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    }
