"""Heads against losses written out on `transformers`' own padded XLM-R, and their predictions."""

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from padded import (
    WIDTH,
    Columns,
    fresh_encoder,
    run_packed,
    run_padded,
    stored,
    write_config,
)
from torch import Tensor, nn
from transformers import XLMRobertaModel

from xlt import tasks
from xlt.batch.batch import Batch
from xlt.batch.packing import pack
from xlt.data.encode import TextEncoder, load_tokenizer
from xlt.data.sampling.collate import collate
from xlt.kinds import Tagging
from xlt.models.encoders.agreement import padded_model
from xlt.models.encoders.text import Encoder
from xlt.models.heads.head import Head
from xlt.models.heads.span_extraction import SpanHead

MINI = str(Path(__file__).parents[1] / "encoders" / "mini")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a config."""
    return write_config(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: str) -> Encoder:
    """The packed encoder without dropout."""
    return fresh_encoder(folder)


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def padded(request: pytest.FixtureRequest, encoder: Encoder) -> XLMRobertaModel:
    """The model of transformers with the same weights."""
    return padded_model(encoder, request.param)


@cache
def text(max_length: int) -> TextEncoder:
    """The mini tokenizer."""
    return TextEncoder(load_tokenizer(MINI), max_length, 8)


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
    words = zip(columns["token_indices"][row], columns["targets"][row], strict=True)
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


def logits_of(head: Head, encoder: Encoder, batch: Batch) -> Tensor:
    """The head on the states that it reads."""
    states = run_packed(encoder, batch, head.token_indices(batch.packing, batch.columns))
    return head(states, batch.packing, batch.columns)


def read(head: Head, states: Tensor, batch: Batch) -> Tensor:
    """Of the states of all tokens, those that the head reads."""
    token_indices = head.token_indices(batch.packing, batch.columns)
    return states if token_indices is None else states[token_indices]


def test_losses_equal_those_of_the_padded_reference(
    case: tuple[str, Any, Columns], encoder: Encoder, padded: XLMRobertaModel, tmp_path: Path
) -> None:
    kind, task, columns = case
    head = fresh_head(task)
    features = stored(tmp_path, columns)
    rows = np.random.default_rng(0).permutation(features.num_rows)
    batch = collate(task.name, features, rows, task.inputs, first_position=2)
    logits = logits_of(head, encoder, batch)
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
        batch = collate(task.name, features, rows, task.inputs, first_position=2)
        with torch.no_grad():
            logits = logits_of(head, encoder, batch)
            return head.loss(logits, batch.packing, batch.columns).item()

    rows = np.arange(features.num_rows)
    assert loss(rows) == pytest.approx(sum(loss(part) for part in np.array_split(rows, 3)), rel=1e-5)
    assert loss(np.array([2, 2])) == pytest.approx(2 * loss(np.array([2])), rel=1e-5)


def read_places(kind: str, columns: Columns) -> set[int]:
    """Tokens of all rows end to end that the loss may read."""
    token_indices: set[int] = set()
    offset = 0
    for row in range(len(columns["input_ids"])):
        lengths = columns["lengths"][row]
        if kind in ("classification", "choice"):
            token_indices |= {offset + start for start in [0, *itertools.accumulate(lengths)][:-1]}
        elif kind == "tagging":
            words = zip(columns["token_indices"][row], columns["targets"][row], strict=True)
            token_indices |= {offset + place for place, target in words if target >= 0}
        else:
            token_indices |= {
                offset,
                *range(offset + columns["passage"][row][0], offset + columns["passage"][row][1]),
            }
        offset += sum(lengths)
    return token_indices


def test_a_head_reads_no_more_than_it_names_and_in_ascending_order(
    case: tuple[str, Any, Columns], tmp_path: Path
) -> None:
    kind, task, columns = case
    features = stored(tmp_path, columns)
    rows = np.random.default_rng(0).permutation(features.num_rows)
    batch = collate(task.name, features, rows, task.inputs, first_position=2)
    token_indices = fresh_head(task).token_indices(batch.packing, batch.columns)
    if kind == "span":
        assert token_indices is None
    else:
        assert token_indices.diff().gt(0).all()
        num = sum(map(len, columns["token_indices" if kind == "tagging" else "lengths"]))
        assert len(token_indices) == num < batch.num_tokens


def test_nothing_but_labelled_tokens_enters_the_loss(case: tuple[str, Any, Columns], tmp_path: Path) -> None:
    kind, task, columns = case
    head, features = fresh_head(task), stored(tmp_path, columns)
    batch = collate(task.name, features, np.arange(features.num_rows), task.inputs, first_position=2)
    torch.manual_seed(0)
    states = torch.randn(batch.num_tokens, WIDTH, requires_grad=True)
    head.loss(
        head(read(head, states, batch), batch.packing, batch.columns), batch.packing, batch.columns
    ).backward()
    assert states.grad is not None
    seen = set(states.grad.abs().sum(-1).nonzero().flatten().tolist())
    assert seen == read_places(kind, columns)
    if kind == "tagging":
        unseen = sum(target < 0 for row in columns["targets"] for target in row)
        assert unseen > 0
        assert len(seen) == sum(map(len, columns["targets"])) - unseen


def test_a_sentence_of_unseen_tags_alone_has_no_loss(tmp_path: Path) -> None:
    columns = {"input_ids": [[0, 9, 2]], "lengths": [[3]], "token_indices": [[1]], "targets": [[-1]]}
    head = fresh_head(Tagging(source=(), read=len, labels=("A", "B")))
    batch = collate(
        "t", stored(tmp_path, columns), np.array([0]), ("targets", "token_indices"), first_position=2
    )
    states = torch.randn(3, WIDTH, requires_grad=True)
    loss = head.loss(
        head(read(head, states, batch), batch.packing, batch.columns), batch.packing, batch.columns
    )
    loss.backward()
    assert loss.item() == 0
    assert states.grad is not None
    assert states.grad.abs().sum() == 0


def test_predictions_of_tagging_say_how_many_words_each_row_has(tmp_path: Path) -> None:
    columns = {
        "input_ids": [[0, 5, 6, 2], [0, 7, 2], [0, 8, 9, 9, 2]],
        "lengths": [[4], [3], [5]],
        "token_indices": [[1, 2], [1], [1, 2, 3]],
        "targets": [[0, 1], [0], [1, 1, 0]],
    }
    head = Tagging(source=(), read=len, labels=("A", "B")).head(2, 0.0)
    nn.init.eye_(head.out_proj.weight)
    nn.init.zeros_(head.out_proj.bias)
    batch = collate(
        "t", stored(tmp_path, columns), np.array([2, 0, 1]), ("targets", "token_indices"), first_position=2
    )
    # The state of each token is its id's parity, one-hot.
    states = F.one_hot(batch.input_ids[0] % 2, 2).float()
    found = head.predict(
        head(read(head, states, batch), batch.packing, batch.columns), batch.packing, batch.columns
    )
    assert found["counts"].tolist() == [3, 2, 1]
    assert found["prediction"].tolist() == [0, 1, 1, 1, 0, 1]


# Spans


@pytest.mark.parametrize("seed", range(6))
def test_the_best_span_is_that_of_trying_every_pair(seed: int) -> None:
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
        best = max(scores, key=lambda pair: scores[pair])
        assert (found["start"][i].item(), found["end"][i].item()) == best
        assert found["score"][i].item() == pytest.approx(scores[best], abs=1e-6)
        assert found["null"][i].item() == pytest.approx(states[start].sum().item(), abs=1e-6)
