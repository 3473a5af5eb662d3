"""The encoder as a module: made, loaded, saved, copied, refused."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from padded import (
    fresh_encoder,
    random_rows,
    run_packed,
    run_padded,
    stored,
    write_config,
)
from torch import nn
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.batch.batch import Batch
from xlt.data.sampling.collate import collate
from xlt.models.encoders.agreement import padded_model
from xlt.models.encoders.families import facts_of
from xlt.models.encoders.family import EncoderFacts
from xlt.models.encoders.text import Encoder, load_config
from xlt.models.kernels.dropout import Dropout

LENGTHS = [9, 30, 28]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a config."""
    return write_config(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: str) -> Encoder:
    """The packed encoder without dropout."""
    return fresh_encoder(folder)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Three sequences of random tokens."""
    return collate("task", stored(tmp_path, random_rows(LENGTHS, 0)), np.arange(3), (), first_position=2)


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
    with pytest.raises(FileNotFoundError, match=r"model\.encoder .* has no config\.json"):
        Encoder(str(tmp_path))


def test_an_encoder_without_weights_is_refused_unless_from_scratch(folder: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"its weights cannot be loaded, .*model\.from_scratch"):
        Encoder(folder)


def test_the_longest_sequence_is_512_tokens(folder: str) -> None:
    assert facts_of(load_config(folder)) == EncoderFacts(first_position=2, max_tokens=512)


def test_the_weights_have_the_names_of_transformers(folder: str, encoder: Encoder) -> None:
    plain = XLMRobertaModel(XLMRobertaConfig.from_pretrained(folder), add_pooling_layer=False)
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert {name: tensor.shape for name, tensor in encoder.transformer.state_dict().items()} == shapes
    assert [name for name, _ in encoder.transformer.named_parameters()] == [
        name for name, _ in plain.named_parameters()
    ]


def test_transformers_loads_what_the_encoder_saves(encoder: Encoder, batch: Batch, tmp_path: Path) -> None:
    encoder.transformer.save_pretrained(tmp_path / "saved")
    loaded = XLMRobertaModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False).eval()
    expected = torch.cat(run_padded(loaded, [ids.tolist() for ids in batch.input_ids[0].split(LENGTHS)]))
    torch.testing.assert_close(run_packed(encoder, batch), expected, rtol=1e-4, atol=1e-5)
    again = Encoder(str(tmp_path / "saved")).eval()
    assert torch.equal(run_packed(again, batch), run_packed(encoder, batch))


def pickled(encoder: Encoder) -> Encoder:
    """A copy by way of bytes."""
    return pickle.loads(pickle.dumps(encoder))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_computes_the_same_and_trains_alone(
    copied: Callable[[Encoder], Encoder], encoder: Encoder, batch: Batch
) -> None:
    other = copied(encoder)
    for token_indices in (None, batch.packing.starts):
        assert torch.equal(run_packed(other, batch, token_indices), run_packed(encoder, batch, token_indices))
    encoder.zero_grad()
    with other.words.holding():
        run_packed(other, batch).sum().backward()
    run_packed(other, batch).sum().backward()
    assert other.words.weight.grad is not None
    assert {name for name, p in encoder.named_parameters() if p.grad is not None} == set()
    assert encoder.words.held == other.words.held == []


def test_micro_batches_held_back_have_the_gradient_of_torch(folder: str, tmp_path: Path) -> None:
    encoder = fresh_encoder(folder)
    model = padded_model(encoder)
    columns = random_rows(LENGTHS, 1)
    batches = [
        collate("task", stored(tmp_path, columns), np.array([row]), (), first_position=2) for row in range(3)
    ]
    with encoder.words.holding():
        for batch in batches[:-1]:
            run_packed(encoder, batch, batch.packing.starts)[:, 0].sum().backward()
    run_packed(encoder, batches[-1], batches[-1].packing.starts)[:, 0].sum().backward()
    for ids in columns["input_ids"]:
        run_padded(model, [ids])[0][0, 0].backward()
    for (name, ours), theirs in zip(encoder.transformer.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)
