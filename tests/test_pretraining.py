"""The kinds that learn from plain text: encoding, heads against transformers' own, their runs and exports."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from commands import launch
from conftest import REPOSITORY, Command, run
from padded import PAD, fresh_encoder, pad, write_config
from safetensors.torch import load_file, save_file
from test_fit import DDP, assert_close, events, timeless
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, XLMRobertaForMaskedLM

from xlt import tasks
from xlt.batch.batch import Batch
from xlt.batch.packing import pack
from xlt.batch.predictions import Predictions
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.examples import Text
from xlt.data.features import Features, write_features
from xlt.data.sampling.collate import collate
from xlt.datamodule import TransferData
from xlt.export import export
from xlt.models.encoders.text import Encoder
from xlt.models.heads.language_modelling import MaskedHead
from xlt.models.heads.retrieval import RankingHead
from xlt.models.saving import load_heads
from xlt.module import TransferModule
from xlt.training.exporting import export_run

MINI = str(REPOSITORY / "encoders" / "mini")


@pytest.fixture(scope="session")
def text_root(samples: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of text: premises and hypotheses of MNLI as two languages and their pairs."""
    root = tmp_path_factory.mktemp("text")
    rows = pq.read_table(Path(samples[0]) / "nyu-mll/glue/mnli/train.parquet").to_pydict()
    first, second = rows["premise"], rows["hypothesis"]
    (root / "mono").mkdir()
    (root / "parallel").mkdir()
    pq.write_table(pa.table({"text": first}), root / "mono" / "aa.parquet")
    pq.write_table(pa.table({"text": second[:100]}), root / "mono" / "bb.parquet")
    pq.write_table(pa.table({"source": first, "target": second}), root / "parallel" / "aa-bb.parquet")
    return root


@pytest.fixture(scope="session")
def text_run(text_root: Path, samples: list[str]) -> dict[str, Any]:
    """Keys of a short run of text and a labelled task together."""
    roots = [str(text_root), *samples]
    return {
        "data.tasks": "[mlm, tlm, ranking, mnli]",
        "data.weights": "{mlm: 2, tlm: 1, ranking: 2, mnli: 1}",
        "data.root": f"[{', '.join(roots)}]",
        "trainer.max_steps": 12,
        "trainer.val_check_interval": 6,
        "checkpoints.every_n_steps": 3,
    }


def text(max_length: int) -> TextEncoder:
    return TextEncoder(load_tokenizer(MINI), max_length, 8)


def batch_of(task_name: str, examples: list[Text], folder: Path, key: int = 0) -> tuple[Batch, Features]:
    task = tasks.load(task_name)
    columns, _ = task.encode(examples, 0, text(32))
    write_features(folder / "features.arrow", [columns])
    features = Features(folder / "features.arrow")
    rows = np.arange(features.num_rows)
    masking = task.masking(text(32))
    return collate(
        task_name, features, rows, task.inputs, first_position=2, masking=masking, masking_key=key
    ), features


# Encoding


def test_a_long_text_becomes_rows_that_lose_nothing():
    long = " ".join(f"Sentence {i} of a document." for i in range(60))
    task, encoder = tasks.load("mlm"), text(24)
    columns, cut = task.encode([Text("Short."), Text(long)], 5, encoder)
    ids = encoder.tokenizer(long, add_special_tokens=False).input_ids
    assert [token for row in columns["input_ids"][1:] for token in row[1:-1]] == ids
    assert all(len(row) <= 24 and row[0] == 0 and row[-1] == 2 for row in columns["input_ids"])
    assert [row[0] for row in columns["example"]] == [5] + [6] * (len(columns["input_ids"]) - 1)
    assert cut == 0


def test_weight_is_the_number_of_tokens_to_guess(tmp_path: Path):
    sentences = [Text(f"This is sentence {i}, with {'very ' * (i % 7)}many words.") for i in range(50)]
    batch, features = batch_of("mlm", sentences, tmp_path)
    weights = features.gather("weight", np.arange(50))[0]
    assert batch.columns["counts"].tolist() == weights.tolist()
    assert len(batch.columns["token_indices"]) == len(batch.columns["targets"]) == weights.sum()


