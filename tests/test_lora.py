"""LoRA: against a hand-written one on transformers' padded model; exact resume, checkpoints, exports."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import launch
from conftest import Command, run
from padded import fresh_encoder, random_rows, run_packed, run_padded, stored, write_config
from safetensors.torch import load_file, save_file
from test_bad_input import refused
from test_fit import DDP, assert_close, assert_same_weights, copy, events, go_back, steps, timeless, weights
from tiny_families import CONFIGS, encoder_of
from torch import Tensor, nn
from transformers import AutoModel, XLMRobertaConfig, XLMRobertaModel

from xlt.batch.batch import Batch
from xlt.data.sampling.collate import collate
from xlt.export import export
from xlt.models.encoders.text import Encoder
from xlt.models.kernels.dropout import Dropout
from xlt.models.lora import Lora, add_lora
from xlt.models.optim import adamw

LENGTHS = [9, 30, 28]
RANK, ALPHA = 3, 12.0
TARGETS = [["query", "value"], ["key", "dense"], ["all-linear"]]
"""Some of attention alone, some of the feed-forward part with GELU, and all."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a config."""
    return write_config(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Three sequences of random tokens."""
    return collate("task", stored(tmp_path, random_rows(LENGTHS, 0)), np.arange(3), (), first_position=2)


def with_lora(folder: str, targets: list[str], dropout: float = 0.0, seed: int = 5) -> Encoder:
    """The packed encoder with a LoRA whose B are not zeros, for evaluation."""
    encoder = fresh_encoder(folder)
    add_lora(encoder, Lora(RANK, ALPHA, dropout, targets), seed)
    torch.manual_seed(1)
    for name, parameter in encoder.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return encoder.eval()


def trained(encoder: nn.Module) -> dict[str, Tensor]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in encoder.named_parameters() if p.requires_grad}


# Against a LoRA written out


def hand_written(encoder: Encoder, folder: str) -> tuple[XLMRobertaModel, dict[str, Tensor]]:
    """The padded model of transformers, whose layers add (alpha / rank) B A x; and all A and B by name."""
    matrices = {
        name.removeprefix("transformer.").replace(".default.weight", ""): p.detach().clone().requires_grad_()
        for name, p in trained(encoder).items()
    }
    config = XLMRobertaConfig.from_pretrained(folder, attn_implementation="eager")
    model = XLMRobertaModel(config, add_pooling_layer=False).eval()
    own = {name.replace(".base_layer", ""): p for name, p in encoder.transformer.state_dict().items()}
    model.load_state_dict({name: p for name, p in own.items() if "lora_" not in name})

    def hook(name: str) -> Callable[..., Tensor]:
        def add(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            a, b = matrices[f"{name}.lora_A"], matrices[f"{name}.lora_B"]
            return output + ALPHA / RANK * (inputs[0] @ a.T @ b.T)

        return add

    for name, module in model.named_modules():
        if f"{name}.lora_A" in matrices:
            assert isinstance(module, nn.Linear)
            module.register_forward_hook(hook(name))
    return model, matrices


@pytest.mark.parametrize("reads_starts", [False, True])
@pytest.mark.parametrize("targets", TARGETS, ids=str)
def test_states_and_gradients_are_those_of_a_hand_written_lora(
    folder: str, batch: Batch, targets: list[str], reads_starts: bool
):
    encoder = with_lora(folder, targets)
    model, matrices = hand_written(encoder, folder)
    sequences = [ids.tolist() for ids in batch.input_ids[0].split(LENGTHS)]
    padded = run_padded(model, sequences)
    expected = torch.stack([states[0] for states in padded]) if reads_starts else torch.cat(padded)
    found = run_packed(encoder, batch, batch.packing.starts if reads_starts else None)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # oneDNN multiplies here
        evaluated = run_packed(encoder, batch, batch.packing.starts if reads_starts else None)
    torch.testing.assert_close(evaluated, expected, rtol=1e-4, atol=1e-5)
    slopes = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    (found * slopes).sum().backward()
    (expected * slopes).sum().backward()
    ours = trained(encoder)
    assert len(ours) == len(matrices) > 0
    for name, matrix in matrices.items():
        gradient, theirs = ours[f"transformer.{name}.default.weight"].grad, matrix.grad
        assert gradient is not None
        assert theirs is not None
        assert (gradient - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6, name


@pytest.mark.parametrize("is_trained", [False, True])
def test_states_in_half_precision_are_close_to_those_in_single(folder: str, batch: Batch, is_trained: bool):
    encoder = with_lora(folder, ["all-linear"])
    expected = run_packed(encoder, batch).detach()
    with torch.set_grad_enabled(is_trained), torch.autocast("cpu", torch.bfloat16):
        found = run_packed(encoder, batch).detach()
    assert (found.float() - expected).norm() < 0.03 * expected.norm()


def test_all_linear_targets_every_linear_layer(folder: str):
    names = {name.split(".lora_")[0] for name in trained(with_lora(folder, ["all-linear"]))}
    assert len(names) == 2 * 6  # query, key, value, and three dense layers in each of two layers


def test_without_targets_query_and_value_are_adapted(folder: str):
    encoder = fresh_encoder(folder)
    add_lora(encoder, Lora(RANK), seed=0)
    names = {name.split(".lora_")[0].rpartition(".")[2] for name in trained(encoder)}
    assert names == {"query", "value"}


def test_at_first_the_states_are_those_of_the_encoder(folder: str, batch: Batch):
    encoder = fresh_encoder(folder)
    before = run_packed(encoder, batch).detach()
    add_lora(encoder, Lora(RANK, targets=["all-linear"]), seed=0)
    torch.testing.assert_close(run_packed(encoder.eval(), batch), before)


def test_the_initial_matrices_depend_on_the_seed_alone(folder: str):
    def drawn(seed: int, before: int) -> dict[str, Tensor]:
        encoder = fresh_encoder(folder)
        torch.manual_seed(before)
        add_lora(encoder, Lora(RANK), seed)
        assert torch.initial_seed() == before
        return trained(encoder)

    first = drawn(3, 0)
    assert_same_weights(drawn(3, 1), first)
    other = drawn(4, 0)
    assert not any(torch.equal(other[name], p) for name, p in first.items() if "lora_A" in name)
    for name, parameter in first.items():
        bound = math.sqrt(6 / ((1 + 5) * parameter.shape[1]))  # He et al. 2015 with a = sqrt(5)
        assert parameter.abs().max() <= (bound if "lora_A" in name else 0)


def test_dropout_of_the_input_follows_torchs_seed(folder: str, batch: Batch):
    encoder = with_lora(folder, ["query", "dense"], dropout=0.5).train()
    own = [m for name, m in encoder.named_modules() if "lora_dropout" in name and isinstance(m, nn.Dropout)]
    assert len(own) == 8
    assert all(type(module) is Dropout and module.p == 0.5 for module in own)

    def states(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return run_packed(encoder, batch).detach()

    assert torch.equal(states(1), states(1))
    assert not torch.equal(states(1), states(2))


def test_lowest_layers_can_go_without(folder: str):
    encoder = fresh_encoder(folder)
    add_lora(encoder, Lora(RANK), seed=0, frozen_layers=1)
    assert {name.split(".layer.")[1][0] for name in trained(encoder)} == {"1"}


@pytest.mark.parametrize("targets", [None, ["all-linear"]], ids=str)
@pytest.mark.parametrize("kind", CONFIGS)
def test_lowest_layers_can_go_without_in_every_family(
    kind: str, targets: list[str] | None, tmp_path: Path
) -> None:
    encoder, whole = encoder_of(tmp_path / "a", kind), encoder_of(tmp_path / "b", kind)
    add_lora(encoder, Lora(RANK, targets=targets), seed=0, frozen_layers=3)
    add_lora(whole, Lora(RANK, targets=targets), seed=0)
    layer = f"transformer.{encoder.family.layers}.3."
    assert set(trained(encoder)) == {name for name in trained(whole) if name.startswith(layer)} != set()


def test_layer_decay_and_the_rate_of_heads_hold_for_lora(folder: str):
    model = nn.Module()
    model.encoder, model.heads = with_lora(folder, ["query"]), nn.ModuleDict({"mnli": nn.Linear(64, 3)})
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = adamw(model, 0.1, 0.01, layer_decay=0.5, head_learning_rate=0.7).param_groups
    found = {names[p]: group["lr"] for group in groups for p in group["params"]}
    assert found == {
        name: 0.7 if name.startswith("heads.") else 0.1 if ".layer.1." in name else 0.05
        for name, p in model.named_parameters()
        if p.requires_grad
    }


# Runs


CHANGES = {
    "model.from_scratch": None,
    "model.lora.rank": 2,
    "model.lora.alpha": 8,
    "model.lora.dropout": 0.1,
    "model.lora.targets": "[query, value, dense]",
    "model.head_learning_rate": 3e-3,
    "data.tasks": "[mnli, squad_v1]",
    "trainer.max_steps": 6,
    "trainer.val_check_interval": 3,
    "checkpoints.every_n_steps": 2,
    "checkpoints.keep_last": 3,
}


@pytest.fixture(scope="module")
def lora_args(tiny_run: Command, encoder_with_weights: str) -> Command:
    """Arguments of a short run with LoRA."""

    def arguments(path: Path, changes: dict[str, Any] | None = None) -> list[str]:
        return tiny_run(path, {"model.encoder": encoder_with_weights, **CHANGES, **(changes or {})})

    return arguments


@pytest.fixture(scope="module")
def finished(lora_args: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with LoRA."""
    path = tmp_path_factory.mktemp("lora") / "run"
    assert run(lora_args(path)) == 0
    return path


def test_a_checkpoint_holds_what_is_trained_and_the_hash_of_the_rest(finished: Path):
    path = sorted((finished / "checkpoints").glob("step-*.ckpt"))[-1]
    found = torch.load(path, weights_only=True)
    names = list(found["state_dict"])
    assert all(name.startswith("heads.") or ".lora_" in name for name in names)
    assert sum(".lora_A." in name for name in names) == 2 * 5
    assert len(found["frozen"]["encoder"]) == 64
    (states,) = found["optimizer_states"]
    assert sum(len(group["params"]) for group in states["param_groups"]) == len(names)
    assert len(states["state"]) == len(names)


def test_the_model_is_the_encoder_plus_the_products(finished: Path, encoder_with_weights: str):
    old = AutoModel.from_pretrained(
        encoder_with_weights, add_pooling_layer=False, dtype="float32"
    ).state_dict()
    merged = AutoModel.from_pretrained(
        finished / "model", add_pooling_layer=False, dtype="float32"
    ).state_dict()
    matrices = load_file(finished / "model" / "adapter" / "adapter_model.safetensors")
    num_changed = 0
    for name, tensor in merged.items():
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        expected = old[name]
        if f"{layer}.lora_A.weight" in matrices and name.endswith(".weight"):
            product = matrices[f"{layer}.lora_B.weight"] @ matrices[f"{layer}.lora_A.weight"]
            assert product.abs().max() > 0
            expected = expected + 8 / 2 * product
            num_changed += 1
        torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-7)
    assert num_changed == 10


