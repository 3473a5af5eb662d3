"""Images in packed sequences against the padded model of `transformers`, and the projection of features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from padded import PAD, VOCABULARY, WIDTH, fresh_encoder, stored, write_config
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xlt.batch.batch import Batch
from xlt.data.features import Features, ImageRows
from xlt.data.sampling.collate import collate
from xlt.models.encoders.agreement import padded_model
from xlt.models.encoders.multimodal import Vision, VisionSettings, project_images, start_vision
from xlt.models.encoders.text import Encoder
from xlt.models.optim import adamw

TOKENS, C = 4, 12
"""Tokens of an image, and width of the vision encoder."""

ROWS = [(0, 5), (1, 1), (2, 7), (1, 60), (0, 1), (1, 17)]
"""Images and text tokens of each row, its first token included."""


class Illustrated(Features):
    """Rows with random features of images."""

    def __init__(self, path: Path, counts: Sequence[int], num_tokens: int) -> None:
        super().__init__(path)
        self.counts_, self.num_tokens = np.array(counts), num_tokens
        generator = np.random.default_rng(0)
        shape = (sum(counts), max(num_tokens, 1), C)
        self.features = generator.normal(3, 2, shape).astype(np.float16)

    def images(self, rows: np.ndarray, key: int) -> ImageRows:
        """The images of these rows, and two negatives if the rows are compared."""
        ends = np.cumsum(self.counts_)
        picked = np.concatenate([np.arange(ends[r] - self.counts_[r], ends[r]) for r in rows]).astype(int)
        found = ImageRows(self.features[picked], self.counts_[rows], picked, self.num_tokens)
        if self.num_tokens:
            return found
        return found._replace(negatives=self.features[:2, 0], negative_ids=np.arange(2))


def features_of(path: Path, rows: Sequence[tuple[int, int]], num_tokens: int) -> Illustrated:
    """Rows of random text with placeholders after the first token."""
    generator = np.random.default_rng(1)
    ids = [
        [0, *[PAD] * (images * num_tokens), *generator.integers(4, VOCABULARY, text - 1).tolist()]
        for images, text in rows
    ]
    columns = {"input_ids": ids, "lengths": [[len(row)] for row in ids]}
    stored(path, columns)
    return Illustrated(path / "features.arrow", [images for images, _ in rows], num_tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a config."""
    return write_config(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: str) -> Encoder:
    """The packed encoder without dropout."""
    return fresh_encoder(folder)


@pytest.fixture
def vision(encoder: Encoder) -> Vision:
    """A projection with random weights."""
    torch.manual_seed(3)
    found = start_vision(VisionSettings("some", TOKENS, C), encoder, None, False)
    assert found is not None
    return found


def batch_of(features: Features, rows: Sequence[int]) -> Batch:
    """A micro-batch of rows."""
    return collate("some", features, np.array(rows), (), 2)