def test_a_pair_is_read_as_the_tokenizer_pairs_it_and_both_sides_are_hidden(tmp_path: Path):
    pairs = [Text("The house is green and old.", "Das Haus ist alt und grün.")] * 40
    batch, features = batch_of("tlm", pairs, tmp_path)
    expected = load_tokenizer(MINI)(pairs[0].text, pairs[0].translation).input_ids
    assert features.gather("input_ids", np.array([0]))[0].tolist() == expected
    hidden = (batch.columns["token_indices"] % len(expected)).numpy()
    second = expected.index(2) + 2
    assert ((hidden > 0) & (hidden < second - 2)).any()
    assert (hidden >= second).any()
    assert not set(hidden.tolist()) & {0, second - 2, second - 1, len(expected) - 1}


# Heads


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_config(tmp_path_factory.mktemp("encoder"))


def test_masked_head_has_the_loss_and_gradients_of_transformers(folder: str, tmp_path: Path):
    encoder = fresh_encoder(folder)
    head = MaskedHead(encoder.config.hidden_size)
    head.apply(encoder.transformer._init_weights)
    head.tie(encoder)
    reference = XLMRobertaForMaskedLM(encoder.config.__class__.from_pretrained(folder)).eval()
    reference.roberta.load_state_dict(encoder.transformer.state_dict())
    named = {**head.state_dict(), "decoder.weight": encoder.words.weight, "decoder.bias": head.bias}
    reference.lm_head.load_state_dict(named)

    sentences = [Text(f"The {'big ' * i}dog number {i} barked at the tree.") for i in range(9)]
    batch, _ = batch_of("mlm", sentences, tmp_path)
    sequences = [ids.tolist() for ids in batch.input_ids[0].split(batch.packing.lengths.tolist())]
    labels = torch.full_like(batch.input_ids[0], -100)
    labels[batch.columns["token_indices"]] = batch.columns["targets"]
    padded = pad(sequences)
    answers = torch.full_like(padded, -100)
    answers[padded != PAD] = labels
    theirs = reference(input_ids=padded, attention_mask=(padded != PAD).long(), labels=answers).loss
    theirs.backward()

    states = encoder(
        batch.input_ids, batch.position_ids, batch.packing, head.token_indices(batch.packing, batch.columns)
    )
    logits = head(states, batch.packing, batch.columns)
    ours = head.loss(logits, batch.packing, batch.columns) / len(batch.columns["targets"])
    ours.backward()
    assert ours.item() == pytest.approx(theirs.item(), rel=5e-6)
    expected = reference.roberta.embeddings.word_embeddings.weight.grad
    error = (encoder.words.weight.grad - expected).norm() / expected.norm()
    assert error < 1e-5
    assert torch.allclose(head.bias.grad, reference.lm_head.bias.grad, atol=1e-6)

    found = head.predict(logits, batch.packing, batch.columns)
    assert found["loss"].mean().item() == pytest.approx(theirs.item(), rel=1e-5)
    assert (found["target"] == batch.columns["targets"]).all()


def test_ranking_loss_is_the_one_worked_out_by_hand():
    head = RankingHead(scale=10.0, margin=0.2)
    # Two pairs; sequences of 2, 1, 1, 2 tokens, whose means point along (1, 0), (0.6, 0.8), (0, 1), (0, 1).
    states = torch.tensor([[1.0, 1.0], [1.0, -1.0], [3.0, 4.0], [0.0, 2.0], [-1.0, 1.0], [1.0, 3.0]])
    packing = pack([2, 1, 1, 2])
    vectors = head(states, packing, {})
    expected = torch.tensor([[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [0.0, 1.0]]])
    assert torch.allclose(vectors[0], expected, atol=1e-6)
    half = 0.5**0.5
    firsts = torch.tensor([[[half, half], [0.6, 0.8]], [[0.0, 1.0], [-half, half]]])
    assert torch.allclose(vectors[1], firsts, atol=1e-6)
    assert torch.equal(head.predict(vectors, packing, {})["vectors"], vectors[0])
    # Cosines of means: 0.6 0 / 0.8 1; less the margin on the diagonal, times 10: 4 0 / 8 8.
    by_row = np.log1p(np.exp(0 - 4)) + np.log1p(np.exp(8 - 8))
    by_column = np.log1p(np.exp(8 - 4)) + np.log1p(np.exp(0 - 8))
    means = (by_row + by_column) / 2
    # Cosines of first tokens: 1.4 half 0 / 0.8 half, of which half = 0.7071: 9.8995 - 2, 0 / 8, 7.0711 - 2.
    a, b, c, d = 14 * half - 2, 0.0, 8.0, 10 * half - 2
    by_row = np.log1p(np.exp(b - a)) + np.log1p(np.exp(c - d))
    by_column = np.log1p(np.exp(c - a)) + np.log1p(np.exp(b - d))
    firsts_loss = (by_row + by_column) / 2
    assert head.loss(vectors, packing, {}).item() == pytest.approx((means + firsts_loss) / 2, rel=1e-6)


