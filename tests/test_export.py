"""An exported head gives the predictions of `xlt evaluate` in transformers alone."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from benchmark_rows import write_root
from by_transformers import FORMS
from conftest import REPOSITORY, Command, run
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from tiny_families import CONFIGS, encoder_of, write_wordpiece
from torch import Tensor
from transformers import AutoConfig, AutoModel, ModernBertConfig, ModernBertModel

import xlt.evaluation.evaluation
import xlt.models.transfer_model
from xlt import tasks
from xlt.batch.packing import pack
from xlt.data.encode import STRIDE, TextEncoder, load_tokenizer
from xlt.evaluate import evaluate
from xlt.evaluation.predict import EvaluationModel, open_device
from xlt.export import export
from xlt.kinds import Classification, Tagging
from xlt.kinds.retrieval import retrieval_layer
from xlt.models.encoders.text import Encoder, load_config
from xlt.models.heads.classification import ChoiceHead, ClassificationHead
from xlt.models.heads.head import Head
from xlt.models.heads.span_extraction import SpanHead
from xlt.models.heads.tagging import TaggingHead
from xlt.models.portable import portable_model
from xlt.models.transfer_model import adapted
from xlt.splits.splits import Splits
from xlt.training.exporting import export_run
from xlt.training.head_export import HeadExport, cut_config, exported_settings, sentence_files
from xlt.training.snippets import snippet

MINI = str(REPOSITORY / "encoders" / "mini")
MASKED = [
    "The cat sat on the [MASK].",
    "[MASK] is the capital of a large country in Europe.",
    "I [MASK] tea.",
]
HEADS = ("mnli", "squad_v2", "commonsenseqa", "udpos", "mlm", "tatoeba", "ranking")
TESTED = {"mnli": "xnli", "udpos": "udpos", "tatoeba": "tatoeba"}
"""Heads that the evaluation scores, and the tasks that it scores them with."""

NUM = 16


@pytest.fixture(scope="session")
def roots(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The samples, and a root with plain text and Tatoeba."""
    root = write_root(Path(samples[0]), tmp_path_factory.mktemp("exported"))
    rows = pq.read_table(Path(samples[0]) / "nyu-mll/glue/mnli/train.parquet").to_pydict()
    (root / "mono").mkdir()
    (root / "parallel").mkdir()
    pq.write_table(pa.table({"text": rows["premise"]}), root / "mono" / "aa.parquet")
    pairs = {"source": rows["premise"], "target": rows["hypothesis"]}
    pq.write_table(pa.table(pairs), root / "parallel" / "aa-bb.parquet")
    return [*samples, str(root)]


