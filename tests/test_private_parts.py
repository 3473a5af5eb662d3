"""Private parts of other libraries: each stands in one module, and still does what xlt needs it for."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from conftest import REPOSITORY
from datasets import Dataset
from lightning import Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import nn
from transformers import XLMRobertaConfig, XLMRobertaModel

from xlt.config.jsonargparse_private import allow, import_class
from xlt.config.parser import CommandParser
from xlt.data.datasets_private import fingerprint_of
from xlt.models.transformers_private import initialise
from xlt.studies.report.study_workspace import Section, Workspace
from xlt.studies.report.wandb_private import stored_form
from xlt.system import torch_private
from xlt.training.lightning_private import cluster_environment, ddp_settings, leave_signals_alone

PRIVATE = re.compile(r"_(?!_)\w+")
OF_PYTHON = {"_asdict", "_replace", "_fields", "_make", "_exit"}
"""Public names of named tuples and of `os` that begin with an underscore."""


def private_parts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Lines and names of private attributes of other objects, private imports, and changes of a class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr) and node.attr not in OF_PYTHON:
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "ctx")
            if not is_own:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Attribute) and node.attr == "__class__" and isinstance(node.ctx, ast.Store):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from ((node.lineno, name) for name in names if PRIVATE.fullmatch(name))


def names_defined_in(tree: ast.AST) -> set[str]:
    """Private names that a module's own classes and functions define."""
    defined = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    return {node.name for node in defined}


def test_private_parts_stand_in_modules_of_their_own():
    found = []
    for path in sorted((REPOSITORY / "xlt").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = names_defined_in(tree) - {"__class__"}
        parts = [(line, name) for line, name in private_parts(tree) if name.rpartition(".")[2] not in own]
        if not path.stem.endswith("_private"):
            found += [f"{path.relative_to(REPOSITORY)}:{line}: {name}" for line, name in parts]
    assert found == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from lightning.x import _Y", ["_Y"]),
        ("from jsonargparse._util import y", ["_util"]),
        ("model._init_weights(x)", ["model._init_weights"]),
        ("layer[-1].__class__ = Layer", ["layer[-1].__class__"]),
        ("self._mine; edit._replace(text=''); os._exit(1); type(x).__name__", []),
    ],
)
def test_private_parts_are_found(code: str, found: list[str]):
    assert [name for _, name in private_parts(ast.parse(code))] == found


# torch


def test_bf16_checks_answer():
    assert torch_private.has_bf16_instructions() in (True, False)
    assert torch_private.onednn_takes(torch.bfloat16) in (True, False)
    assert torch_private.onednn_takes(torch.float16) in (True, False)


@pytest.mark.parametrize("then", ["none", "gelu"])
def test_onednn_multiplies_adds_the_bias_and_takes_gelu(then: str):
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of torch has no oneDNN")
    states, weight, bias = torch.randn(3, 5), torch.randn(7, 5), torch.randn(7)
    expected = torch.nn.functional.linear(states, weight, bias)
    if then == "gelu":
        expected = torch.nn.functional.gelu(expected)
    found = torch_private.linear_pointwise(states, weight, bias, then)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found, expected)


def arguments_of(operator: object) -> list[str]:
    schema = operator.default._schema  # pyright: ignore[reportAttributeAccessIssue]
    return [argument.name for argument in schema.arguments]


def test_attention_operators_take_the_arguments_in_this_order():
    flash = ["query", "key", "value", "cum_seq_q", "cum_seq_k", "max_q", "max_k", "dropout_p", "is_causal"]
    assert arguments_of(torch_private.FLASH_ATTENTION)[:10] == [*flash, "return_debug_mask"]
    efficient = ["query", "key", "value", "bias", "cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q"]
    assert arguments_of(torch_private.EFFICIENT_ATTENTION)[:11] == [
        *efficient, "max_seqlen_k", "dropout_p", "custom_mask_type", "compute_log_sumexp",
    ]  # fmt: skip
    for operator in (torch_private.FLASH_ATTENTION, torch_private.EFFICIENT_ATTENTION):
        assert "scale" in arguments_of(operator)