NO_FEATURES: Any = None


def test_ranking_is_scored_by_the_nearest_of_all_rows_and_equal_sentences_count():
    task = tasks.load("ranking")
    one = np.eye(4, dtype=np.float32)
    other = one[[0, 1, 3, 2]]  # rows 2 and 3 are confused
    outputs = {"vectors": np.stack([one, other], 1)}
    scores = task.score(Predictions(outputs, NO_FEATURES, np.arange(4)))
    assert scores.metrics == {"accuracy": 50.0}
    assert scores.chance == {"accuracy": 25.0}
    twice = one[[0, 1, 2, 2]]
    scores = task.score(Predictions({"vectors": np.stack([twice, twice], 1)}, NO_FEATURES, np.arange(4)))
    assert scores.metrics == {"accuracy": 100.0}


def test_masked_scores_are_the_mean_loss_and_its_exponential():
    task = tasks.load("mlm")
    outputs = {
        "prediction": [np.array([5, 6]), np.array([7])],
        "target": [np.array([5, 9]), np.array([9])],
        "loss": [np.array([1.0, 2.0]), np.array([6.0])],
    }
    scores = task.score(Predictions(outputs, NO_FEATURES, np.arange(2)))
    assert scores.metrics["accuracy"] == pytest.approx(100 / 3)
    assert scores.chance["accuracy"] == pytest.approx(200 / 3)
    assert scores.details == pytest.approx({"loss": 3.0, "perplexity": np.exp(3.0), "tokens": 3.0})