@pytest.fixture(scope="session")
def finished(roots: list[str], tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a task of each kind, that began with the weights of encoders/mini."""
    folder = tmp_path_factory.mktemp("export") / "run"
    changes = {
        "model.encoder": MINI,
        "model.from_scratch": None,
        "data.tasks": "[mnli, squad_v2, commonsenseqa, udpos, mlm, ranking]",
        "data.root": f"[{', '.join(roots)}]",
        "data.weights": "{mnli: 1, squad_v2: 3, commonsenseqa: 1, udpos: 4, mlm: 1, ranking: 1}",
        "model.head_learning_rate": 1e-2,
        "trainer.max_steps": 24,
        "trainer.val_check_interval": 24,
    }
    assert run(tiny_run(folder, changes)) == 0
    return folder


Found = dict[str, list[tuple[Any, Tensor]]]


@pytest.fixture(scope="session")
def ours(
    finished: Path, roots: list[str], cache: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Found, dict[str, Any]]:
    """An evaluation's folder, the logits of its batches by task, and its predictions by task."""
    logits: Found = {}
    predictions: dict[str, Any] = {}
    original, whole = xlt.models.transfer_model.logits_of, xlt.evaluation.evaluation.predict

    def record(encoder: Encoder, head: Head, batch: Any) -> Tensor:
        found = original(encoder, head, batch)
        logits.setdefault(batch.task, []).append((batch, found))
        return found

    def keep(model: Any, task: Any, *args: Any) -> Any:
        predictions[task.name] = whole(model, task, *args)
        return predictions[task.name]

    out = tmp_path_factory.mktemp("export") / "scores"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xlt.evaluation.predict.logits_of", record)
        patch.setattr("xlt.evaluation.evaluation.predict", keep)
        keys = {"out": out, "encoder": finished, "runs": f"[{finished}]", "cache": cache, "volume": NUM}
        keys |= {
            "tasks": f"[{', '.join(TESTED.values())}]",
            "languages": "[de, en]",
            "max_length": 128,
            "stride": 32,
        }
        keys |= {
            "root": f"[{', '.join(roots)}]",
            "accelerator": "cpu",
            "tokens_per_micro_batch": 1024,
            "layer": 3,
        }
        assert run([f"--{key}={value}" for key, value in keys.items()], evaluate) == 0
        text = TextEncoder(load_tokenizer(str(finished)), 128, 32)
        splits, model = (
            Splits(list(map(Path, roots)), Path(cache), text),
            EvaluationModel(str(finished)).eval(),
        )
        for name in ("squad_v2", "commonsenseqa"):
            task = tasks.load(name)
            stored = splits.open(task, "validation")
            chosen = stored.rows_of(stored.subset(NUM, 0, name))
            keep(model, task, stored, chosen, 1024, open_device("cpu", "32-true"))
    return out, logits, predictions


@pytest.fixture(scope="session")
def exported(
    finished: Path, ours: tuple[Path, Found, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folder of each exported head."""
    folder = tmp_path_factory.mktemp("heads")
    for head in HEADS:
        keys = [f"--run={finished}", f"--head={head}", f"--out={folder / head}"]
        keys += ["--max_length=128", "--stride=32"]
        keys += ["--layer=3"] * (head == "tatoeba") + [f"--scores={ours[0]}"] * (head in TESTED)
        assert run(keys, export) == 0
    return {head: folder / head for head in HEADS}


def examples_of(name: str, roots: list[str]) -> list[Any]:
    """All dev examples of a task, by example number."""
    task = tasks.load(name)
    language = [task.language] * bool(task.language)
    parts = task.sources[0].open("validation", list(map(Path, roots)), *language)
    rows = [row for part in parts for row in part.rows() if part.keeps is None or part.keeps(row)]
    return [task.by_name(task.read(row)) for row in rows]


def text_of(head: str, example: Any) -> Any:
    """An example as by_transformers reads it."""
    return {
        "mnli": lambda e: [e.first, e.second],
        "squad_v2": lambda e: [e.question, e.context],
        "commonsenseqa": lambda e: [e.context, list(e.choices)],
        "udpos": lambda e: list(e.words),
    }[head](example)


@pytest.fixture(scope="session")
def rows(ours: tuple[Path, Found, dict[str, Any]], roots: list[str]) -> dict[str, list[Any]]:
    """The evaluated examples of each task, in order."""
    chosen = {
        "mnli": "xnli/de",
        "squad_v2": "squad_v2",
        "commonsenseqa": "commonsenseqa",
        "udpos": "udpos/de",
    }
    found = {}
    for head, name in chosen.items():
        examples = examples_of(name, roots)
        found[head] = [text_of(head, examples[number]) for number in sorted(set(ours[2][name].examples))]
    pairs = examples_of("tatoeba/de", roots)
    sides = [side for example in pairs for side in (example.text, example.translation)]
    return {**found, "tatoeba": sides, "ranking": sides, "mlm": MASKED}


@pytest.fixture(scope="session")
def theirs(
    exported: dict[str, Path], rows: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The predictions of each exported head by transformers, in a process without xlt."""
    folder = tmp_path_factory.mktemp("theirs")
    forms = {head: ModelCard.load(exported[head] / "README.md").data.pipeline_tag for head in HEADS}
    assert set(forms.values()) == set(FORMS)
    jobs = [{"form": forms[head], "folder": str(exported[head]), "rows": rows[head]} for head in HEADS]
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    script = REPOSITORY / "tests" / "by_transformers.py"
    command = [sys.executable, str(script), str(folder / "jobs.json"), str(folder / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return dict(zip(HEADS, found, strict=True))


def by_row(batches: list[tuple[Any, Tensor]], divide: Callable[[Any, Tensor], list[Tensor]]) -> list[Tensor]:
    """The logits of each row, in the order of the rows."""
    found = {}
    for batch, logits in batches:
        found |= dict(zip(batch.rows.tolist(), divide(batch, logits), strict=True))
    return [found[row] for row in sorted(found)]


def assert_close(mine: Tensor, other: Any, tolerance: float = 1e-4) -> None:
    assert torch.allclose(mine, torch.tensor(other), atol=tolerance), (mine, other)


def test_tags_are_those_of_the_evaluation(ours, theirs, rows):
    out, logits, _ = ours
    found = theirs["udpos"]
    mine = by_row(
        logits["udpos/de"], lambda batch, values: list(values.split(batch.columns["counts"].tolist()))
    )
    labels = [found["labels"][str(i)] for i in range(len(found["labels"]))]
    assert tuple(labels) == tasks.load("udpos").labels
    for one, other in zip(mine, found["logits"], strict=True):
        assert_close(one, other)
    written = (out / "predictions" / "udpos" / "test-de.tsv").read_text().strip().split("\n\n")
    assert [text.split("\n") for text in written] == found["pipeline"]
    assert len({tag for tags in found["pipeline"] for tag in tags}) > 2


def test_classes_are_those_of_the_evaluation(ours, theirs):
    _, logits, predictions = ours
    key = "xnli/de"
    mine, found = torch.stack(by_row(logits[key], lambda _, values: list(values))), theirs["mnli"]
    assert_close(mine, found["logits"])
    labels = tasks.load("mnli").labels
    assert found["labels"] == {str(i): label for i, label in enumerate(labels)}
    assert found["problem_type"] == "single_label_classification"
    assert [one["label"] for one in found["pipeline"]] == [labels[i] for i in predictions[key].classes]
    assert_close(mine.softmax(-1).max(-1).values, [one["score"] for one in found["pipeline"]])


def test_choices_are_those_of_the_evaluation(ours, theirs):
    _, logits, predictions = ours
    key = "commonsenseqa"
    mine = torch.stack(by_row(logits[key], lambda _, values: list(values)))
    assert_close(mine, theirs["commonsenseqa"]["logits"])
    found = torch.tensor(theirs["commonsenseqa"]["logits"]).argmax(-1)
    assert found.tolist() == predictions[key].classes.tolist()


def test_answers_are_those_of_the_evaluation(ours, theirs):
    _, logits, predictions = ours
    key = "squad_v2"
    task, found = tasks.load("squad_v2"), theirs["squad_v2"]
    settings = {"null_threshold": 0.0, "num_best": 20, "max_answer_length": 30}
    assert found["settings"] == settings | {"stride": 32, "question_limit": 62}
    answers = task.answers(predictions[key])
    assert list(answers.values()) == found["answers"]
    forced = list(replace(task, null_threshold=1e9).answers(predictions[key]).values())
    assert forced == found["forced"]
    assert len({*forced}) > NUM // 2  # the answers differ
    mine = by_row(logits[key], lambda _, values: list(values))
    assert len(mine) == len(found["logits"]) > NUM  # long passages have several windows
    for one, other in zip(mine, found["logits"], strict=True):
        shown = one.isfinite()
        assert_close(one[shown], torch.tensor(other)[: len(one)][shown].tolist())


def test_guesses_of_hidden_tokens_are_those_of_the_run(finished, theirs):
    model = EvaluationModel(str(finished / "model")).eval()
    tokenizer = load_tokenizer(str(finished / "model"))
    head = tasks.load("mlm").head(model.encoder.config.hidden_size, 0.0).eval()
    head.tie(model.encoder)
    pieces = TextEncoder(tokenizer, 128, 32).singles(
        [text.replace("[MASK]", str(tokenizer.mask_token)) for text in MASKED]
    )
    ids = torch.tensor([token for piece in pieces for token in piece.ids])[None]
    packing = pack([len(piece.ids) for piece in pieces])
    positions = torch.cat([torch.arange(len(piece.ids)) + 2 for piece in pieces])[None]
    at = (ids[0] == tokenizer.mask_token_id).nonzero()[:, 0]
    with torch.no_grad():
        mine = head(model.encoder(ids, positions, packing, at), packing, {})
    assert_close(mine, theirs["mlm"]["logits"])
    assert mine.argmax(-1).tolist() == theirs["mlm"]["pipeline"]


def test_vectors_and_the_score_of_retrieval_are_those_of_the_evaluation(ours, theirs, rows):
    out, _, predictions = ours
    mine = predictions["tatoeba/de"].vectors
    found = torch.tensor(theirs["tatoeba"]["vectors"]).view_as(mine)
    assert_close(mine, found.tolist(), 1e-5)
    nearest = (found[:, 1] @ found[:, 0].T).argmax(-1)
    accuracy = 100 * (nearest == torch.arange(len(found))).double().mean().item()
    scores = json.loads((out / "results.json").read_text())["tatoeba"]["de"]
    assert accuracy == pytest.approx(scores["accuracy"])
    assert accuracy > 0


def test_a_trained_retrieval_task_reads_the_last_layer(finished, theirs, exported, rows):
    model = EvaluationModel(str(finished)).eval()
    pieces = TextEncoder(load_tokenizer(MINI), 128, 32).singles(rows["ranking"][:6])
    ids = torch.tensor([token for piece in pieces for token in piece.ids])[None]
    positions = torch.cat([torch.arange(len(piece.ids)) + 2 for piece in pieces])[None]
    means = model.encoder.means(ids, positions, pack([len(piece.ids) for piece in pieces]))
    mine = torch.nn.functional.normalize(means[-1], dim=-1)
    assert_close(mine, theirs["ranking"]["vectors"][:6], 1e-5)
    assert theirs["ranking"]["max_length"] == 128
    assert AutoConfig.from_pretrained(exported["ranking"]).num_hidden_layers == 4
    assert retrieval_layer(24) == 14
    assert AutoConfig.from_pretrained(exported["tatoeba"]).num_hidden_layers == 3
    assert (retrieval_layer(24), retrieval_layer(12), retrieval_layer(2)) == (14, 8, 2)


def test_the_snippet_of_every_card_prints_a_prediction(theirs):
    printed = {head: found["printed"].strip() for head, found in theirs.items()}
    assert "label" in printed["mnli"]
    assert printed["commonsenseqa"] in ("an umbrella.", "a song.", "two.", "seven spoons.", "a cloud.")
    assert len(printed["udpos"].splitlines()) >= 1
    assert len(printed["mlm"].splitlines()) == 5
    assert -1 <= float(printed["tatoeba"]) <= 1


def test_a_card_has_the_metadata_of_the_hub_and_the_scores_of_each_language(ours, exported, finished):
    card = ModelCard.load(exported["udpos"] / "README.md")
    data = card.data
    assert (data.library_name, data.pipeline_tag, data.base_model) == (
        "transformers", "token-classification", None,
    )  # fmt: skip
    assert data.language == ["multilingual", "de", "en"]
    assert "google/xtreme" in data.datasets
    _, results = model_index_to_eval_results(data.to_dict()["model-index"])
    scores = json.loads((ours[0] / "results.json").read_text())["udpos"]
    found = {result.metric_args["language"]: result for result in results}
    assert found["de"].dataset_config == "udpos.German"
    for language in ("de", "en"):
        assert found[language].metric_value == pytest.approx(scores[language]["f1"], abs=0.005)
        assert (found[language].metric_type, found[language].dataset_split) == ("f1", "validation")
    assert "| udpos | German | validation | f1 |" in card.text
    assert f"Classes: {', '.join(tasks.load('udpos').labels)}." in card.text
    assert "## Training" in card.text
    sentence = ModelCard.load(exported["tatoeba"] / "README.md").data
    assert (sentence.library_name, sentence.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    trained = ModelCard.load(exported["ranking"] / "README.md")
    assert trained.data.language == ["multilingual", "aa", "bb", "en"]
    (score,) = trained.data.eval_results
    run_scores = json.loads((finished / "results.json").read_text())
    assert score.metric_value == pytest.approx(run_scores["ranking/aa-bb"]["accuracy"], abs=0.005)
    assert "| ranking | Afar and bb | validation | accuracy |" in trained.text


def test_the_tokenizer_cuts_where_the_run_did(exported):
    for head in HEADS:
        found = json.loads((exported[head] / "tokenizer_config.json").read_text())
        assert found["model_max_length"] == 128


def test_the_model_of_a_run_is_an_encoder_whose_card_says_so(tiny_run, roots, tmp_path):
    changes = {"data.tasks": "[udpos]", "data.root": f"[{', '.join(roots)}]", "trainer.max_steps": 2}
    assert run(tiny_run(tmp_path / "run", {**changes, "trainer.val_check_interval": 2})) == 0
    model = tmp_path / "run" / "model"
    assert AutoConfig.from_pretrained(model).architectures == ["XLMRobertaModel"]
    _, report = AutoModel.from_pretrained(model, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    first = ModelCard.load(model / "README.md").text.strip().split("\n\n")
    assert "encoder alone" in first[1]
    assert "heads.safetensors" in first[1]
    assert f"xlt export --run {tmp_path / 'run'} --head udpos" in "".join(first[2:4])


# Heads of other encoders


def modernbert(**changes: Any) -> ModernBertConfig:
    keys = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    keys |= {"vocab_size": 99, "pad_token_id": 0, "classifier_activation": "gelu", "num_labels": 3}
    keys |= dict.fromkeys(("bos_token_id", "cls_token_id"), 1) | dict.fromkeys(
        ("eos_token_id", "sep_token_id"), 2
    )
    return ModernBertConfig(**{**keys, **changes})


def reloaded(model: Any, folder: Path) -> Any:
    """The model as transformers loads it, since a model on meta has no positions."""
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval()


CASES: list[tuple[str, Callable[[], Head], dict[str, Any]]] = [
    ("text-classification", lambda: ClassificationHead(32, 3, 0.0), {"num_labels": 3}),
    ("multiple-choice", lambda: ChoiceHead(32, 2, 0.0), {}),
    ("token-classification", lambda: TaggingHead(32, 3, 0.0), {"num_labels": 3}),
    ("question-answering", lambda: SpanHead(32, 0.0, 20, 30), {"num_labels": 2}),
]


def config_of(family: str, **changes: Any) -> Any:
    if family == "modernbert":
        return modernbert(**changes)
    keys = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    if family == "deberta-v2":
        keys |= {"relative_attention": True, "position_biased_input": False}
        keys |= {"pos_att_type": ["c2p", "p2c"]}
    return AutoConfig.for_model(family, vocab_size=99, pad_token_id=0, **keys, **changes)


def logits_by_transformers(form: str, model: Any, ids: Tensor) -> Tensor:
    if form == "multiple-choice":
        return model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits
    output = model(input_ids=ids)
    if form == "question-answering":
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.logits


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "modernbert", "deberta-v2"]
)
@pytest.mark.parametrize(("form", "make", "changes"), CASES, ids=[case[0] for case in CASES])
def test_heads_have_the_form_of_transformers_in_every_family(family, form, make, changes, tmp_path):
    torch.manual_seed(0)
    config = config_of(family, **changes)
    bare = {} if family in ("modernbert", "deberta-v2") else {"add_pooling_layer": False}
    encoder, head = AutoModel.from_config(config, **bare).eval(), adapted(make(), config).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = reloaded(portable_model(form, config, encoder.state_dict(), head.state_dict()), tmp_path)
    ids = torch.randint(3, 99, (2, 7))
    with torch.no_grad():
        states, packing = encoder(input_ids=ids).last_hidden_state, pack([7, 7])
        is_pooled = form in ("text-classification", "multiple-choice")
        read = states[:, 0] if is_pooled else states.flatten(0, 1)
        mine = head(read, packing, {"passage": torch.tensor([1, 7, 1, 7])})
        found = logits_by_transformers(form, model, ids)
    assert_close(mine.view_as(found), found.tolist(), 1e-5)


def test_a_head_that_does_not_fit_is_named():
    config = modernbert()
    with pytest.raises(
        ValueError, match=r"does not fit ModernBertForTokenClassification .* head\.dense\.weight"
    ):
        portable_model(
            "token-classification",
            config,
            ModernBertModel(config).state_dict(),
            TaggingHead(32, 3, 0.0).state_dict(),
        )


class OwnTagging(Tagging):
    """A kind of a user, which reads as its parent does."""


class OwnHead(ClassificationHead):
    """A head of a user, with the sign of the logits changed."""

    def forward(self, states, packing, columns):
        return -super().forward(states, packing, columns)


def test_a_users_kind_exports_like_its_parent_and_a_users_head_does_not():
    task = OwnTagging(source=(), read=len, labels=("A", "B"))
    assert task.head(8, 0.0).exported_form() == "token-classification"
    assert OwnHead(8, 2, 0.0).exported_form() is None


def test_single_texts_have_a_snippet_of_their_own():
    task = Classification(source=(), read=len, labels=("A", "B"), single_text=True)
    assert "text_pair" not in snippet("text-classification", "F", exported_settings(task))
    pair = Classification(source=(), read=len, labels=("A", "B"))
    assert "text_pair" in snippet("text-classification", "F", exported_settings(pair))


# Refusals


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"head": "panx"}, "head is 'panx', which .* has not trained. Its heads are mnli, squad_v2"),
        ({"head": "nothing"}, "head is 'nothing', which .* has not trained"),
        ({"head": "udpos", "layer": 2}, "layer is 2: it must be left out: udpos reads the last layer"),
        ({"head": "tatoeba", "layer": 9}, "layer is 9: it must be one of the 4 layers"),
        ({"layer": 2}, "layer is 2: it must be left out, or head must be set too"),
        ({"scores": Path("x")}, "scores is x: it must be left out, or head must be set too"),
        ({"head": "udpos", "scores": Path("none")}, "scores is none, which has no results.csv"),
        ({"head": "udpos", "push_to_hub": "a b/c"}, "push_to_hub is 'a b/c', which is no name of a model"),
    ],
)
def test_a_refused_export_writes_nothing(finished, tmp_path, keys, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export_run(finished, tmp_path / "out", **keys)
    assert not (tmp_path / "out").exists()


def test_a_task_with_images_has_no_class(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("xlt.kinds.Tagging.imagery", lambda self: object())
    with pytest.raises(
        ValueError, match="'udpos' is of the kind XtremeTagging, for which transformers has no"
    ):
        export_run(finished, tmp_path / "out", head="udpos")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_another_export_is_refused(finished, exported, tmp_path):
    with pytest.raises(
        ValueError, match=r"holds another export, with modules.json: set out to another folder"
    ):
        export_run(finished, exported["tatoeba"], head="udpos")
    export_run(finished, tmp_path / "bare")
    with pytest.raises(ValueError, match=r"holds another export, with heads.safetensors"):
        export_run(finished, tmp_path / "bare", head="udpos")


def test_scores_of_another_run_or_head_are_refused(finished, ours, tmp_path):
    lines = (ours[0] / "results.csv").read_text().splitlines(keepends=True)
    (tmp_path / "results.csv").write_text("".join(lines).replace(str(finished), "runs/other"))
    with pytest.raises(ValueError, match=r"has scores of runs/other, not of .*: set scores to an evaluation"):
        export_run(finished, tmp_path / "out", head="udpos", scores=tmp_path)
    (tmp_path / "results.csv").write_text("".join(line for line in lines if not line.startswith("udpos")))
    with pytest.raises(ValueError, match="has no scores of the head udpos: evaluate udpos into"):
        export_run(finished, tmp_path / "out", head="udpos", scores=tmp_path)


def test_a_card_of_another_author_stays(finished, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nmy own card\n")
    export_run(finished, tmp_path, head="udpos")
    assert "my own card" in (tmp_path / "README.md").read_text()


def test_a_full_disk_is_one_message(finished, tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(OSError, match=r"cannot be written into .*No space left.*free some disk space"):
        export_run(finished, tmp_path / "out")


def test_a_tokenizer_that_lacks_a_file_is_written_again(finished, tmp_path):
    export_run(finished, tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    export_run(finished, tmp_path)
    assert (tmp_path / "tokenizer_config.json").is_file()


def test_half_precision_halves_the_head_too(finished, exported, tmp_path):
    export_run(finished, tmp_path / "half", "float16", head="udpos")
    sizes = [
        (folder / "model.safetensors").stat().st_size for folder in (tmp_path / "half", exported["udpos"])
    ]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.02)
    assert np.isfinite(sizes).all()


def test_a_mean_has_the_files_of_sentence_transformers():
    files = {name: json.loads(text) for name, text in sentence_files(8, 64).items()}
    assert [part["path"] for part in files["modules.json"]] == ["", "1_Pooling", "2_Normalize"]
    assert files["sentence_bert_config.json"]["max_seq_length"] == 64


@pytest.mark.parametrize("layer", [1, 3, 4])
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_vectors_of_every_layer_are_those_of_xlt(kind: str, layer: int, tmp_path: Path):
    write_wordpiece(tmp_path / "in", model_max_length=64)
    encoder, tokenizer = encoder_of(tmp_path / "in", kind), load_tokenizer(str(tmp_path / "in"))
    task, config = tasks.load("tatoeba"), load_config(str(tmp_path / "in"))
    settings = {"layer": cut_config(config, task, layer)}
    head = HeadExport(task, "sentence-similarity", config, settings, tokenizer, {})
    head.write(encoder.transformer.state_dict(), tmp_path / "out", "float32")
    texts = ["a man sleeps.", "the black cat sat on the mat", "x"]
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    pieces = [piece.ids for piece in TextEncoder(tokenizer, 64, 8).singles(texts)]
    first = encoder.facts.first_position
    positions = torch.cat([torch.arange(first, first + len(ids)) for ids in pieces])
    ids = torch.tensor([token for piece in pieces for token in piece])
    means = encoder.means(ids[None], positions[None], pack(list(map(len, pieces))))[layer]
    assert_close(torch.nn.functional.normalize(means, dim=-1), found.tolist(), 1e-5)


@pytest.mark.parametrize("max_length", [8, 64, 200])
def test_the_function_of_the_card_reads_the_windows_of_xlt(finished, max_length: int, tmp_path: Path):
    export_run(finished, tmp_path, head="squad_v2", max_length=max_length)
    shown: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)[0], shown)
    model, read = shown["model"], []
    shown["model"] = lambda **windows: read.append(windows) or model(**windows)
    question, passage = "Where did the cat sit before? " * 20, "The black cat sat on the mat. " * 40
    shown["answer"](question, passage)
    ids = [row[mask == 1].tolist() for row, mask in zip(*read[0].values(), strict=True)]
    (windows,) = TextEncoder(load_tokenizer(MINI), max_length, STRIDE).windows([question], [passage])
    assert ids == [window.ids for window in windows]
