"""Predictions of exported heads by transformers and sentence-transformers alone: this file never imports xlt.

python tests/by_transformers.py JOBS RESULTS

JOBS is a JSON list of objects with `form`, `folder` and `rows`. RESULTS gets a JSON list of objects with the
predictions, and what the snippet of the model card prints.
"""

import io
import json
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

Rows = list[Any]
Found = dict[str, Any]


def loaded(kind: Any, folder: str) -> Any:
    """A model, all of whose weights are in the folder."""
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"], report["missing_keys"]
    assert not report["unexpected_keys"], report["unexpected_keys"]
    return model.eval()


def tags(folder: str, rows: Rows, shown: Found) -> Found:
    """Logits at the first token of each word, and each word's tag by the pipeline."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(AutoModelForTokenClassification, folder)
    read = tokenizer(rows, is_split_into_words=True, padding=True, truncation=True, return_tensors="pt")
    logits = model(**read).logits
    first = [[read.word_ids(i).index(word) for word in range(len(words))] for i, words in enumerate(rows)]
    tagger = pipeline("token-classification", model=folder, aggregation_strategy="first", ignore_labels=[])
    groups = tagger(rows, is_split_into_words=True)
    return {
        "logits": [logits[i, at].tolist() for i, at in enumerate(first)],
        "labels": model.config.id2label,
        "pipeline": [by_word(words, found) for words, found in zip(rows, groups, strict=True)],
    }


def by_word(words: list[str], groups: Rows) -> list[str]:
    """The tag of the group that begins with a word or holds its first letter."""
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    return [
        next(group["entity_group"] for group in groups if group["start"] <= start < group["end"])
        for start in starts
    ]


def classes(folder: str, rows: Rows, shown: Found) -> Found:
    """Logits of pairs of texts, and the pipeline's classes and probabilities."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(AutoModelForSequenceClassification, folder)
    read = tokenizer(
        [a for a, _ in rows], [b for _, b in rows], padding=True, truncation=True, return_tensors="pt"
    )
    classifier = pipeline("text-classification", model=folder)
    pairs = [{"text": a, "text_pair": b} for a, b in rows]
    return {
        "logits": model(**read).logits.tolist(),
        "labels": model.config.id2label,
        "problem_type": model.config.problem_type,
        "pipeline": classifier(pairs, truncation=True),
    }


def choices(folder: str, rows: Rows, shown: Found) -> Found:
    """Logits of each row's choices, all rows in one padded batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(AutoModelForMultipleChoice, folder)
    contexts = [context for context, found in rows for _ in found]
    flat = [choice for _, found in rows for choice in found]
    read = tokenizer(contexts, flat, padding=True, truncation=True, return_tensors="pt")
    shaped = {name: tensor.view(len(rows), -1, tensor.shape[1]) for name, tensor in read.items()}
    return {"logits": model(**shaped).logits.tolist()}


def answers(folder: str, rows: Rows, shown: Found) -> Found:
    """Answers by the card's function, the same without empty answers, and the logits of each window."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(AutoModelForQuestionAnswering, folder)
    read = tokenizer(
        [question for question, _ in rows],
        [context for _, context in rows],
        truncation="only_second",
        stride=model.config.xlt["stride"],
        padding=True,
        return_overflowing_tokens=True,
        return_tensors="pt",
    )
    row_of = read.pop("overflow_to_sample_mapping").tolist()
    output = model(**read)
    both = torch.stack([output.start_logits, output.end_logits], -1)
    forced: Found = {}
    exec(shown["code"].replace(f"<= {model.config.xlt['null_threshold']}", "<= 1e9"), forced)
    return {
        "answers": [shown["answer"](*row) for row in rows],
        "forced": [forced["answer"](*row) for row in rows],
        "row_of": row_of,
        "logits": both.tolist(),
        "settings": model.config.xlt,
    }


def masks(folder: str, rows: Rows, shown: Found) -> Found:
    """Logits at the mask of each text, and the pipeline's best guess."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = loaded(AutoModelForMaskedLM, folder)
    texts = [text.replace("[MASK]", str(tokenizer.mask_token)) for text in rows]
    read = tokenizer(texts, padding=True, return_tensors="pt")
    logits = model(**read).logits[read["input_ids"] == tokenizer.mask_token_id]
    unmasker = pipeline("fill-mask", model=folder)
    return {"logits": logits.tolist(), "pipeline": [found[0]["token"] for found in unmasker(texts)]}


def sentences(folder: str, rows: Rows, shown: Found) -> Found:
    """Vectors of sentences."""
    model = SentenceTransformer(folder, device="cpu")
    return {"vectors": model.encode(rows, batch_size=8).tolist(), "max_length": model.max_seq_length}


FORMS: dict[str, Callable[[str, Rows, Found], Found]] = {
    "token-classification": tags,
    "text-classification": classes,
    "multiple-choice": choices,
    "question-answering": answers,
    "fill-mask": masks,
    "sentence-similarity": sentences,
}


def main(jobs: Path, results: Path) -> None:
    found = []
    for job in json.loads(jobs.read_text(encoding="utf-8")):
        card = (Path(job["folder"]) / "README.md").read_text(encoding="utf-8")
        shown: Found = {}
        with redirect_stdout(io.StringIO()) as printed:
            shown["code"] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
            exec(shown["code"], shown)
        with torch.no_grad():
            predictions = FORMS[job["form"]](job["folder"], job["rows"], shown)
        found.append({**predictions, "printed": printed.getvalue()})
    assert not any(name.partition(".")[0] == "xlt" for name in sys.modules)
    results.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
