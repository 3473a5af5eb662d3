"""Every part of Lightning that a config may name: it works in a run, or is refused by name before training.

A part that a new version of Lightning brings is in no table, and fails the first tests.
"""

import importlib
import inspect
import json
import pkgutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import torch
import wandb
import yaml
from commands import launch, strike
from conftest import Command, run
from jsonargparse import Namespace
from lightning import Callback, Trainer
from lightning.fabric.loggers import Logger as FabricLogger
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy, StrategyRegistry
from lightning.pytorch.trainer.setup import _init_profiler
from safetensors.torch import load_file
from test_bad_input import the_message
from test_dashboard import Heard
from test_fit import SHORT, assert_same_weights, events, steps, timeless, validations, weights

from tests.stress.faults import Fault
from xlt.config.classes import BASES, check_lightning_parts, refusal
from xlt.config.documented_keys import UNSUPPORTED_TRAINER_KEYS, FurtherTrainerKeys, TrainerKeys
from xlt.config.lightning_parts import NAMES, NEEDED_PACKAGES, REFUSED_CLASSES, REFUSED_KINDS, WORKING_CLASSES
from xlt.config.trainer_keys import DEFAULTS, check_trainer_keys
from xlt.system.signals import STOPPED
from xlt.training.run_folder import PRECISIONS

PACKAGES = (
    *(f"lightning.pytorch.{name}" for name in ("callbacks", "loggers", "strategies", "plugins", "profilers")),
    "lightning.pytorch.accelerators",
    "lightning.fabric.plugins",
)