def test_means_of_layers_are_those_of_transformers(folder: str):
    encoder = fresh_encoder(folder)
    reference = AutoModel.from_config(encoder.config.__class__.from_pretrained(folder)).eval()
    reference.load_state_dict(encoder.transformer.state_dict(), strict=False)
    sequences = [[0, 9, 8, 7, 2], [0, 2], [0, 5, 5, 6, 7, 8, 2]]
    ids = torch.tensor([token for sequence in sequences for token in sequence])[None]
    positions = torch.cat([torch.arange(len(s)) for s in sequences])[None] + 2
    ours = encoder.means(ids, positions, pack([len(s) for s in sequences]))
    padded = pad(sequences)
    mask = (padded != PAD).long()
    with torch.no_grad():
        states = reference(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
    theirs = torch.stack([(s * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) for s in states])
    assert ours.shape == theirs.shape == (3, 3, 64)
    assert torch.allclose(ours, theirs, atol=1e-5)


# Runs


@pytest.fixture(scope="session")
def finished(tiny_run: Command, text_run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretraining") / "run"
    assert run(tiny_run(folder, text_run)) == 0
    return folder


def test_text_and_labelled_tasks_train_in_one_mixture(finished: Path):
    trained = {event["train/task"] for event in events(finished) if "train/task" in event}
    assert trained == {"mlm/aa", "mlm/bb", "tlm/aa-bb", "ranking/aa-bb", "mnli"}
    found = json.loads((finished / "results.json").read_text())
    assert set(found) == {"mlm/aa", "mlm/bb", "tlm/aa-bb", "ranking/aa-bb", "mnli", "run"}
    # A model that knows nothing guesses one of 16,384 pieces.
    assert found["mlm/aa"]["loss"] == pytest.approx(np.log(16_384), abs=0.6)
    assert found["mlm/aa"]["perplexity"] == pytest.approx(np.exp(found["mlm/aa"]["loss"]), rel=1e-6)


def test_languages_share_a_tasks_head_and_its_part_of_the_score(finished: Path):
    last = [event for event in events(finished) if "val/score" in event][-1]
    languages = [last["val/mlm/aa/accuracy"], last["val/mlm/bb/accuracy"]]
    tasks_ = [np.mean(languages), last["val/tlm/aa-bb/accuracy"], last["val/ranking/aa-bb/accuracy"]]
    assert last["val/score"] == pytest.approx(np.mean([*tasks_, last["val/mnli/accuracy"]]))
    path = sorted((finished / "checkpoints").glob("*.ckpt"))[-1]
    state = torch.load(path, weights_only=True)["state_dict"]
    assert {key.split(".")[1] for key in state if key.startswith("heads.")} == {"mlm", "mnli"}


def test_a_run_of_text_continues_with_every_digit(
    finished: Path, tiny_run: Command, text_run: dict[str, Any], tmp_path: Path
):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "results.json").unlink()
    (folder / "checkpoints" / "step-000000012.ckpt").unlink()
    assert run(tiny_run(folder, text_run)) == 0
    assert timeless(events(folder)) == timeless(events(finished))


@pytest.mark.slow
def test_two_processes_hide_the_tokens_of_one(
    finished: Path, tiny_run: Command, text_run: dict[str, Any], tmp_path: Path
):
    folder = tmp_path / "run"
    code, output = launch(tiny_run(folder, text_run | DDP))
    assert code == 0, output
    assert_close(folder, finished, 2e-5, 1e-6)


def hidden_by_row(data: TransferData, step: int, rank: int, world_size: int) -> dict[int, list[int]]:
    """Which of its tokens each row of a step hides."""
    found = {}
    for batch in data.build_steps(4, rank, world_size)[step]:
        starts = np.concatenate([[0], np.cumsum(batch.packing.lengths.numpy())])
        token_indices = np.split(
            batch.columns["token_indices"].numpy(), np.cumsum(batch.columns["counts"].numpy())[:-1]
        )
        found |= {
            int(row): (mine - starts[i]).tolist()
            for i, (row, mine) in enumerate(zip(batch.rows, token_indices, strict=True))
        }
    return found


def test_each_step_hides_other_tokens_of_a_row_and_processes_do_not_matter(
    text_root: Path, cache: str, tiny_encoder: str
):
    keys = {"max_length": 128, "stride": 32, "tokens_per_micro_batch": 2048, "micro_batches_per_step": 2}
    data = TransferData(["mlm/bb"], root=str(text_root), cache=cache, encoder=tiny_encoder, **keys)
    data.prepare_data()
    first, second = (hidden_by_row(data, step, 0, 1) for step in (0, 1))
    both = first.keys() & second.keys()
    assert len(both) > 50  # 98 rows, so a step is more than an epoch
    assert sum(first[row] == second[row] for row in both) < len(both) / 4
    shared = hidden_by_row(data, 0, 0, 2) | hidden_by_row(data, 0, 1, 2)
    assert shared == first


# Export


@pytest.fixture(scope="session")
def exported(finished: Path) -> Path:
    out = finished.parent / "encoder"
    export([f"--run={finished}", f"--out={out}"])
    return out


def test_transformers_loads_an_export_with_its_head(exported: Path, finished: Path):
    model, report = AutoModelForMaskedLM.from_pretrained(exported, output_loading_info=True)
    assert not report["missing_keys"]
    best = json.loads((finished / "results.json").read_text())["run"]["best_step"]
    path = finished / "checkpoints" / f"step-{best:09d}.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(model.lm_head.dense.weight, state["heads.mlm.dense.weight"])
    words = state["encoder.transformer.embeddings.word_embeddings.weight"]
    assert torch.equal(model.lm_head.decoder.weight, words)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert len(tokenizer) == len(words)
    assert sorted(p.name for p in exported.iterdir()) == [
        "README.md",
        "config.json",
        "heads.safetensors",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_a_run_goes_on_from_an_export_with_the_loss_it_ended_with(
    exported: Path, finished: Path, text_root: Path, cache: str
):
    data = TransferData(
        ["mlm/aa"],
        root=str(text_root),
        cache=cache,
        max_length=128,
        stride=32,
        encoder=str(exported),
        validation_volume=8,
    )
    data.prepare_data()
    module = TransferModule(str(exported)).eval()
    head = data.tasks["mlm/aa"].head(module.encoder.config.hidden_size, 0.0)
    head.tie(module.encoder)
    rows = data.rows_in_use("mlm/aa", "validation")
    batch = collate(
        "mlm/aa", data.encoded["mlm/aa"]["validation"].features, rows, (), 2, masking=data._masking["mlm/aa"]
    )
    states = module.encoder(
        batch.input_ids, batch.position_ids, batch.packing, batch.columns["token_indices"]
    )
    losses = F.cross_entropy(head(states, batch.packing, batch.columns), batch.columns["targets"])
    found = json.loads((finished / "results.json").read_text())["mlm/aa"]["loss"]
    assert losses.item() == pytest.approx(found, rel=1e-4)


def test_half_precision_is_half_the_size_and_read_in_single(finished: Path, exported: Path, tmp_path: Path):
    export([f"--run={finished}", f"--out={tmp_path}", "--precision=float16"])
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (tmp_path, exported)]
    assert sizes[0] == pytest.approx(sizes[1] / 2, rel=0.02)
    assert Encoder(str(tmp_path)).words.weight.dtype == torch.float32


def test_a_folder_with_another_tokenizer_is_refused(finished: Path, tmp_path: Path):
    theirs = AutoTokenizer.from_pretrained(MINI)
    theirs.add_tokens(["<another>"])
    theirs.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="holds an encoder with another tokenizer: set --out to another folder"
    ):
        export([f"--run={finished}", f"--out={tmp_path}"])
    assert not (tmp_path / "model.safetensors").exists()


