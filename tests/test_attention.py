"""The packed encoder and its heads against `transformers`' own padded XLM-R with the same weights."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt import tasks
from xlt.data.collate import Batch, collate
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.features import Features, write_features
from xlt.kinds import Tagging
from xlt.models.dropout import Dropout
from xlt.models.encoder import Encoder, load_config, most_tokens
from xlt.models.heads import SpanHead
from xlt.packing import pack

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")
VOCABULARY, WIDTH, PAD = 16_384, 64, 1

Columns = Mapping[str, list[list[int]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A config of 2 layers x 64, its weights wide enough for attention that is far from uniform."""
    path = tmp_path_factory.mktemp("encoder")
    XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=514,
        type_vocab_size=1,
        initializer_range=0.15,
        pad_token_id=PAD,
        bos_token_id=0,
        eos_token_id=2,
    ).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def encoder(folder: str) -> Encoder:
    """The packed encoder without dropout."""
    torch.manual_seed(0)
    return Encoder(folder, from_scratch=True).eval()


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def padded(request: pytest.FixtureRequest, folder: str, encoder: Encoder) -> XLMRobertaModel:
    """The model of transformers with the same weights, a config of its own and an attention of its own."""
    config = XLMRobertaConfig.from_pretrained(folder, attn_implementation=request.param)
    model = XLMRobertaModel(config, add_pooling_layer=False).eval()
    model.load_state_dict(encoder.transformer.state_dict())
    return model


@cache
def text(max_length: int) -> TextEncoder:
    """The mini tokenizer."""
    return TextEncoder(load_tokenizer(MINI), max_length, 8)


def stored(path: Path, columns: Columns) -> Features:
    """The columns on disk."""
    write_features(path / "features.arrow", [columns])
    return Features(path / "features.arrow")


def random_rows(lengths: Sequence[int], seed: int) -> Columns:
    """A row of random tokens for each length, special ids left out."""
    generator = np.random.default_rng(seed)
    ids = [generator.integers(4, VOCABULARY, length).tolist() for length in lengths]
    return {"input_ids": ids, "lengths": [[length] for length in lengths]}


def random_lengths(seed: int) -> list[int]:
    """Between 3 and 12 lengths from 1 to 512, the ends among them."""
    generator = np.random.default_rng(seed)
    found = (512 ** generator.random(generator.integers(1, 11))).astype(int).tolist()
    return generator.permutation([1, 512, *found]).tolist()


def pad(sequences: Sequence[Sequence[int]]) -> Tensor:
    """The sequences, one a row, padded."""
    return pad_sequence([torch.tensor(ids) for ids in sequences], batch_first=True, padding_value=PAD)


