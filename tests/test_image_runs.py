"""Runs on drawn scenes: images and text in one mixture, exact resume, processes, blind runs, later runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command, run
from safetensors.torch import load_file
from test_elastic import Crash, crash_in, of_processes
from test_fit import assert_same_weights, events, timeless, weights
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from scripts.draw_scenes import draw_scenes
from xlt.datamodule import TransferData
from xlt.evaluation.evaluation import Evaluation
from xlt.models.encoders.vision import VisionEncoder
from xlt.splits.data_keys import vision_settings_of
from xlt.tasks import load_all

STEPS = 9
SIZES = {"max_length": 128, "stride": 32}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root of drawn scenes."""
    root = tmp_path_factory.mktemp("scenes")
    draw_scenes(root, train=40, validation=12, test=12)
    return str(root)


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny image model with random weights, whose grid is 4 x 4."""
    folder = tmp_path_factory.mktemp("vision") / "vit"
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def keys(scenes: str, eye: str, samples: list[str]) -> dict[str, Any]:
    """Keys of a short run of images and text."""
    return {
        "model.vision_encoder": eye,
        "data.image_tokens": 4,
        "data.tasks": "[xvnli, xflickrco, mnli]",
        "data.root": f"[{', '.join([scenes, *samples])}]",
        "trainer.max_steps": STEPS,
        "trainer.val_check_interval": 3,
        "trainer.log_every_n_steps": 1,
        "checkpoints.every_n_steps": 3,
    }


@pytest.fixture(scope="module")
def mixed(tiny_run: Command, keys: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two tasks with images and one without."""
    folder = tmp_path_factory.mktemp("mixed") / "run"
    assert run(tiny_run(folder, keys)) == 0
    return folder