def test_a_resumed_run_gives_every_digit(finished: Path, lora_args: Command, tmp_path: Path):
    path = copy(finished, tmp_path)
    go_back(path, 2)
    shutil.rmtree(path / "model")
    assert run(lora_args(path)) == 0
    assert timeless(events(path)) == timeless(events(finished))
    assert_same_weights(weights(path), weights(finished))
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "heads.safetensors"):
        assert (path / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()


def test_two_processes_give_the_losses_of_one(finished: Path, lora_args: Command, tmp_path: Path):
    code, output = launch(lora_args(tmp_path / "run", DDP))
    assert code == 0, output[-3000:]
    assert_close(tmp_path / "run", finished)


@pytest.fixture
def changed_encoder(encoder_with_weights: str, tmp_path: Path) -> str:
    """A copy of the encoder, which can be changed."""
    shutil.copytree(encoder_with_weights, tmp_path / "own")
    return str(tmp_path / "own")


def change(encoder: str) -> None:
    """Change a bias in a file of weights."""
    path = Path(encoder) / "model.safetensors"
    found = load_file(path)
    found["encoder.layer.0.output.dense.bias"] += 1
    save_file(found, path, {"format": "pt"})


@pytest.mark.parametrize("lean", ["model.lora.rank", "model.frozen_layers"])
def test_a_changed_encoder_is_refused_at_resume_and_at_export(
    lora_args: Command, changed_encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], lean: str
):
    keys = {"data.tasks": "[mnli]", "model.encoder": changed_encoder, "trainer.max_steps": 4}
    if lean == "model.frozen_layers":
        keys |= {key: None for key in CHANGES if key.startswith("model.lora")} | {lean: 1}
    path = tmp_path / "run"
    args = lora_args(path, keys)
    assert run(args) == 0
    shutil.rmtree(path / "model")
    change(changed_encoder)
    assert run([f"--run={path}", f"--out={tmp_path / 'out'}"], export) == 2
    message = capsys.readouterr().err
    for word in (f"the weights of model.encoder {changed_encoder} have changed", "hash", "restore the files"):
        assert word in message
    go_back(path, 2)
    message = refused(args, path, capsys)
    assert f"the weights of model.encoder {changed_encoder} have changed since the run was started" in message