def test_an_export_into_a_runs_folder_is_refused(finished: Path):
    before = sorted(finished.rglob("*"))
    with pytest.raises(ValueError, match="is a run's folder: set out to another folder"):
        export_run(finished, finished)
    assert sorted(finished.rglob("*")) == before


def test_an_export_refuses_a_tokenizer_with_more_pieces_than_the_embedding(
    finished: Path, tiny_encoder: str, tmp_path: Path
):
    encoder = str(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    tokenizer = load_tokenizer(encoder)
    tokenizer.add_tokens(["<ent>"])
    tokenizer.save_pretrained(encoder)
    changed = shutil.copytree(finished, tmp_path / "run")
    config = (changed / "config.yaml").read_text()
    (changed / "config.yaml").write_text(config.replace(tiny_encoder, encoder))
    with pytest.raises(ValueError, match="has 16,385 token ids, but its embedding has 16,384 rows"):
        export([f"--run={changed}", f"--out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


def test_a_damaged_best_checkpoint_is_passed_over_with_a_word(finished: Path, tmp_path: Path):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    best = json.loads((folder / "results.json").read_text())["run"]["best_step"]
    path = folder / "checkpoints" / f"step-{best:09d}.ckpt"
    last = sorted((folder / "checkpoints").glob("*.ckpt"))[-1]
    path.write_bytes(path.read_bytes()[:-9])
    if path == last:
        with pytest.warns(UserWarning, match="is damaged: .* it is skipped"):
            export([f"--run={folder}", f"--out={tmp_path / 'out'}"])
    else:
        with pytest.warns(UserWarning, match="the best checkpoint, .*, is damaged: .* taking the newest"):
            export([f"--run={folder}", f"--out={tmp_path / 'out'}"])


@pytest.mark.parametrize("name", ["model.safetensors", "heads.safetensors"])
def test_a_truncated_file_of_weights_is_named(exported: Path, tmp_path: Path, name: str):
    folder = Path(shutil.copytree(exported, tmp_path / "encoder"))
    if name == "heads.safetensors":
        save_file({"mlm.weight": torch.zeros(9)}, folder / name, {"labels": "{}"})
    path = folder / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises((FileNotFoundError, ValueError), match=r"its weights cannot be loaded|is damaged"):
        load_heads(str(folder)) if name == "heads.safetensors" else Encoder(str(folder))


@pytest.mark.parametrize("text", ["", "[1]", "a: [", "data: {}"])
def test_a_damaged_config_of_a_run_is_named(finished: Path, tmp_path: Path, text: str):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: "):
        export([f"--run={folder}", f"--out={tmp_path / 'out'}"])


def test_weights_of_another_model_are_refused(exported: Path, tmp_path: Path):
    folder = Path(shutil.copytree(exported, tmp_path / "encoder"))
    state = load_file(folder / "model.safetensors")
    save_file({f"other.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"its weights lack \d+ tensors, such as .*from_scratch"):
        Encoder(str(folder))


def test_what_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"is not a run's folder: config\.yaml is missing"):
        export([f"--run={tmp_path}", f"--out={tmp_path / 'out'}"])
    (tmp_path / "config.yaml").write_text("model: {encoder: x}")
    with pytest.raises(FileNotFoundError, match="has no undamaged checkpoint"):
        export([f"--run={tmp_path}", f"--out={tmp_path / 'out'}"])


# Tasks in languages


def test_a_labelled_task_in_a_language_reads_the_translated_rows(
    samples: list[str], cache: str, tiny_encoder: str, tmp_path: Path
):
    source = Path(samples[0]) / "nyu-mll/glue/mnli"
    target = tmp_path / "de" / "nyu-mll/glue/mnli"
    target.parent.mkdir(parents=True)
    target.symlink_to(source)
    data = TransferData(
        ["mnli", "mnli/de"],
        root=[samples[0], str(tmp_path)],
        cache=cache,
        encoder=tiny_encoder,
        weights={"mnli": 1},
    )
    data.prepare_data()
    assert set(data.tasks) == {"mnli", "mnli/de"}
    assert data.shares() == pytest.approx({"mnli": 0.5, "mnli/de": 0.5})
    part = data.encoded["mnli/de"]["train"].meta.sources[0]
    assert part["location"] == str(target / "train.parquet")


@pytest.mark.parametrize(
    ("key", "value"), [("volume", {"mlm/aa": 5}), ("weights", {"mlm/zz": 1.0, "mnli": 1.0})]
)
def test_volumes_are_of_tasks_and_weights_of_tasks_or_their_languages(
    key: str, value: Any, text_root: Path, tiny_encoder: str
):
    with pytest.raises(
        ValueError, match=rf"data.{key} names \['mlm/..'.*(mlm, not mlm/sw|weight of its own)"
    ):
        TransferData(["mlm/aa", "mnli"], root=str(text_root), encoder=tiny_encoder, **{key: value})


def test_a_language_of_too_little_text_is_named(cache: str, tiny_encoder: str, tmp_path: Path):
    (tmp_path / "mono").mkdir()
    pq.write_table(pa.table({"text": ["One sentence alone."]}), tmp_path / "mono" / "cc.parquet")
    data = TransferData(["mlm"], root=str(tmp_path), cache=cache, encoder=tiny_encoder)
    with pytest.raises(ValueError, match=r"cc.parquet \(task mlm/cc\): none of its texts is in this split"):
        data.prepare_data()


def test_a_tokenizer_without_a_mask_is_named(text_root: Path, cache: str, tiny_encoder: str, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))
    tokenizer = load_tokenizer(str(folder))
    tokenizer.mask_token = None
    task = tasks.load("mlm/aa")
    with pytest.raises(ValueError, match="has no mask token, which mlm/aa needs"):
        task.masking(TextEncoder(tokenizer, 32, 8))


def test_tasks_that_share_a_head_have_the_same_classes(
    samples: list[str], tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, target = Path(samples[1]) / "ccg/default", tmp_path / "de" / "ccg/default"
    target.mkdir(parents=True)
    for name in ("train", "validation"):
        table = pq.read_table(source / f"{name}.parquet").slice(0, 20)
        pq.write_table(table, target / f"{name}.parquet")
    changes = {"data.tasks": "[ccg, ccg/de]", "data.root": f"[{samples[1]}, {tmp_path}]"}
    assert run(tiny_run(tmp_path / "run", changes)) == 2
    assert "ccg/de and ccg share a head, but have different classes" in capsys.readouterr().err


def test_a_language_without_translated_rows_is_named(samples: list[str], cache: str, tiny_encoder: str):
    data = TransferData(["mnli/de"], root=samples[0], cache=cache, encoder=tiny_encoder)
    with pytest.raises(FileNotFoundError, match=r"de/nyu-mll/glue/mnli/train.parquet is not in"):
        data.prepare_data()