def projection(run_folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the projection beside a run's model."""
    return load_file(run_folder / "model" / "vision.safetensors")


def settings(run_folder: Path) -> dict[str, Any]:
    """Settings of images beside a run's model."""
    return json.loads((run_folder / "model" / "vision.json").read_text(encoding="utf-8"))


def test_images_and_text_train_in_one_mixture(mixed: Path, eye: str) -> None:
    scores = json.loads((mixed / "results.json").read_text(encoding="utf-8"))
    assert {"xvnli", "xflickrco", "mnli"} <= scores.keys()
    assert settings(mixed) == {
        "vision_encoder": eye,
        "image_tokens": 4,
        "width": 16,
        "is_trained": False,
        "is_blind": False,
    }
    assert sorted(projection(mixed)) == [
        "grid.weight",
        "number.weight",
        "projector.bias",
        "projector.weight",
    ]


def test_the_model_card_names_the_vision_encoder(mixed: Path, eye: str) -> None:
    card = (mixed / "model" / "README.md").read_text(encoding="utf-8")
    assert f"read by the vision encoder {eye}, in 4 tokens each" in card


def test_a_killed_run_with_images_gives_every_bit_of_an_undisturbed_one(
    mixed: Path, tiny_run: Command, keys: dict[str, Any], tmp_path: Path
) -> None:
    for kill, workers in ((3, 0), (6, 1)):
        with pytest.MonkeyPatch.context() as patch:
            crash_in(kill, patch)
            with pytest.raises(Crash):
                run(tiny_run(tmp_path / "run", {**keys, "data.num_workers": workers}))
    assert run(tiny_run(tmp_path / "run", keys)) == 0
    assert timeless(events(tmp_path / "run")) == timeless(events(mixed))
    assert_same_weights(weights(tmp_path / "run"), weights(mixed))


def test_losses_of_steps_with_images_do_not_depend_on_the_number_of_processes(
    scenes: str, eye: str, samples: list[str], tiny_encoder: str, cache: str
) -> None:
    own = {"vision_encoder": eye, "image_tokens": 4, "micro_batches_per_step": 4, "seed": 1}
    data = TransferData(
        ["xvnli", "xflickrco"],
        root=[scenes, *samples],
        encoder=tiny_encoder,
        cache=cache,
        tokens_per_micro_batch=256,
        temperature=float("inf"),
        **own,
        **SIZES,
    )
    data.prepare_data()
    data.setup("fit")
    found = [of_processes(data, tiny_encoder, world_size) for world_size in (1, 2, 4)]
    for losses, parameters in found[1:]:
        assert losses == pytest.approx(found[0][0], abs=1e-5)
        for name, tensor in parameters.items():
            torch.testing.assert_close(tensor, found[0][1][name], rtol=0, atol=1e-5)


def test_a_run_of_text_alone_keeps_the_projection_for_later_runs(
    mixed: Path, tiny_run: Command, keys: dict[str, Any], tmp_path: Path
) -> None:
    text = {
        **keys,
        "model.encoder": mixed,
        "model.from_scratch": "false",
        "model.vision_encoder": None,
        "data.tasks": "[ccg]",
    }
    assert run(tiny_run(tmp_path / "text", text)) == 0
    assert_same_weights(projection(tmp_path / "text"), projection(mixed))
    later = {**keys, "model.encoder": tmp_path / "text", "model.from_scratch": "false"}
    changes = {"data.tasks": "[xvnli]", "model.learning_rate": 1e-30}
    assert run(tiny_run(tmp_path / "later", {**later, **changes})) == 0
    assert_same_weights(projection(tmp_path / "later"), projection(mixed))


def test_a_trained_vision_encoder_changes_and_is_tested_with_its_own_weights(
    tiny_run: Command, keys: dict[str, Any], scenes: str, cache: str, tmp_path: Path
) -> None:
    changes = {"model.vision_trainable": "true", "data.tasks": "[xvnli, flickr_captions]"}
    assert run(tiny_run(tmp_path / "run", {**keys, **changes})) == 0
    assert settings(tmp_path / "run")["is_trained"]
    first = {event["step"]: event for event in events(tmp_path / "run") if "train/loss" in event}
    assert len(first) == STEPS
    trained = projection(tmp_path / "run")
    start = VisionEncoder(keys["model.vision_encoder"], 4).state_dict()
    assert sum(not torch.equal(trained[f"encoder.{name}"], start[name]) for name in start) > len(start) / 2
    asked = {"tasks": ["xvnli"], "root": scenes, "cache": cache, "languages": ["en", "ar"]}
    report = Evaluation(out=tmp_path / "out", runs=[str(tmp_path / "run")], **asked).run()
    assert report.by_task["xvnli"].keys() == {"en", "ar"}


def test_a_blind_run_reads_no_image_and_is_tested_without_images(
    tiny_run: Command, keys: dict[str, Any], scenes: str, cache: str, tmp_path: Path
) -> None:
    blind = {**keys, "data.blind": "true", "data.tasks": "[xvnli]", "model.vision_encoder": None}
    assert run(tiny_run(tmp_path / "run", blind)) == 0
    assert settings(tmp_path / "run")["is_blind"]
    assert not (tmp_path / "run" / "model" / "vision.safetensors").exists()
    asked = {"tasks": ["xvnli"], "root": scenes, "cache": cache, "languages": ["en", "fr"]}
    evaluation = Evaluation(out=tmp_path / "out", runs=[str(tmp_path / "run")], **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xlt.models.encoders.vision.VisionEncoder.prepare", lambda *_: pytest.fail("an image"))
        report = evaluation.run()
    assert report.by_task["xvnli"].keys() == {"en", "fr"}


def test_a_run_is_tested_with_images_in_other_languages(
    mixed: Path, scenes: str, cache: str, tmp_path: Path
) -> None:
    asked = {"tasks": ["xvnli", "xflickrco"], "root": scenes, "cache": cache}
    report = Evaluation(out=tmp_path / "out", runs=[str(mixed)], **asked).run()
    assert len(report.by_task["xvnli"]) == 5
    assert len(report.by_task["xflickrco"]) == 8
    # The same evaluation again scores nothing: all cells are finished.
    again = Evaluation(out=tmp_path / "out", runs=[str(mixed)], **asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluation, "_score", lambda *_: pytest.fail("a finished cell was scored"))
        assert again.run().by_task == report.by_task


def test_runs_that_read_images_in_different_ways_are_tested_apart(
    mixed: Path, tiny_run: Command, keys: dict[str, Any], scenes: str, cache: str, tmp_path: Path
) -> None:
    other = {**keys, "data.image_tokens": 1, "data.tasks": "[flickr_captions]"}
    assert run(tiny_run(tmp_path / "other", other)) == 0
    with pytest.raises(ValueError, match=r"read images in different ways: .* Evaluate them separately"):
        Evaluation(
            out=tmp_path / "out",
            runs=[str(mixed), str(tmp_path / "other")],
            tasks=["xvnli"],
            root=scenes,
            cache=cache,
        )


@pytest.mark.parametrize(
    ("tasks", "chosen", "message"),
    [
        (
            ["xvnli"],
            (None, 4, False, False),
            "xvnli, whose examples have images: set model.vision_encoder to",
        ),
        (["xvnli"], ("some", 5, False, False), "data.image_tokens is 5: it must be the square of"),
        (
            ["xflickrco"],
            (None, 4, False, True),
            "data.blind is true, but xflickrco compares texts with images",
        ),
        (
            ["mnli"],
            (None, 49, False, True),
            "data.blind is True: it must be false: no task of data.tasks has",
        ),
    ],
)
def test_keys_that_do_not_fit_the_tasks_are_refused(
    tasks: list[str], chosen: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        vision_settings_of(load_all(tasks, []), *chosen)


def test_a_grid_that_cannot_give_the_tokens_is_refused_before_training(
    tiny_run: Command, keys: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_run(tmp_path / "run", {**keys, "data.image_tokens": 49})) == 2
    assert "data.image_tokens is 49" in capsys.readouterr().err