# Exports


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft reads it
def test_peft_loads_an_unmerged_export(
    finished: Path, encoder_with_weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert run([f"--run={finished}", f"--out={out}", "--unmerged=true"], export) == 0
    assert {path.name for path in out.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (2, 8, "LORA")
    assert config["base_model_name_or_path"] == encoder_with_weights
    base = AutoModel.from_pretrained(encoder_with_weights, add_pooling_layer=False, dtype="float32")
    model = pytest.importorskip("peft").PeftModel.from_pretrained(base, out).eval()
    merged = AutoModel.from_pretrained(finished / "model", add_pooling_layer=False, dtype="float32").eval()
    ids = torch.tensor([[0, 17, 23, 99, 2]])
    with torch.no_grad():
        expected, found = (m(input_ids=ids).last_hidden_state for m in (merged, model))
        with model.disable_adapter():
            without = model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (without - expected).abs().max() > 1e-3
    assert run([f"--run={finished}", f"--out={finished / 'model'}", "--unmerged=true"], export) == 2
    assert "holds a model (config.json): set --out to another folder" in capsys.readouterr().err


NO_LORA = {key: None for key in CHANGES if key.startswith("model.lora")}


def test_a_run_without_lora_has_none_to_export(
    lora_args: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "run"
    keys = {"data.tasks": "[mnli]", "trainer.max_steps": 1, "trainer.val_check_interval": 1}
    assert run(lora_args(path, {**NO_LORA, **keys})) == 0
    assert not (path / "model" / "adapter").exists()
    assert run([f"--run={path}", f"--out={tmp_path / 'out'}", "--unmerged=true"], export) == 2
    message = capsys.readouterr().err
    assert f"{path} was trained without model.lora: it has no LoRA to write" in message


def test_a_run_starts_from_a_run_with_lora_and_its_heads(finished: Path, lora_args: Command, tmp_path: Path):
    keys = {"model.encoder": finished, "model.keep_heads": "true", "data.tasks": "[mnli]"}
    keys |= {"trainer.max_steps": 2, "trainer.val_check_interval": 2, "model.learning_rate": 1e-12}
    for name, more in (("full", NO_LORA), ("lora", {})):
        path = tmp_path / name
        assert run(lora_args(path, keys | more | {"model.head_learning_rate": 1e-12})) == 0
        found, old = (
            load_file(path / "model/heads.safetensors"),
            load_file(finished / "model/heads.safetensors"),
        )
        for head, tensor in found.items():
            torch.testing.assert_close(tensor, old[head])
        theirs = load_file(finished / "model/model.safetensors")
        for weight, tensor in load_file(path / "model/model.safetensors").items():
            torch.testing.assert_close(tensor, theirs[weight], rtol=0, atol=1e-6)


def test_lora_is_adapted_in_meta_learning(lora_args: Command, tmp_path: Path):
    keys = {
        "data.tasks": "[mnli]",
        "model.meta.algorithm": "fomaml",
        "model.meta.inner_learning_rate": 0.1,
        "data.micro_batches_per_step": 2,
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
    }
    assert run(lora_args(tmp_path / "run", keys)) == 0
    assert all(event["train/support_loss"] > 0 for event in steps(tmp_path / "run"))
    assert any(
        tensor.abs().max() > 0 for name, tensor in weights(tmp_path / "run").items() if "lora_B" in name
    )


# Errors


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"model.lora.rank": -1}, "model.lora.rank is -1: it must be at least 1, or 0"),
        ({"model.lora.alpha": 0}, "model.lora.alpha is 0.0: it must be above 0"),
        ({"model.lora.dropout": 1}, "model.lora.dropout is 1.0: it must lie in 0 to 1, 1 excluded"),
        ({"model.lora.targets": "[]"}, "model.lora.targets is []: it must name at least one layer"),
        ({"model.lora.rank": 0}, "model.lora.alpha is 8.0: it must be left out if model.lora.rank is 0"),
        (
            {"model.lora.targets": "[query, Wqkv]"},
            "names Wqkv, but the encoder has no linear layer of this name",
        ),
        ({"model.from_scratch": "true"}, "model.from_scratch is True: it must be false with model.lora"),
        ({"model.compile": "true"}, "model.compile is True: it must be false with model.lora"),
        ({"model.frozen_layers": 2}, "model.frozen_layers is 2: it must be at most 1 with model.lora"),
    ],
)
def test_keys_that_do_not_fit_are_refused(
    lora_args: Command,
    keys: dict[str, Any],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    message = refused(lora_args(tmp_path / "run", {"data.tasks": "[mnli]", **keys}), tmp_path / "run", capsys)
    assert told in " ".join(message.split())


def test_without_peft_the_extra_is_named(
    lora_args: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "peft", None)
    message = refused(lora_args(tmp_path / "run"), tmp_path / "run", capsys)
    assert "model.lora needs the package peft, which is not installed" in message
    assert "pip install -e '.[lora]'" in message
