"""NaN and infinity end a run at their step, and are neither saved, nor exported, nor scored."""

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_rows import write_root
from conftest import Command, run
from safetensors.torch import load_file, save_file
from test_bad_input import the_message
from test_fit import assert_same_weights, events, steps, timeless, weights

from xlt.batch.batch import Batch
from xlt.evaluate import evaluate
from xlt.models.encoders.text import Encoder
from xlt.models.finite import check_finite, has_nan, spoiled
from xlt.models.saving import load_heads
from xlt.module import TransferModule
from xlt.system.checks import NotFiniteError
from xlt.system.tables import as_json
from xlt.training.checkpoint_files import newest
from xlt.training.exporting import export_run
from xlt.training.metrics_file import MetricsFile
from xlt.training.recorder import _num_finite

SHORT = {
    "data.tasks": "[mnli, ccg]",
    "trainer.max_steps": 8,
    "trainer.val_check_interval": 8,
    "trainer.log_every_n_steps": 5,
    "checkpoints.every_n_steps": 2,
}
POSITIONS = "encoder.transformer.embeddings.position_embeddings.weight"


@pytest.fixture(scope="module")
def calm(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the undisturbed run."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    return folder


def at(step: int, change: Callable[[TransferModule, torch.Tensor], torch.Tensor]) -> Any:
    """`TransferModule._loss` with a change of the module or the loss at one step."""
    whole = TransferModule._loss

    def loss(module: TransferModule, batch: Batch) -> torch.Tensor:
        found = whole(module, batch)
        return change(module, found) if module.global_step == step - 1 else found

    return loss


def nan_loss(module: TransferModule, loss: torch.Tensor) -> torch.Tensor:
    module.step_loss += math.nan
    return loss * math.nan


def infinite_gradient(_: TransferModule, loss: torch.Tensor) -> torch.Tensor:
    return loss * math.inf


def nan_weight(module: TransferModule, loss: torch.Tensor) -> torch.Tensor:
    """Spoil a position that no row reaches: no loss shows it."""
    module.get_parameter(POSITIONS).data[500] = math.nan
    return loss


@pytest.mark.parametrize(
    ("change", "said", "last"),
    [
        (
            nan_loss,
            r"the loss of step 5 is not finite \(nan\), in task (mnli|ccg) at learning rate 0\.0005",
            4,
        ),
        (infinite_gradient, r"the gradient norm of step 5 is not finite \((inf|nan)\), in task", 4),
        (nan_weight, rf"after step 6 weights are not finite, such as {POSITIONS}", 4),
    ],
)
def test_a_run_that_diverges_ends_at_the_step_and_goes_on_from_the_last_good_checkpoint(
    tiny_run: Command,
    calm: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Any,
    said: str,
    last: int,
):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransferModule, "_loss", at(5, change))
        assert run(tiny_run(folder, SHORT)) == 2
    message = the_message(capsys.readouterr().err)
    assert re.search(said, message), message
    assert "model.learning_rate" in message
    good = folder / "checkpoints" / f"step-{last:09d}.ckpt"
    assert f"the last good checkpoint is {good}" in message
    assert newest(folder / "checkpoints") == good
    assert not (folder / "model").exists()
    assert not (folder / "results.json").exists()
    assert_valid(folder / "metrics.jsonl")
    assert len(steps(folder)) >= last
    assert run(tiny_run(folder, SHORT)) == 0
    assert timeless(events(folder)) == timeless(events(calm))
    assert_same_weights(weights(folder), weights(calm))