def test_the_limit_of_variants_is_one_that_torch_knows(monkeypatch: pytest.MonkeyPatch):
    config = torch._dynamo.config
    monkeypatch.setattr(config, "recompile_limit", config.recompile_limit)  # an unknown name raises
    torch_private.set_recompile_limit(11)
    assert config.recompile_limit == 11


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def test_a_module_that_changes_its_class_keeps_its_weights():
    layer, states = nn.Linear(3, 2), torch.randn(4, 3)
    weight, expected = layer.weight, 2 * layer(states)
    became = torch_private.become(layer, Doubled)
    assert became is layer
    assert became.weight is weight
    assert torch.equal(became(states), expected)
    with pytest.raises(TypeError, match="a Doubled cannot become LayerNorm, which does not extend it"):
        torch_private.become(layer, nn.LayerNorm)


# transformers


def test_first_weights_are_drawn_as_the_models():
    config = XLMRobertaConfig(
        vocab_size=9, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    config.initializer_range = 0.5
    model, head = XLMRobertaModel(config), nn.Linear(64, 64)
    torch.manual_seed(3)
    initialise(head, model)
    torch.manual_seed(3)
    assert torch.equal(head.weight, torch.empty(64, 64).normal_(0.0, 0.5))
    assert not head.bias.any()


# Lightning


def test_the_trainer_knows_the_environment_of_its_processes(tmp_path: Path):
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    assert isinstance(cluster_environment(trainer), LightningEnvironment)


def test_a_trainer_installs_no_signal_handlers(tmp_path: Path):
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    assert callable(trainer._signal_connector.register_signal_handlers)
    leave_signals_alone(trainer)
    assert trainer._signal_connector.register_signal_handlers() is None


def test_settings_of_ddp_are_the_ones_given_and_can_be_changed():
    strategy = DDPStrategy(start_method="popen", model_averaging_period=7, bucket_cap_mb=3)
    found = ddp_settings(strategy)
    assert found == ({"bucket_cap_mb": 3}, "popen", 7)
    found.arguments["find_unused_parameters"] = True
    assert ddp_settings(strategy).arguments["find_unused_parameters"] is True


def test_an_experiment_that_is_closed_takes_every_call():
    DummyLogger().experiment.log({"a": 1}, step=1)


def test_a_launcher_of_processes_has_them_in_a_list():
    assert _SubprocessScriptLauncher(LightningEnvironment(), 2, 1).procs == []


# jsonargparse, datasets, wandb_workspaces


def test_classes_are_imported_by_the_parsers_rules():
    assert import_class("lightning.Trainer") is Trainer
    absent = {"lightning": ValueError, "lightning.None_": AttributeError, "no_such.x": ImportError}
    for path, error in absent.items():
        with pytest.raises(error):
            import_class(path)


def test_every_parser_reads_local_files_as_utf8(tmp_path: Path):
    parser = CommandParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--name", type=str)
    path = tmp_path / "config.yaml"
    path.write_bytes("name: Zoë\nname: Zoë\n".encode())
    with pytest.raises(ValueError, match="name"):  # jsonargparse itself takes the last
        parser.parse_args([f"--config={path}"])
    path.write_bytes("name: Zoë\n".encode())
    assert parser.parse_args([f"--config={path}"]).name == "Zoë"


def test_a_key_takes_one_more_word():
    parser = CommandParser()
    parser.add_argument("--size", type=int | Literal["small"] | None)
    with pytest.raises(ValueError, match="size"):
        parser.parse_args(["--size=auto"])
    allow(parser, "size", "auto")
    for word, value in {"auto": "auto", "small": "small", "3": 3, "null": None}.items():
        assert parser.parse_args([f"--size={word}"]).size == value
    with pytest.raises(ValueError, match="size"):
        parser.parse_args(["--size=large"])


def test_fingerprints_of_datasets_follow_their_rows():
    one, other = (Dataset.from_dict({"a": [value]}) for value in (1, 2))
    assert fingerprint_of(one) == fingerprint_of(Dataset.from_dict({"a": [1]}))
    assert fingerprint_of(one) != fingerprint_of(other)


def test_a_workspace_is_stored_with_its_sections():
    made = Workspace(entity="us", project="xlt", name="view", sections=[Section(name="scores")])
    assert "scores" in str(stored_form(made)["section"]["panelBankConfig"])