WORKS: dict[str, dict[str, Any]] = {
    # Callbacks
    "Callback": {"callbacks": ["lightning.Callback"]},
    "DeviceStatsMonitor": {"callbacks": [{"class_path": "DeviceStatsMonitor"}]},
    "EarlyStopping": {
        "callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": "val/score", "mode": "max"}}]
    },
    "EMAWeightAveraging": {
        # An average that forgets all but the newest weights.
        "callbacks": [{"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.0}}]
    },
    "LearningRateMonitor": {"callbacks": ["LearningRateMonitor"]},
    "ModelSummary": {"callbacks": ["ModelSummary"]},
    "RichModelSummary": {"callbacks": ["RichModelSummary"]},
    "a callback of one's own": {"callbacks": ["test_lightning_parts.Counting"]},
    # Loggers
    "CSVLogger": {"logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "FOLDER/logs"}}},
    "TensorBoardLogger": {
        "logger": {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "FOLDER/logs"}}
    },
    "MLFlowLogger": {
        "logger": {"class_path": "MLFlowLogger", "init_args": {"tracking_uri": "sqlite:///FOLDER/mlflow.db"}}
    },
    "CSVLogger by name": {"logger": "CSVLogger"},
    "TensorBoardLogger by name": {"logger": ["TensorBoardLogger"]},
    "a logger of one's own": {"logger": "test_lightning_parts.NumbersOnly"},
    "two loggers": {
        "logger": [
            {"class_path": "CSVLogger", "init_args": {"save_dir": "FOLDER/logs"}},
            {"class_path": "test_lightning_parts.NumbersOnly"},
        ]
    },
    "no logger": {"logger": False},
    # Strategies and cluster environments
    "strategy ddp": {"strategy": "ddp"},
    "strategy ddp_find_unused_parameters_true": {"strategy": "ddp_find_unused_parameters_true"},
    "strategy ddp_find_unused_parameters_false": {"strategy": "ddp_find_unused_parameters_false"},
    "DDPStrategy": {
        "strategy": {"class_path": "DDPStrategy", "init_args": {"gradient_as_bucket_view": True}}
    },
    "LightningEnvironment": {
        "plugins": [{"class_path": "lightning.fabric.plugins.environments.LightningEnvironment"}]
    },
    "SLURMEnvironment": {
        "plugins": [{"class_path": "lightning.fabric.plugins.environments.SLURMEnvironment"}]
    },
    "TorchElasticEnvironment": {
        "plugins": [{"class_path": "lightning.fabric.plugins.environments.TorchElasticEnvironment"}]
    },
    # Profilers
    "SimpleProfiler": {"profiler": {"class_path": "SimpleProfiler", "init_args": {"dirpath": "FOLDER"}}},
    "AdvancedProfiler": {"profiler": {"class_path": "AdvancedProfiler"}},
    "PassThroughProfiler": {"profiler": {"class_path": "PassThroughProfiler"}},
    "PyTorchProfiler": {"profiler": {"class_path": "PyTorchProfiler", "init_args": {"dirpath": "FOLDER"}}},
    # Accelerators and precisions that compute the same
    "accelerator auto": {"accelerator": "auto"},
    "precision 32": {"precision": 32},
    # The other keys
    "benchmark": {"benchmark": True},
    "detect_anomaly": {"detect_anomaly": True},
    "deterministic": {"deterministic": True},
    "deterministic, with warnings": {"deterministic": "warn"},
    "devices": {"devices": "auto"},
    "enable_autolog_hparams": {"enable_autolog_hparams": False},
    "enable_model_summary": {"enable_model_summary": True},
    "enable_progress_bar": {"enable_progress_bar": True},
    "gradient_clip_algorithm": {"gradient_clip_algorithm": "value"},
    "gradient_clip_val": {"gradient_clip_val": 1e6, "gradient_clip_algorithm": "norm"},
    "inference_mode": {"inference_mode": False},
    "num_sanity_val_steps": {"num_sanity_val_steps": 2, "enable_progress_bar": True},
    "num_sanity_val_steps, all": {"num_sanity_val_steps": -1},
}
"""Parts that change no digit of a run, with the Trainer's keys of the run that shows it."""

OTHER_NUMBERS: dict[str, tuple[Any, float]] = {
    "64-true": ("64-true", 1e-4),
    "64": (64, 1e-4),
    "bf16-mixed": ("bf16-mixed", 0.05),
    "bf16": ("bf16", 0.05),
}
"""Precisions in which a run computes with other numbers, and how far its losses may be from fp32's."""

UNTRIED = {
    "accelerator gpu": "needs a GPU",
    "accelerator cuda": "needs a GPU",
    "precision auto": "is one of two others, as tests/test_fit.py shows",
}
"""Names that are allowed but have no run here, with the reason."""


class Counting(Callback):
    """Counts batches, and logs the count."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.count += 1
        pl_module.log("counted", float(self.count))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


class Accumulating(Callback):
    """Makes Lightning accumulate gradients, unseen by the config."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.accumulate_grad_batches = 2


class Unreadable(Callback):
    """Keeps what a checkpoint can hold but not give back, from a step on."""

    def __init__(self, since: int) -> None:
        self.since, self.step = since, 0

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self.step = trainer.global_step + 1

    def state_dict(self) -> dict[str, Any]:
        return {"path": Path("somewhere")} if self.step >= self.since else {}


class NumbersOnly(Logger):
    """A logger that takes numbers alone, as TensorBoard's does."""

    told: ClassVar[list[Mapping[str, Any]]] = []

    @property
    def name(self) -> str:
        return "numbers"

    @property
    def version(self) -> str:
        return "0"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        assert all(type(value) in (int, float) for value in metrics.values()), metrics
        self.told.append({"step": step, **metrics})


class Averaging(StochasticWeightAveraging):
    """Extends a part that does not work."""


class ShardedStrategy(Strategy):
    """Extends a kind of which only some parts work."""


class LongerDDP(DDPStrategy):
    """Extends a part that works."""


def parts() -> Iterator[type]:
    """Every class of Lightning of the kinds that the Trainer takes."""
    found: set[type] = set()
    for package in map(importlib.import_module, PACKAGES):
        modules = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        for name in (package.__name__, *(module.name for module in modules)):
            for value in vars(importlib.import_module(name)).values():
                if inspect.isclass(value) and issubclass(value, (*BASES, FabricLogger)):
                    found.add(value)
    yield from sorted(
        (part for part in found if part.__module__.startswith("lightning.")),
        key=lambda part: (part.__module__, part.__name__),
    )


EXTENDED = {"Logger", "Profiler", "ClusterEnvironment", "WeightAveraging"}
"""Classes that a user's own may extend, and whose subclasses run below."""


# Every part is in a table


@pytest.mark.parametrize("part", list(parts()), ids=lambda part: part.__name__)
def test_each_class_of_lightning_works_or_is_refused_with_a_reason(part: type):
    name, reason = part.__name__, refusal(part)
    if reason:
        of_kind = [REFUSED_KINDS.get(parent.__name__) for parent in part.__mro__]
        assert reason in (REFUSED_CLASSES.get(name), *of_kind), "a part of Lightning that no table has"
    else:
        assert name in WORKS or name in EXTENDED, "no run shows that it works"


def test_the_tables_name_no_class_that_lightning_does_not_have():
    others = {"SaveConfigCallback", "ServableModuleValidator", "_LRCallback"}  # not in its packages of parts
    known = {part.__name__ for part in parts()} | others
    assert known >= WORKING_CLASSES
    assert REFUSED_CLASSES.keys() <= known
    assert REFUSED_KINDS.keys() <= known
    assert not WORKING_CLASSES & REFUSED_CLASSES.keys()


def test_each_key_of_the_trainer_is_free_or_must_stay_unset():
    keys = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    free = {field.name for kind in (TrainerKeys, FurtherTrainerKeys) for field in fields(kind)}
    assert keys == free | UNSUPPORTED_TRAINER_KEYS.keys()
    assert not free & UNSUPPORTED_TRAINER_KEYS.keys()


def test_each_name_that_the_trainer_takes_is_in_a_table():
    annotation = inspect.signature(Trainer.__init__).parameters["precision"].annotation
    precisions = {str(name) for choice in get_args(annotation) for name in get_args(choice)}
    assert {"auto", *precisions} == NAMES["precision"].keys()
    assert {name for name, reason in NAMES["precision"].items() if not reason} == {"auto", *PRECISIONS}
    assert {"auto", *StrategyRegistry.available_strategies()} == NAMES["strategy"].keys()
    assert {"auto", "gpu", *AcceleratorRegistry.available_accelerators()} == NAMES["accelerator"].keys()
    with pytest.raises(Exception, match="profiler") as refused:
        _init_profiler(Trainer(accelerator="cpu", logger=False, barebones=True), "none of them")
    assert all(f"'{name}'" in str(refused.value) for name in NAMES["profiler"])


@pytest.fixture(scope="module")
def plain(tiny_run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without any part."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert run(tiny_run(folder, SHORT)) == 0
    return folder


def test_each_name_that_works_has_a_run_that_shows_it(plain: Path):
    working = {(key, name) for key, table in NAMES.items() for name, reason in table.items() if not reason}
    trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
    # The plain run leaves the precision to the Trainer.
    ran = yaml.safe_load((plain / "config.yaml").read_text())["trainer"] | {"precision": trainer.precision}
    for key, name in working:
        check_lightning_parts({"trainer": {key: name}})
        check_trainer_keys(trainer_keys(**{key: name}))
        if key == "profiler":
            _init_profiler(trainer, name)
            assert type(trainer.profiler).__name__ in WORKS
        elif ran[key] != name:
            assert f"{key} {name}" in {*WORKS, *(f"precision {name}" for name in OTHER_NUMBERS), *UNTRIED}


# What works


def losses(folder: Path) -> list[float]:
    return [event["train/loss"] for event in steps(folder)]


def run_with(trainer: Mapping[str, Any], tiny_run: Command, folder: Path, **changes: Any) -> int | str | None:
    """Run with the Trainer's keys of a config; return the exit code."""
    config = folder / "parts.yaml"
    config.write_text(yaml.safe_dump({"trainer": dict(trainer)}).replace("FOLDER", str(folder)))
    unset = {f"trainer.{key}": None for key in trainer}
    return run(tiny_run(folder / "run", {**SHORT, **unset, **changes, "config": config}))


SLOW = pytest.mark.slow
FAST = ("a callback of one's own", "a logger of one's own", "num_sanity_val_steps")


LAUNCHED = {
    "SLURMEnvironment": {
        "SLURM_NTASKS": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "1",
    },
    "TorchElasticEnvironment": {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"},
}
"""Variables that the launcher of an environment sets."""


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lightning's own warnings are none of ours here; global settings of torch are put back."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else SLOW, id=name) for name in WORKS]
)
def test_a_part_that_works_changes_no_digit_of_the_run(
    name: str, plain: Path, tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for variable, value in LAUNCHED.get(name, {}).items():
        monkeypatch.setenv(variable, value)
    for package in NEEDED_PACKAGES.get(name.removesuffix(" by name"), ())[:1]:
        if not any(map(find_spec, NEEDED_PACKAGES[name.removesuffix(" by name")])):
            pytest.skip(f"{package} is not installed")
    assert run_with(WORKS[name], tiny_run, tmp_path) == 0
    assert losses(tmp_path / "run") == losses(plain)
    assert_same_weights(weights(tmp_path / "run"), weights(plain))
    scores = [event["val/score"] for event in validations(tmp_path / "run")]
    assert scores == [event["val/score"] for event in validations(plain)]
    assert (tmp_path / "run" / "results.json").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("name", OTHER_NUMBERS)
def test_a_run_in_another_precision_has_losses_close_to_those_in_32_bits(
    name: str, plain: Path, tiny_run: Command, tmp_path: Path
):
    precision, distance = OTHER_NUMBERS[name]
    assert run_with({"precision": precision}, tiny_run, tmp_path) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(plain), abs=distance)
    assert losses(tmp_path / "run") != losses(plain)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_a_logger_is_told_every_number_and_no_text(tiny_run: Command, tmp_path: Path):
    NumbersOnly.told.clear()
    assert run_with(WORKS["a logger of one's own"], tiny_run, tmp_path) == 0
    record = events(tmp_path / "run")
    texts = {key for event in record for key, value in event.items() if isinstance(value, str)}
    assert texts == {"train/task"}
    expected = [{key: value for key, value in event.items() if key not in texts} for event in record]
    assert NumbersOnly.told == expected


@pytest.mark.parametrize("every", [1, 3])
def test_what_a_callback_logs_costs_the_dashboard_no_event(
    every: int, tiny_run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[tuple[int, dict[str, Any]]] = []

    class Strict(Heard):
        """A run of W&B: an event of a step before the newest is dropped."""

        def log(self, metrics: dict[str, Any], step: int) -> None:
            assert not told or step >= told[-1][0], "W&B drops it"
            told.append((step, metrics))

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", lambda **_: Strict())
    callbacks = ["lightning.pytorch.callbacks.LearningRateMonitor", "test_lightning_parts.Counting"]
    trainer = {"callbacks": [{"class_path": name} for name in callbacks], "log_every_n_steps": every}
    assert run_with(trainer, tiny_run, tmp_path) == 0
    assert [step for step, metrics in told if "train/loss" in metrics] == [1, 2, 3]
    counts = [metrics["counted"] for _, metrics in told if "counted" in metrics]
    assert counts == ([1.0, 2.0, 3.0] if every == 1 else [3.0])
    rates = [metrics["lr-AdamW/pg1"] for _, metrics in told if "lr-AdamW/pg1" in metrics]
    assert len(rates) == len(counts)


@pytest.mark.parametrize(("profiler", "shown"), [("simple", "run_training_batch"), (None, "")])
def test_a_profile_that_is_asked_for_is_printed(
    profiler: str | None, shown: str, tiny_run: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert run(tiny_run(tmp_path / "run", {**SHORT, "trainer.profiler": profiler})) == 0
    profiles = [message for message in caplog.messages if "Profiler Report" in message]
    assert len(profiles) == bool(profiler)
    assert all(shown in message for message in profiles)


# What is refused


def refused_classes() -> Iterator[tuple[str, type | str]]:
    """Each class that is refused, with the key that takes such."""
    keys = {"Callback": "callbacks", "Logger": "logger", "Strategy": "strategy", "Profiler": "profiler"}
    for part in parts():
        if refusal(part) and "._" not in part.__module__:  # old names, which cannot be imported from there
            names = [parent.__name__ for parent in part.__mro__]
            yield next((key for name, key in keys.items() if name in names), "plugins"), part


@pytest.mark.parametrize("form", ["path", "name", "text"])
@pytest.mark.parametrize(
    ("key", "part"), list(refused_classes()), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_class_that_does_not_work_is_refused_by_name_and_reason(key: str, part: type, form: str):
    path = f"{part.__module__}.{part.__name__}"
    if form != "path" and part.__name__.startswith("_"):
        pytest.skip("private classes have no short name")
    value: Any = {"class_path": path if form == "path" else part.__name__}
    value = part.__name__ if form == "text" else value
    with pytest.raises(ValueError, match=part.__name__) as refused:
        check_lightning_parts({"trainer": {key: [value]}})
    assert f"trainer.{key}[0]" in str(refused.value)
    assert refusal(part) in str(refused.value)


def trainer_keys(**changes: Any) -> Namespace:
    """A config of the Trainer's defaults."""
    parameters = inspect.signature(Trainer.__init__).parameters
    keys = {name: parameter.default for name, parameter in parameters.items() if name != "self"}
    return Namespace(trainer=Namespace(**{**keys, **DEFAULTS, "max_steps": 3, **changes}))


def test_the_defaults_of_the_trainer_are_not_refused():
    check_trainer_keys(trainer_keys())
    check_trainer_keys(trainer_keys(enable_checkpointing=True))  # as every run has it


@pytest.mark.parametrize(
    ("key", "name"),
    [(key, name) for key, table in NAMES.items() for name, reason in table.items() if reason],
)
def test_a_name_that_does_not_work_is_refused_with_the_reason(key: str, name: str):
    with pytest.raises(ValueError, match=f"trainer.{key} is {name}") as refused:
        check_trainer_keys(trainer_keys(**{key: name}))
    assert NAMES[key][name] in str(refused.value)


@pytest.mark.parametrize("key", NAMES)
def test_a_name_that_does_not_exist_is_refused_with_those_that_work(key: str):
    with pytest.raises(ValueError, match=f"trainer.{key} is none of them: it must be one of"):
        check_trainer_keys(trainer_keys(**{key: "none of them"}))


OTHER_VALUES: dict[str, Any] = {
    "accumulate_grad_batches": 2,
    "limit_train_batches": 2,
    "limit_val_batches": 0.5,
    "limit_test_batches": 1,
    "limit_predict_batches": 1,
    "overfit_batches": 1,
    "fast_dev_run": True,
    "barebones": True,
    "enable_checkpointing": False,
    "max_epochs": -1,
    "min_epochs": 2,
    "min_steps": 2,
    "max_time": "00:00:01:00",
    "check_val_every_n_epoch": 2,
    "reload_dataloaders_every_n_epochs": 1,
    "use_distributed_sampler": True,
    "sync_batchnorm": True,
    "model_registry": "mine",
    "log_every_n_steps": None,
    "num_sanity_val_steps": -2,
    "gradient_clip_algorithm": "median",
}


@pytest.mark.parametrize("key", sorted({*UNSUPPORTED_TRAINER_KEYS, *OTHER_VALUES}))
def test_a_key_that_must_stay_as_it_is_is_refused_with_another_value(key: str):
    with pytest.raises(ValueError, match=f"trainer.{key} is {OTHER_VALUES[key]}: it must"):
        check_trainer_keys(trainer_keys(**{key: OTHER_VALUES[key]}))


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (Averaging, REFUSED_CLASSES["StochasticWeightAveraging"]),
        (ShardedStrategy, REFUSED_KINDS["Strategy"]),
        (LongerDDP, ""),
        (Counting, ""),
        (NumbersOnly, ""),
    ],
)
def test_a_class_of_ones_own_works_where_what_it_extends_does(own: type, reason: str):
    assert refusal(own) == reason


EMA = "StochasticWeightAveraging"
REFUSED_RUNS: list[tuple[Mapping[str, Any], dict[str, Any], str]] = [
    # In a file, and on the command line; arguments that do not parse; a subclass; what a run has already.
    ({"callbacks": [{"class_path": EMA}]}, {}, EMA),
    ({"callbacks": {"class_path": f"lightning.pytorch.callbacks.{EMA}"}}, {}, EMA),
    ({}, {"trainer.callbacks": EMA}, EMA),
    ({}, {"trainer.callbacks+": EMA}, EMA),
    ({"callbacks": [{"class_path": "test_lightning_parts.Averaging"}]}, {}, "Averaging"),
    ({"callbacks": [{"class_path": "Timer", "init_args": {"duration": "00:00:01:00"}}]}, {}, "SIGTERM"),
    ({"callbacks": [{"class_path": "BackboneFinetuning"}]}, {}, "epochs"),
    ({"callbacks": [{"class_path": "ThroughputMonitor"}]}, {}, "train/tokens_per_second"),
    (
        {"callbacks": [{"class_path": "xlt.training.recorder.Recorder"}]},
        {},
        "every run has this part already",
    ),
    (
        {"logger": {"class_path": "xlt.training.metrics_file.MetricsFile"}},
        {},
        "every run has this part already",
    ),
    ({"logger": {"class_path": "LitLogger"}}, {}, "was never tested"),
    ({"logger": {"class_path": "lightning.pytorch.loggers.LitLogger"}}, {}, "was never tested"),
    ({"plugins": [{"class_path": "MPIEnvironment"}]}, {}, "torchrun"),
    ({"strategy": {"class_path": "FSDPStrategy"}}, {}, "auto or ddp"),
    ({"strategy": {"class_path": "DDPStrategy", "init_args": {"start_method": "fork"}}}, {}, "start_method"),
    ({"strategy": {"class_path": "DDPStrategy", "init_args": {"static_graph": True}}}, {}, "static_graph"),
    (
        {"strategy": {"class_path": "DDPStrategy", "init_args": {"precision_plugin": "DoublePrecision"}}},
        {},
        "trainer.precision",
    ),
    (
        {"strategy": "ddp_find_unused_parameters_false"},
        {"data.tasks": "[mnli, squad_v1]"},
        "find_unused_parameters",
    ),
    ({"precision": "16-mixed"}, {}, "bf16-mixed"),
    ({"profiler": "xla"}, {}, "trainer.profiler is xla"),
]


@pytest.mark.parametrize(("trainer", "changes", "told"), REFUSED_RUNS)
def test_a_run_with_a_part_that_does_not_work_ends_before_training_with_one_message(
    trainer: Mapping[str, Any],
    changes: dict[str, Any],
    told: str,
    tiny_run: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert run_with(trainer, tiny_run, tmp_path, **changes) == 2
    assert told in the_message(capsys.readouterr().err)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "strategy",
    [
        *(name for name in NAMES["strategy"] if name.startswith(("fsdp", "deepspeed"))),
        {"class_path": "FSDPStrategy"},
        {"class_path": "DeepSpeedStrategy"},
        {"class_path": "ModelParallelStrategy"},
    ],
    ids=str,
)
def test_a_strategy_that_splits_the_weights_is_refused_with_what_saves_memory_instead(
    strategy: str | dict[str, Any], tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cache = tmp_path / "cache"
    assert run_with({"strategy": strategy}, tiny_run, tmp_path, **{"data.cache": cache}) == 2
    message = the_message(capsys.readouterr().err)
    name = strategy if isinstance(strategy, str) else strategy["class_path"]
    assert name in message
    assert "whole weights on every rank" in message
    assert "auto or ddp" in message
    for key in ("model.lora", "model.gradient_checkpointing", "data.tokens_per_micro_batch"):
        assert key in message
    assert not cache.exists()


@pytest.mark.parametrize("name", NEEDED_PACKAGES)
def test_a_part_whose_package_is_missing_names_the_package(
    name: str,
    tiny_run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr("xlt.config.classes.find_spec", lambda package: None)
    assert run_with(WORKS[name], tiny_run, tmp_path) == 2
    message = the_message(capsys.readouterr().err)
    assert name in message
    assert all(package in message for package in NEEDED_PACKAGES[name])


def test_a_callback_that_accumulates_gradients_ends_the_run_before_its_first_step(
    tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    trainer = {"callbacks": [{"class_path": "test_lightning_parts.Accumulating"}]}
    assert run_with(trainer, tiny_run, tmp_path) == 2
    message = the_message(capsys.readouterr().err)
    assert "trainer.accumulate_grad_batches to 2" in message
    assert steps(tmp_path / "run") == []


@pytest.mark.parametrize("since", [0, 3])
def test_a_callback_whose_state_cannot_be_read_again_spoils_no_checkpoint(
    since: int, tiny_run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    callback = {"class_path": "test_lightning_parts.Unreadable", "init_args": {"since": since}}
    assert run_with({"callbacks": [callback]}, tiny_run, tmp_path) == 2
    assert "state_dict of the callback Unreadable" in the_message(capsys.readouterr().err)
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"))
    assert saved == ([] if since == 0 else ["step-000000002.ckpt"])
    if since:
        assert weights(tmp_path / "run")  # reads it


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_a_device_that_auto_chooses_is_refused_like_one_that_is_named(
    device: str,
    tiny_run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    there = property(lambda self: torch.device(device))
    monkeypatch.setattr("lightning.pytorch.strategies.SingleDeviceStrategy.root_device", there)
    assert run(tiny_run(tmp_path / "run", {**SHORT, "trainer.accelerator": "auto"})) == 2
    assert f"trainer.accelerator is {device}" in the_message(capsys.readouterr().err)


# Averages of weights


@pytest.mark.slow
def test_an_average_is_that_of_the_steps_is_exported_and_is_resumed_to_the_bit(
    tiny_run: Command, tmp_path: Path
):
    config = tmp_path / "average.yaml"
    average = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5}}
    config.write_text(yaml.safe_dump({"trainer": {"callbacks": [average]}}))
    own = {"checkpoints.keep_every_n_steps": 1, "trainer.max_steps": 8, "trainer.val_check_interval": 4}
    changes = {"data.tasks": "[mnli, ccg]", **own, "config": config}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert launch(tiny_run(whole, changes))[0] == 0
    code, output = strike(tiny_run(stopped, changes), Fault(3))
    assert code == STOPPED, output
    assert launch(tiny_run(stopped, changes))[0] == 0
    assert timeless(events(stopped)) == timeless(events(whole))
    found = [
        torch.load(path, weights_only=True) for path in sorted((whole / "checkpoints").glob("step-*.ckpt"))
    ]
    assert len(found) == 8
    best = json.loads((whole / "results.json").read_text())["run"]["best_step"]
    exported = load_file(whole / "model" / "model.safetensors")
    for name, ours in found[0]["current_model_state"].items():
        expected = ours.double()
        for step, checkpoint in enumerate(found, 1):
            if step > 1 and ours.is_floating_point():
                expected = (expected + checkpoint["current_model_state"][name].double()) / 2
            averaged = checkpoint["state_dict"][name]
            assert torch.allclose(averaged.double(), expected, atol=1e-6), (name, step)
            key = name.removeprefix("encoder.transformer.")
            if step == best and key in exported:
                assert torch.equal(exported.pop(key), averaged)
    assert not exported
