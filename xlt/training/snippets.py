"""Python that uses an exported head without xlt, for its model card. A snippet for each form of a head."""

from collections.abc import Mapping
from typing import Any

from xlt.models.heads.head import Form

SINGLE = """\
from transformers import pipeline

classifier = pipeline("text-classification", model="{model}")
print(classifier("A man is sleeping.", truncation=True))
"""

PAIR = """\
from transformers import pipeline

classifier = pipeline("text-classification", model="{model}")
print(classifier({{"text": "A man is sleeping.", "text_pair": "Somebody sleeps."}}, truncation=True))
"""

TAGS = """\
from transformers import pipeline

tagger = pipeline("token-classification", model="{model}", aggregation_strategy="first")
words = ["The", "cat", "sat", "on", "the", "mat", "."]
for part in tagger([words], is_split_into_words=True)[0]:
    print(part["entity_group"], " ".join(words)[part["start"] : part["end"]])
"""

CHOICES = """\
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{model}")
model = AutoModelForMultipleChoice.from_pretrained("{model}")
context, choices = "It was raining. Ann opened", {choices}
read = tokenizer([context] * len(choices), choices, truncation=True, padding=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**{{name: tensor[None] for name, tensor in read.items()}}).logits
print(choices[logits.argmax()])
"""

ANSWERS = """\
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{model}")
model = AutoModelForQuestionAnswering.from_pretrained("{model}")


def answer(question, context):
    question = question.strip()
    tokens = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    windows = tokenizer(
        question[: tokens[:{question_limit}][-1][1]] if tokens else "", context,
        truncation="only_second", stride={stride}, padding=True,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
    )
    offsets = windows.pop("offset_mapping")
    windows.pop("overflow_to_sample_mapping")
    with torch.no_grad():
        output = model(**windows)
    best, text, null = -float("inf"), "", float("inf")
    for i, (start, end) in enumerate(zip(output.start_logits, output.end_logits)):
        null = min(null, float(start[0] + end[0]))  # the first token stands for no answer
        passage = [j for j, part in enumerate(windows.sequence_ids(i)) if part == 1]
        firsts = sorted(passage, key=lambda j: -start[j])[:{num_best}]
        lasts = sorted(passage, key=lambda j: -end[j])[:{num_best}]
        for a in firsts:
            for b in lasts:
                score = float(start[a] + end[b])
                if a <= b < a + {max_answer_length} and score > best:
                    best, text = score, context[offsets[i, a, 0] : offsets[i, b, 1]].strip()
    return {answer}


print(answer("Where did the cat sit?", "The black cat sat on the mat."))
"""

MASKS = """\
from transformers import pipeline

unmasker = pipeline("fill-mask", model="{model}")
for guess in unmasker(f"The cat sat on the {{unmasker.tokenizer.mask_token}}."):
    print(guess["token_str"], guess["score"])
"""

SENTENCES = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{model}")
vectors = model.encode(["The cat sat on the mat.", "Die Katze saß auf der Matte."])
print(vectors[0] @ vectors[1])  # the cosine, since vectors have length 1
"""

SNIPPETS: Mapping[Form, str] = {
    "text-classification": PAIR,
    "token-classification": TAGS,
    "multiple-choice": CHOICES,
    "question-answering": ANSWERS,
    "fill-mask": MASKS,
    "sentence-similarity": SENTENCES,
}

NOTES: Mapping[Form, str] = {
    "token-classification": (
        "A word's tag is that of its first token. The pipeline joins neighbouring words with the same tag "
        "into one group, and leaves out words with the tag O. A text that is not divided into words is "
        "divided at spaces."
    ),
    "question-answering": (
        "transformers 5 has no pipeline for question answering. The function reads a long passage in "
        "overlapping windows and chooses the answer as xlt does. It cuts a question after {question_limit} "
        "tokens, as xlt does."
    ),
    "sentence-similarity": (
        "A sentence's vector is the mean of the states of layer {layer} over all its tokens, special tokens "
        "included, with length 1. Texts get no prefix. A report of missing weights of a `pooler` does not "
        "matter, because the mean does not read them."
    ),
}
"""Remarks below the snippets."""


def snippet(form: Form, model: str, settings: Mapping[str, Any]) -> str:
    """Return Python that loads an exported head and prints a prediction.

    Args:
        form: Form of the head.
        model: Folder of the model, or its name on the hub.
        settings: Settings of the task, see `exported_settings`, with `question_limit`, `stride` and `layer`.
    """
    template = SINGLE if settings.get("single_text") else SNIPPETS[form]
    threshold = settings.get("null_threshold")
    words = ["an umbrella.", "a song.", "two.", "seven spoons.", "a cloud."]
    filled = {
        **settings,
        "model": model,
        "answer": "text" if threshold is None else f'text if null - best <= {threshold} else ""',
        "choices": words[: settings.get("num_choices", 2)],
    }
    return template.format(**filled)


def note(form: Form, settings: Mapping[str, Any]) -> str:
    """Return a remark on how to use an exported head; empty if there is none.

    Args:
        form: Form of the head.
        settings: Settings of the task, with `question_limit`, `stride` and `layer`.
    """
    return NOTES.get(form, "").format(**settings)
