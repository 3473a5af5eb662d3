"""The encoder that the repository ships: it loads, it is small, and its figures are those of its weights."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import REPOSITORY
from lightning import Trainer
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from scripts.tatoeba import best_layer, embed, retrieval
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.datamodule import TransferData
from xlt.models.encoders.text import Encoder
from xlt.module import TransferModule

MINI = REPOSITORY / "encoders" / "mini"


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    if not (MINI / "model.safetensors").is_file():
        pytest.skip("encoders/mini has no weights yet")
    return json.loads((MINI / "metrics.json").read_text())


@pytest.mark.usefixtures("figures")
def test_folder_is_small_and_in_half_precision():
    assert sum(path.stat().st_size for path in MINI.iterdir()) < 25 * 2**20
    assert {tensor.dtype for tensor in AutoModel.from_pretrained(MINI).parameters()} == {torch.float16}


@pytest.mark.usefixtures("figures")
def test_transformers_loads_it_whole_with_its_head_for_hidden_tokens():
    model, report = AutoModelForMaskedLM.from_pretrained(MINI, output_loading_info=True, dtype="float32")
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = AutoTokenizer.from_pretrained(MINI)
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert tokenizer.mask_token_id == len(tokenizer) - 1 == model.config.vocab_size - 1


def test_it_fills_a_mask_better_than_a_unigram_would(figures: dict[str, Any]):
    """Through transformers alone, on sentences of the sample rows."""
    path = REPOSITORY / "samples/open/nyu-mll/glue/mnli/validation_matched.parquet"
    sentences = pq.read_table(path)["hypothesis"].to_pylist()[:60]
    tokenizer = AutoTokenizer.from_pretrained(MINI)
    model = AutoModelForMaskedLM.from_pretrained(MINI, dtype="float32").eval()
    losses = []
    for sentence in sentences:
        ids = torch.tensor(tokenizer(sentence).input_ids)
        for place in range(1, len(ids) - 1, 4):
            masked = ids.clone()
            masked[place] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = model(masked[None]).logits[0, place]
            losses.append(torch.nn.functional.cross_entropy(logits, ids[place]).item())
    assert np.mean(losses) < np.log(figures["perplexity"]["en"]["unigram_perplexity"])


def test_perplexity_of_every_language_is_below_its_unigrams(figures: dict[str, Any]):
    languages = figures["perplexity"]
    assert len(languages) == 43
    for name, found in languages.items():
        assert found["perplexity"] == pytest.approx(np.exp(found["loss"]), rel=1e-3), name
        assert found["perplexity"] < found["unigram_perplexity"], name


def test_means_of_the_card_are_those_of_its_languages(figures: dict[str, Any]):
    at, reported = figures["tatoeba"], figures["tatoeba_reported_on"]
    assert not set(reported) & set(figures["tatoeba_layer_chosen_on"])
    mean = statistics.mean(at[name] for name in reported)
    assert figures["tatoeba_mean_reported"] == pytest.approx(mean, abs=0.01)
    by_layer = figures["tatoeba_by_layer"]
    assert figures["tatoeba_layer"] == best_layer(by_layer, figures["tatoeba_layer_chosen_on"])
    for task, found in figures["pretrained_minus_random"].items():
        gains = np.subtract(found["pretrained"], found["random"])
        assert found["mean"] == pytest.approx(gains.mean(), abs=0.02), task
        assert found["sd"] == pytest.approx(gains.std(ddof=1), abs=0.02), task


def test_pretraining_wins_clearly_on_mnli_and_udpos(figures: dict[str, Any]):
    for task in ("mnli", "udpos"):
        found = figures["pretrained_minus_random"][task]
        assert found["mean"] > 2 * found["sd"]
        assert min(found["pretrained"]) > max(found["random"])


@pytest.mark.slow
def test_retrieval_is_as_the_card_says(figures: dict[str, Any], mirror: Path):
    rows = pq.read_table(mirror / "google/xtreme/tatoeba.swh/validation.parquet").to_pydict()
    encoder, text = Encoder(str(MINI)).eval(), TextEncoder(load_tokenizer(str(MINI)), 512, 0)
    sides = [embed(encoder, text, rows[name]) for name in ("source_sentence", "target_sentence")]
    found = [retrieval(*pair) for pair in zip(*sides, strict=True)]
    assert found == pytest.approx(figures["tatoeba_by_layer"]["sw"], abs=0.6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning")  # inside Lightning
def test_perplexity_is_as_the_card_says(figures: dict[str, Any], mirror: Path, cache: str):
    data = TransferData(
        ["mlm/kk"],
        root=str(mirror.parent / "text"),
        encoder=str(MINI),
        cache=cache,
        max_length=128,
        stride=32,
        validation_volume=400,
    )
    module = TransferModule(str(MINI))
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.validate(module, data, verbose=False)
    expected = figures["perplexity"]["kk"]["loss"]
    assert module.scores["mlm/kk"].details["loss"] == pytest.approx(expected, abs=2e-3)


# The measures


def test_retrieval_counts_the_queries_whose_nearest_key_is_their_own():
    queries = torch.tensor([[1.0, 0.1], [0.1, 3.0], [-2.0, 0.2], [5.0, 5.1]])
    keys = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]])
    assert retrieval(queries, keys) == 50.0


def test_best_layer_is_chosen_on_the_languages_named():
    by_language = {"a": [1.0, 5.0, 2.0], "b": [1.0, 5.0, 2.0], "c": [0.0, 0.0, 90.0]}
    assert best_layer(by_language, ["a", "b"]) == 1
    assert best_layer(by_language, ["a", "b", "c"]) == 2


def test_embedding_does_not_depend_on_the_sentences_beside():
    encoder = Encoder(str(MINI), from_scratch=True).eval()
    text = TextEncoder(load_tokenizer(str(MINI)), 512, 0)
    sentences = ["A dog.", "The weather is fine today, is it not?", "No."]
    together = embed(encoder, text, sentences)
    assert together.shape == (5, 3, 256)
    for i, sentence in enumerate(sentences):
        assert torch.allclose(embed(encoder, text, [sentence])[:, 0], together[:, i], atol=1e-5)