def padded_states(
    model: torch.nn.Module, vision: Vision, features: Illustrated, rows: Sequence[int]
) -> list[Tensor]:
    """Hidden states by transformers, from embeddings that are put together row by row."""
    table = model.get_input_embeddings().weight
    embedded, places = [], []
    for row in rows:
        ids = torch.from_numpy(features.gather("input_ids", np.array([row]))[0].astype(np.int64))
        found = features.images(np.array([row]), 0)
        tokens = [table[ids[:1]]]
        for number, image in enumerate(found.features):
            normal = F.layer_norm(torch.from_numpy(image).float(), (C,))
            projected = normal @ vision.projector.weight.T + vision.projector.bias
            tokens.append(projected + vision.grid.weight + vision.number.weight[number])
        num_tokens = len(found.features) * TOKENS
        text = ids[1 + num_tokens :]
        embedded.append(torch.cat([*tokens, table[text]]))
        places.append(torch.tensor([2, *[PAD] * num_tokens, *range(3, 3 + len(text))]))
    mask = pad_sequence([torch.ones(len(row)) for row in embedded], batch_first=True)
    states = model(
        inputs_embeds=pad_sequence(embedded, batch_first=True),
        position_ids=pad_sequence(places, batch_first=True, padding_value=PAD),
        attention_mask=mask,
    ).last_hidden_state
    return [states[i, : len(row)] for i, row in enumerate(embedded)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_images_give_the_states_and_gradients_of_the_padded_model(
    tmp_path: Path, encoder: Encoder, vision: Vision, attention: str
) -> None:
    features, rows = features_of(tmp_path, ROWS, TOKENS), [3, 0, 2, 1, 5, 4]
    model = padded_model(encoder, attention)
    batch = project_images(batch_of(features, rows), vision)
    ours = encoder(batch.input_ids, batch.position_ids, batch.packing, images=batch.images)
    theirs = torch.cat(padded_states(model, vision, features, rows))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    parameters = [*vision.parameters(), encoder.transformer.encoder.layer[0].attention.self.query.weight]
    mine = torch.autograd.grad((ours * weights).sum(), parameters)
    same = [*vision.parameters(), model.encoder.layer[0].attention.self.query.weight]
    for found, expected in zip(mine, torch.autograd.grad((theirs * weights).sum(), same), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_text_keeps_the_positions_of_a_run_on_text_alone(tmp_path: Path) -> None:
    batch = batch_of(features_of(tmp_path, ROWS, TOKENS), [2, 0])
    assert batch.images is not None
    images = batch.images.token_indices.tolist()
    assert images == list(range(1, 9))
    text = [place for i, place in enumerate(batch.position_ids[0].tolist()) if i not in images]
    assert text == [*range(2, 9), *range(2, 7)]
    assert set(batch.position_ids[0, images].tolist()) == {PAD}
    assert batch.images.numbers.tolist() == [0, 1]


def test_rows_without_images_are_the_rows_of_a_text_only_batch(
    tmp_path: Path, encoder: Encoder, vision: Vision
) -> None:
    features = features_of(tmp_path, ROWS, TOKENS)
    batch = project_images(batch_of(features, [0, 4]), vision)
    assert batch.images is None
    plain = collate("some", Features(tmp_path / "features.arrow"), np.array([0, 4]), (), 2)
    assert torch.equal(batch.position_ids, plain.position_ids)


def test_vectors_are_columns_with_those_of_the_negatives(tmp_path: Path, vision: Vision) -> None:
    features = features_of(tmp_path, [(1, 4), (1, 9), (1, 2)], 0)
    batch = project_images(batch_of(features, [2, 0]), vision)
    assert batch.images is None
    assert batch.columns["image_ids"].tolist() == [2, 0]
    assert batch.columns["negative_ids"].tolist() == [0, 1]
    assert torch.equal(batch.columns["images"][1], batch.columns["negatives"][0])
    assert batch.columns["images"].shape == (2, WIDTH)
    assert batch.position_ids.tolist() == [[2, 3, 2, 3, 4, 5]]


def test_placeholders_leave_the_padding_row_without_a_gradient(
    tmp_path: Path, encoder: Encoder, vision: Vision
) -> None:
    batch = project_images(batch_of(features_of(tmp_path, ROWS, TOKENS), range(6)), vision)
    states = encoder(batch.input_ids, batch.position_ids, batch.packing, images=batch.images)
    (gradient,) = torch.autograd.grad(states.square().sum(), [encoder.words.weight])
    assert not gradient[PAD].any()
    assert gradient[0].any()


def test_a_run_goes_on_with_the_projection_of_an_earlier_run(encoder: Encoder, vision: Vision) -> None:
    after = start_vision(VisionSettings("some", TOKENS, C), encoder, vision, True)
    assert after is not None
    assert all(torch.equal(a, b) for a, b in zip(after.parameters(), vision.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in after.parameters())


def test_a_grid_of_another_size_starts_anew(encoder: Encoder, vision: Vision) -> None:
    after = start_vision(VisionSettings("some", 9, C), encoder, vision, False)
    assert after is not None
    assert torch.equal(after.projector.weight, vision.projector.weight)
    assert after.grid.weight.shape == (9, WIDTH)


def test_the_projection_of_another_vision_encoder_is_not_taken_over(encoder: Encoder, vision: Vision) -> None:
    after = start_vision(VisionSettings("other", TOKENS, C), encoder, vision, False)
    assert after is not None
    assert not torch.equal(after.projector.weight, vision.projector.weight)


@pytest.mark.parametrize("settings", [None, VisionSettings("", TOKENS, 0, is_blind=True)])
def test_a_run_without_images_keeps_the_projection_as_it_is(
    encoder: Encoder, vision: Vision, settings: VisionSettings | None
) -> None:
    kept = start_vision(settings, encoder, vision, False)
    assert kept is vision
    assert not any(parameter.requires_grad for parameter in vision.parameters())


def test_heads_of_a_text_run_are_not_kept_for_images(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match=r"model\.keep_heads is true, but model.encoder has no projection"):
        start_vision(VisionSettings("some", TOKENS, C), encoder, None, True)


def test_a_trained_vision_encoder_is_not_frozen_by_mistake(encoder: Encoder, vision: Vision) -> None:
    vision.settings = vision.settings._replace(is_trained=True)
    with pytest.raises(ValueError, match=r"model\.vision_trainable is false: set it to true"):
        start_vision(VisionSettings("some", TOKENS, C), encoder, vision, False)


def test_the_projection_learns_at_the_rate_of_the_heads(vision: Vision) -> None:
    model = torch.nn.ModuleDict({"vision": vision, "encoder": torch.nn.Linear(2, 2)})
    groups = adamw(model, 0.1, 0.0, head_learning_rate=0.5).param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in vision.parameters()} == {0.5}
    assert {rates[id(p)] for p in model["encoder"].parameters()} == {0.1}