def assert_valid(record: Path) -> None:
    """Every line is JSON as its standard has it."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for line in record.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_a_learning_rate_that_spoils_the_last_step_is_noticed_by_the_validation(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    changes = {**SHORT, "model.learning_rate": 1e30, "trainer.max_steps": 1}
    assert run(tiny_run(tmp_path / "run", changes)) == 2
    message = the_message(capsys.readouterr().err)
    assert re.match(r"the logits of ccg, mnli are not finite in the validation after step 1\. ", message)
    assert "no checkpoint was written before" in message
    assert not list((tmp_path / "run" / "checkpoints").glob("*.ckpt"))


def test_a_scaled_gradient_may_overflow_and_a_loss_may_not():
    figures = [[1.0, math.inf], [1.0, 2.0], [math.nan, 1.0]]
    assert _num_finite(figures, is_scaled=True) == 2
    assert _num_finite(figures, is_scaled=False) == 0
    assert _num_finite(figures[1:2], is_scaled=False) == 1


# What an earlier version has left


@pytest.fixture
def left(calm: Path, tmp_path: Path) -> Path:
    """A run whose newest checkpoint verifies, and holds a NaN."""
    folder = tmp_path / "left"
    shutil.copytree(calm, folder)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "model")
    path = folder / "checkpoints" / "step-000000008.ckpt"
    found = torch.load(path, weights_only=True)
    found["state_dict"][POSITIONS][3] = math.nan
    torch.save(found, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    return folder


def test_a_checkpoint_that_holds_nan_is_passed_over(tiny_run: Command, calm: Path, left: Path):
    with pytest.warns(UserWarning, match=rf"step-000000008.ckpt holds NaN .*{POSITIONS}: it is skipped"):
        assert run(tiny_run(left, SHORT)) == 0
    assert timeless(events(left)) == timeless(events(calm))
    assert_same_weights(weights(left), weights(calm))


def test_a_checkpoint_that_holds_nan_is_not_exported(left: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"step-000000008.ckpt holds NaN or infinity in 1 tensor"):
        export_run(left, tmp_path / "out", checkpoint=8)
    assert not (tmp_path / "out").exists()


def test_weights_that_half_precision_cannot_hold_are_not_exported(calm: Path, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(calm, folder)
    path = folder / "checkpoints" / "step-000000008.ckpt"
    found = torch.load(path, weights_only=True)
    found["state_dict"][POSITIONS][3] = 1e6
    torch.save(found, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    with pytest.raises(NotFiniteError, match=r"in float16, holds NaN or infinity in 1 of"):
        export_run(folder, tmp_path / "out", "float16", checkpoint=8)
    export_run(folder, tmp_path / "out", "float32", checkpoint=8)


def test_an_encoder_or_heads_that_hold_nan_are_refused(calm: Path, tmp_path: Path):
    model = tmp_path / "model"
    shutil.copytree(calm / "model", model)
    for name, load in (("model", Encoder), ("heads", load_heads)):
        path = model / f"{name}.safetensors"
        before = path.read_bytes()
        tensors = load_file(path)
        key = sorted(tensors)[0]
        tensors[key].view(-1)[0] = math.inf
        metadata = {"labels": json.dumps(load_heads(str(model))[1]), "format": "pt"}
        save_file(tensors, path, metadata)
        with pytest.raises(NotFiniteError, match=rf"{model}.* holds NaN or infinity in 1 of \d+ tensors"):
            load(str(model))
        path.write_bytes(before)
    Encoder(str(model))
    load_heads(str(model))


def test_a_model_whose_logits_overflow_is_not_scored(
    calm: Path, samples: list[str], cache: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "run"
    shutil.copytree(calm, folder)
    path = folder / "model" / "model.safetensors"
    tensors = load_file(path)
    (name,) = (key for key in tensors if key.endswith("layer.0.output.dense.weight"))
    tensors[name] *= 1e38
    save_file(tensors, path, {"format": "pt"})
    (tmp_path / "root").mkdir()
    root = write_root(Path(samples[0]), tmp_path / "root")
    settings = {"runs": f"[{folder}]", "tasks": "[xnli]", "root": root, "cache": cache, "accelerator": "cpu"}
    out = tmp_path / "out"
    args = [f"--{key}={value}" for key, value in (settings | {"out": out, "max_length": 64}).items()]
    assert run([*args, "--stride=16"], evaluate) == 2
    message = the_message(capsys.readouterr().err)
    assert message.startswith(f"{folder} gives logits that are not finite for xnli")
    assert not (out / "scores").exists()


# Parts


def test_a_sum_that_overflows_is_no_fault_and_minus_infinity_marks_a_logit():
    tensors = {
        "large": torch.full((9,), 3e38),
        "bad": torch.tensor([1.0, -math.inf]),
        "whole": torch.ones(2).long(),
    }
    assert spoiled(tensors) == ["bad"]
    assert spoiled({"whole": tensors["whole"]}) == []
    with pytest.raises(
        NotFiniteError, match=r"here holds NaN or infinity in 1 of 3 tensors, such as bad: mend"
    ):
        check_finite(tensors, "here", "mend")
    assert [bool(has_nan(torch.tensor([1.0, value]))) for value in (2.0, -math.inf, math.inf, math.nan)] == [
        False, False, True, True,
    ]  # fmt: skip


def test_files_hold_null_for_figures_that_json_cannot_say(tmp_path: Path):
    assert json.loads(as_json({"a": [math.nan, (1.5, -math.inf)], "b": {"c": math.inf}, "d": "NaN"})) == {
        "a": [None, [1.5, None]],
        "b": {"c": None},
        "d": "NaN",
    }
    record = MetricsFile(tmp_path / "metrics.jsonl")
    record.log_metrics({"train/gradient_norm": math.inf, "train/loss": 1.0}, 3)
    assert record.path.read_text() == '{"step": 3, "train/gradient_norm": null, "train/loss": 1.0}\n'
    record.path.write_text('{"step": 1, "x": NaN}\n')
    record.cut_after(1)
    assert_valid(record.path)