def run_padded(model: XLMRobertaModel, sequences: Sequence[Sequence[int]]) -> list[Tensor]:
    """Hidden states of each sequence by transformers; positions and mask as it makes them of the ids."""
    ids = pad(sequences)
    states = model(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
    return [states[i, : len(tokens)] for i, tokens in enumerate(sequences)]


def run_packed(encoder: Encoder, batch: Batch) -> Tensor:
    """Our hidden states, sequences end to end."""
    return encoder(batch.input_ids, batch.position_ids, batch.packing)


def error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    with torch.no_grad():
        return ((found - expected).double().norm() / expected.double().norm()).item()


def gradients(model: nn.Module, output: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Gradient of a weighted sum of the output for each parameter."""
    model.zero_grad()
    (output.float() * weights).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_gradients_agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Each gradient agrees; one that is zero but for rounding, as a key's bias has, against the rest."""
    assert set(found) == set(expected)
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, gradient in expected.items():
        difference = (found[name] - gradient).norm()
        assert difference < tolerance * max(gradient.norm(), 1e-2 * whole), name


LENGTHS = {
    "one token": [1],
    "one sequence": [300],
    "longest": [512],
    "ends": [512, 1],
    "ones": [1, 1, 1],
    "equal": [20, 20, 20],
    "already sorted": [64, 32, 8],
    "one block": [30, 28, 29, 27],
    **{f"seed {seed}": random_lengths(seed) for seed in range(4)},
}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_packed_equals_padded_in_single_precision(
    lengths: list[int], encoder: Encoder, padded: XLMRobertaModel, tmp_path: Path
) -> None:
    columns = random_rows(lengths, seed=len(lengths))
    order = np.random.default_rng(1).permutation(len(lengths))
    batch = collate("task", stored(tmp_path, columns), order, inputs=())
    found = run_packed(encoder, batch)
    expected = torch.cat(run_padded(padded, [columns["input_ids"][row] for row in order]))
    assert found.shape == (sum(lengths), WIDTH)
    assert error(found, expected) < 1e-5
    torch.manual_seed(2)
    weights = torch.randn_like(found)
    assert_gradients_agree(
        gradients(encoder.transformer, found, weights), gradients(padded, expected, weights), 1e-5
    )


@pytest.mark.parametrize("lengths", [LENGTHS["ends"], LENGTHS["one block"], LENGTHS["seed 0"]])
def test_packed_equals_padded_in_bf16(
    lengths: list[int], encoder: Encoder, padded: XLMRobertaModel, tmp_path: Path
) -> None:
    columns = random_rows(lengths, seed=0)
    batch = collate("task", stored(tmp_path, columns), np.arange(len(lengths)), inputs=())
    with torch.autocast("cpu", torch.bfloat16):
        found = run_packed(encoder, batch)
        expected = torch.cat(run_padded(padded, columns["input_ids"]))
    assert error(found, expected) < 2e-2
    torch.manual_seed(2)
    weights = torch.randn(found.shape)
    ours = gradients(encoder.transformer, found, weights)
    theirs = gradients(padded, expected, weights)
    joined = [torch.cat([g[name].flatten() for name in sorted(theirs)]) for g in (ours, theirs)]
    assert error(*joined) < 2e-2


def test_a_sequence_does_not_see_its_neighbours(encoder: Encoder, tmp_path: Path) -> None:
    columns = random_rows([7, 30, 31, 12], seed=3)
    features = stored(tmp_path, columns)
    together = run_packed(encoder, collate("task", features, np.array([3, 1, 2, 0]), ()))
    alone = run_packed(encoder, collate("task", features, np.array([1]), ()))
    assert error(together[12:42], alone) < 1e-5
    changed = {**columns, "input_ids": [*columns["input_ids"][:3], [5] * 12]}
    (tmp_path / "changed").mkdir()
    other = run_packed(
        encoder, collate("task", stored(tmp_path / "changed", changed), np.array([3, 1, 2, 0]), ())
    )
    assert torch.equal(together[12:], other[12:])
    assert not torch.equal(together[:12], other[:12])


def test_positions_start_anew_in_each_sequence_of_a_row(tmp_path: Path) -> None:
    columns = {"input_ids": [[9, 8, 7, 6, 5], [4]], "lengths": [[2, 3], [1]]}
    batch = collate("task", stored(tmp_path, columns), np.array([1, 0, 1]), ())
    assert batch.input_ids.tolist() == [[4, 9, 8, 7, 6, 5, 4]]
    # XLM-R's positions start at its padding id + 1.
    assert batch.position_ids.tolist() == [[2, 2, 3, 2, 3, 4, 2]]
    assert batch.packing.lengths.tolist() == [1, 2, 3, 1]
    assert batch.rows.tolist() == [1, 0, 1]
    assert batch.num_tokens == 7


def test_a_micro_batch_without_rows(tmp_path: Path) -> None:
    columns = {"input_ids": [[9, 8]], "lengths": [[2]], "targets": [[0]], "places": [[1]]}
    batch = collate("task", stored(tmp_path, columns), np.zeros(0, np.int64), ("targets", "places"))
    assert batch.num_tokens == 0
    assert batch.columns["targets"].tolist() == batch.columns["places"].tolist() == []


# Dropout


def test_attention_dropout_follows_the_seed_and_the_mode(folder: str, tmp_path: Path) -> None:
    config = XLMRobertaConfig.from_pretrained(folder)
    config.hidden_dropout_prob, config.attention_probs_dropout_prob = 0.0, 0.5
    config.save_pretrained(tmp_path)
    encoder = Encoder(str(tmp_path), from_scratch=True).train()
    batch = collate("task", stored(tmp_path, random_rows([9, 30, 28], 0)), np.arange(3), ())

    def states(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return run_packed(encoder, batch)

    assert torch.equal(states(0), states(0))
    assert not torch.equal(states(0), states(1))
    encoder.eval()
    assert torch.equal(states(0), states(1))


@pytest.fixture(scope="module")
def pretrained(folder: str, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with weights."""
    path = tmp_path_factory.mktemp("pretrained")
    config = XLMRobertaConfig.from_pretrained(folder)
    model = XLMRobertaModel(config, add_pooling_layer=False)
    model.load_state_dict(encoder.transformer.state_dict())
    model.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize("from_scratch", [True, False])
def test_an_encoder_is_ready_to_train_with_weights_or_without(pretrained: str, from_scratch: bool) -> None:
    encoder = Encoder(pretrained, from_scratch)
    # Lightning trains modules in the mode that it finds them in.
    assert {name for name, module in encoder.named_modules() if not module.training} == set()


def test_an_encoder_loads_its_weights_in_single_precision(pretrained: str, encoder: Encoder) -> None:
    loaded = Encoder(pretrained)
    for name, tensor in encoder.transformer.state_dict().items():
        assert torch.equal(loaded.transformer.state_dict()[name], tensor), name
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_every_dropout_of_an_encoder_is_the_cheap_one(encoder: Encoder) -> None:
    dropouts = [module for module in encoder.modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) == 7
    assert all(type(module) is Dropout for module in dropouts)


def test_two_encoders_do_not_share_their_attention(folder: str, encoder: Encoder) -> None:
    plain = XLMRobertaModel(XLMRobertaConfig.from_pretrained(folder), add_pooling_layer=False)
    assert plain.config._attn_implementation != encoder.config._attn_implementation


def test_an_encoder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.encoder .* neither a folder"):
        Encoder(str(tmp_path))


def test_an_encoder_without_weights_is_refused_unless_from_scratch(folder: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"its weights cannot be loaded .*model\.from_scratch"):
        Encoder(folder)


def test_the_longest_sequence_is_512_tokens(folder: str) -> None:
    assert most_tokens(load_config(folder)) == 512


# Heads


def sample(samples: Sequence[str], path: str, num: int) -> list[dict[str, Any]]:
    """The first rows of a sample file."""
    found = next(root for root in map(Path, samples) if (root / path).is_file())
    return pq.read_table(found / path).slice(0, num).to_pylist()


def sequences_of(columns: Columns, row: int) -> list[list[int]]:
    """A row's ids cut into its sequences."""
    edges = [0, *itertools.accumulate(columns["lengths"][row])]
    return [columns["input_ids"][row][a:b] for a, b in itertools.pairwise(edges)]


def pooled(head: nn.Module, first: Tensor) -> Tensor:
    """RobertaClassificationHead of transformers on first tokens, written out."""
    weights = dict(head.named_parameters())
    hidden = torch.tanh(first @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
    return hidden @ weights["pooler.out_proj.weight"].T + weights["pooler.out_proj.bias"]


Case = tuple[str, list[str], int, int]
"""Task, sample file, most tokens, rows."""

CASES: dict[str, Case] = {
    "classification": ("mnli", ["nyu-mll/glue/mnli/train.parquet"], 64, 24),
    "choice": ("cosmosqa", ["allenai/cosmos_qa/default/train.parquet"], 96, 8),
    "tagging": ("ccg", ["ccg/default/train.parquet"], 24, 20),
    "span": ("squad_v2", ["rajpurkar/squad_v2/squad_v2/train.parquet"], 128, 12),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, samples: list[str]) -> tuple[str, Any, Columns]:
    """A kind, a task of it with some tags unseen, and its encoded sample rows."""
    name, (path,), max_length, num = CASES[request.param]
    task = tasks.load(name)
    examples = [task.read(row) for row in sample(samples, path, num)]
    task = task.with_labels_of(examples[: num // 2])
    columns, _ = task.encode(examples, 0, text(max_length))
    return request.param, task, columns


def classification_loss(
    head: nn.Module, run: Callable[..., list[Tensor]], columns: Columns, row: int
) -> Tensor:
    (states,) = run(sequences_of(columns, row))
    return -pooled(head, states[0]).log_softmax(-1)[columns["targets"][row][0]]


def choice_loss(head: nn.Module, run: Callable[..., list[Tensor]], columns: Columns, row: int) -> Tensor:
    scores = torch.stack([pooled(head, states[0])[0] for states in run(sequences_of(columns, row))])
    return -scores.log_softmax(-1)[columns["targets"][row][0]]


def tagging_loss(head: nn.Module, run: Callable[..., list[Tensor]], columns: Columns, row: int) -> Tensor:
    states = torch.cat(run(sequences_of(columns, row)))
    logits = F.linear(states, head.out_proj.weight, head.out_proj.bias)
    words = zip(columns["places"][row], columns["targets"][row], strict=True)
    return sum((-logits[p].log_softmax(-1)[t] for p, t in words if t >= 0), torch.zeros(()))


def span_loss(head: nn.Module, run: Callable[..., list[Tensor]], columns: Columns, row: int) -> Tensor:
    (states,) = run(sequences_of(columns, row))
    logits = F.linear(states, head.out_proj.weight, head.out_proj.bias)
    begin, end = columns["passage"][row]
    # The first token, which stands for no answer, and the passage; a question's token can be no answer.
    candidates = [0, *range(begin, end)]
    ends = zip(range(2), columns["targets"][row], strict=True)
    return sum(-logits[candidates, i].log_softmax(-1)[candidates.index(t)] for i, t in ends) / 2


LOSSES = {
    "classification": classification_loss,
    "choice": choice_loss,
    "tagging": tagging_loss,
    "span": span_loss,
}


def fresh_head(task: Any) -> Any:
    """The task's head, its weights large enough for a loss far from uniform."""
    torch.manual_seed(3)
    head = task.head(WIDTH, 0.0)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    return head


def test_losses_equal_those_of_the_padded_reference(
    case: tuple[str, Any, Columns], encoder: Encoder, padded: XLMRobertaModel, tmp_path: Path
) -> None:
    kind, task, columns = case
    head = fresh_head(task)
    features = stored(tmp_path, columns)
    rows = np.random.default_rng(0).permutation(features.num_rows)
    batch = collate(task.name, features, rows, task.inputs)
    logits = head(run_packed(encoder, batch), batch.packing, batch.columns)
    found = head.loss(logits, batch.packing, batch.columns)
    found_gradients = torch.autograd.grad(found, list(head.parameters()))

    def run(sequences: Sequence[Sequence[int]]) -> list[Tensor]:
        with torch.no_grad():
            return run_padded(padded, sequences)

    expected = torch.stack([LOSSES[kind](head, run, columns, row) for row in range(features.num_rows)]).sum()
    assert expected > 0
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(
        found_gradients, torch.autograd.grad(expected, list(head.parameters())), strict=True
    ):
        assert (ours - theirs).norm() < 2e-5 * max(theirs.norm(), 1.0)


def test_the_loss_is_the_sum_over_any_division_into_micro_batches(
    case: tuple[str, Any, Columns], encoder: Encoder, tmp_path: Path
) -> None:
    _, task, columns = case
    head, features = fresh_head(task), stored(tmp_path, columns)

    def loss(rows: np.ndarray) -> float:
        batch = collate(task.name, features, rows, task.inputs)
        with torch.no_grad():
            logits = head(run_packed(encoder, batch), batch.packing, batch.columns)
            return head.loss(logits, batch.packing, batch.columns).item()

    rows = np.arange(features.num_rows)
    assert loss(rows) == pytest.approx(sum(loss(part) for part in np.array_split(rows, 3)), rel=1e-5)
    assert loss(np.array([2, 2])) == pytest.approx(2 * loss(np.array([2])), rel=1e-5)


def read_places(kind: str, columns: Columns) -> set[int]:
    """Tokens of all rows end to end that the loss may read."""
    places: set[int] = set()
    offset = 0
    for row in range(len(columns["input_ids"])):
        lengths = columns["lengths"][row]
        if kind in ("classification", "choice"):
            places |= {offset + start for start in [0, *itertools.accumulate(lengths)][:-1]}
        elif kind == "tagging":
            words = zip(columns["places"][row], columns["targets"][row], strict=True)
            places |= {offset + place for place, target in words if target >= 0}
        else:
            places |= {
                offset,
                *range(offset + columns["passage"][row][0], offset + columns["passage"][row][1]),
            }
        offset += sum(lengths)
    return places


def test_nothing_but_labelled_tokens_enters_the_loss(case: tuple[str, Any, Columns], tmp_path: Path) -> None:
    kind, task, columns = case
    head, features = fresh_head(task), stored(tmp_path, columns)
    batch = collate(task.name, features, np.arange(features.num_rows), task.inputs)
    torch.manual_seed(0)
    states = torch.randn(batch.num_tokens, WIDTH, requires_grad=True)
    head.loss(head(states, batch.packing, batch.columns), batch.packing, batch.columns).backward()
    assert states.grad is not None
    read = set(states.grad.abs().sum(-1).nonzero().flatten().tolist())
    assert read == read_places(kind, columns)
    if kind == "tagging":
        unseen = sum(target < 0 for row in columns["targets"] for target in row)
        assert unseen > 0
        assert len(read) == sum(map(len, columns["targets"])) - unseen


def test_a_sentence_of_unseen_tags_alone_has_no_loss(tmp_path: Path) -> None:
    columns = {"input_ids": [[0, 9, 2]], "lengths": [[3]], "places": [[1]], "targets": [[-1]]}
    head = fresh_head(Tagging(source=(), read=len, labels=("A", "B")))
    batch = collate("t", stored(tmp_path, columns), np.array([0]), ("targets", "places"))
    states = torch.randn(3, WIDTH, requires_grad=True)
    loss = head.loss(head(states, batch.packing, batch.columns), batch.packing, batch.columns)
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None
    assert states.grad.abs().sum() == 0


def test_predictions_of_tagging_say_how_many_words_each_row_has(tmp_path: Path) -> None:
    columns = {
        "input_ids": [[0, 5, 6, 2], [0, 7, 2], [0, 8, 9, 9, 2]],
        "lengths": [[4], [3], [5]],
        "places": [[1, 2], [1], [1, 2, 3]],
        "targets": [[0, 1], [0], [1, 1, 0]],
    }
    head = Tagging(source=(), read=len, labels=("A", "B")).head(2, 0.0)
    nn.init.eye_(head.out_proj.weight)
    nn.init.zeros_(head.out_proj.bias)
    batch = collate("t", stored(tmp_path, columns), np.array([2, 0, 1]), ("targets", "places"))
    # The state of each token is its id's parity, one-hot.
    states = F.one_hot(batch.input_ids[0] % 2, 2).float()
    found = head.predict(head(states, batch.packing, batch.columns), batch.packing, batch.columns)
    assert found["counts"].tolist() == [3, 2, 1]
    assert found["prediction"].tolist() == [0, 1, 1, 1, 0, 1]


# Spans


@pytest.mark.parametrize("seed", range(6))
def test_the_best_spans_are_those_of_trying_every_pair(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths, passages = [12, 25, 9], [(4, 11), (3, 24), (8, 9)]
    longest_answer, num_best = 5, 30
    head = SpanHead(2, 0.0, num_best, longest_answer)
    nn.init.eye_(head.out_proj.weight)
    nn.init.zeros_(head.out_proj.bias)
    states = torch.randn(sum(lengths), 2, generator=generator)
    packing = pack(lengths)
    columns = {"passage": torch.tensor(passages).flatten()}
    found = head.predict(head(states, packing, columns), packing, columns)
    for i, (start, (begin, end)) in enumerate(zip(packing.starts.tolist(), passages, strict=True)):
        scores = {
            (s, e): (states[start + s, 0] + states[start + e, 1]).item()
            for s in range(begin, end)
            for e in range(s, min(end, s + longest_answer))
        }
        best = sorted(scores, key=lambda pair: -scores[pair])
        num = min(len(best), found["start"].shape[1])
        pairs = zip(found["start"][i].tolist(), found["end"][i].tolist(), strict=True)
        assert list(pairs)[:num] == best[:num]
        assert found["score"][i, :num].tolist() == pytest.approx([scores[p] for p in best[:num]], abs=1e-6)
        assert all(found["score"][i, num:] == -torch.inf)
        assert found["null"][i].item() == pytest.approx(states[start].sum().item(), abs=1e-6)
