"""The command line of xlt.fit and xlt.prepare: LightningCLI on the signatures of the two Lightning classes.

A key is a parameter of TransferModule (`model.`), TransferData (`data.`) or the Trainer (`trainer.`). The
other keys are `seed_everything`, and the sections of `xlt.config.settings`: `checkpoints`, `preemption` and
`wandb`. `xlt.config.help` prints the help of all keys.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import DDPStrategy

from xlt.config.classes import check_classes, check_file_classes, check_lightning_parts, trainer_keys_of
from xlt.config.config_files import EXAMPLE, config_files, read_config
from xlt.config.epochs import given_length, keep_last_length, max_steps_of
from xlt.config.folder_name import name_folder
from xlt.config.jsonargparse_private import allow
from xlt.config.lightning_parts import NAMES
from xlt.config.loggers import set_folder
from xlt.config.parser import LightningCommandParser
from xlt.config.settings import CheckpointSettings, PreemptionSettings, WandbSettings
from xlt.config.trainer_keys import DEFAULTS, check_accelerator, check_trainer_keys, prepare_ddp
from xlt.data.sampling.episodes import check_episodes, steps_type_of
from xlt.datamodule import TransferData
from xlt.learning.meta import JOINT
from xlt.models.encoders.multimodal import check_kept_heads
from xlt.models.lora import NO_LORA
from xlt.module import TransferModule
from xlt.splits.data_keys import check_world_size
from xlt.system.checks import require
from xlt.system.memory import keep_freed_memory
from xlt.system.precision import chosen_precision, warn_of_slow_bf16
from xlt.system.signals import SignalWatcher
from xlt.system.wandb_mode import wandb_mode
from xlt.system.yaml_files import load_yaml
from xlt.training.checkpoint_callback import CheckpointCallback
from xlt.training.launch import RendezvousTimeout, check_launch
from xlt.training.lightning_private import leave_signals_alone
from xlt.training.metrics_file import MetricsFile
from xlt.training.processes import RankMonitor
from xlt.training.progress import progress_callback
from xlt.training.recorder import Recorder
from xlt.training.run_folder import RunFolder
from xlt.training.run_report import RunReport
from xlt.training.wandb_logger import RunWandbLogger, run_id


class CommandLine(LightningCLI):
    """Parse and check a config, and build the Trainer, the module and the data. Running is up to the command.

    Args:
        args: Command-line arguments.
        build: If False, build the data alone, without the run's folder. Defaults to True.
        watcher: Listener for the signals of this process. Defaults to one that does not listen.
    """

    def __init__(self, args: Sequence[str], build: bool = True, watcher: SignalWatcher | None = None) -> None:
        self._build, self._watcher = build, watcher or SignalWatcher()
        self.folder: RunFolder
        self.report: RunReport
        self.recorder = Recorder(self._describe_run)
        super().__init__(
            TransferModule,
            TransferData,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=LightningCommandParser,
            parser_kwargs={"allow_abbrev": False, "prog": "xlt fit" if build else "xlt prepare"},
            trainer_defaults=DEFAULTS,
            args=None if list(args) == sys.argv[1:] else list(args),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give module and data the same seed and encoder, and add what Lightning's Trainer lacks."""
        allow(parser, "trainer.precision", "auto")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        for key in ("encoder", "vision_encoder", "vision_trainable"):
            parser.link_arguments(f"model.{key}", f"data.{key}")
        for key, hint in (("epochs", float | None), ("name", str | None)):
            parser.add_argument(f"--{key}", type=hint, default=None)
        parser.add_class_arguments(CheckpointSettings, "checkpoints")
        parser.add_class_arguments(PreemptionSettings, "preemption")
        parser.add_class_arguments(WandbSettings, "wandb")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments. Config files are read before, because the parser's errors do not name them."""
        words = list(map(str, sys.argv[1:] if args is None else args))
        if not words:
            raise ValueError(f"no config is given: name one, as in --config {EXAMPLE}. --help lists all keys")
        configs: list[Any] = [trainer_keys_of(words)]
        for name in config_files(words):
            configs.append(read_config(name))
            check_file_classes(configs[-1], f"config {name}")
        self._places = [*configs[1:], given_length(words)]
        try:
            super().parse_arguments(parser, args)
        except ValueError:
            # A part that xlt does not support, or whose package is missing, explains most parser errors.
            # The parser's own error is better for the functions of a LambdaCallback.
            for config in configs:
                check_lightning_parts(config, ignored=["LambdaCallback"])
            raise

    def before_instantiate_classes(self) -> None:
        """Check the values that no signature can check, and name the run's folder."""
        trainer = self.config.trainer
        for key in ("meta", "lora"):
            value = self.config.model.get(key)
            require(isinstance(value, Namespace), f"model.{key}", value, "hold keys, as in {rank: 8}")
        keep_last_length(self.config, self._places)
        check_trainer_keys(self.config)
        check_classes(self.config.trainer)
        # Invalid values of the data are reported before the run's folder is read.
        data = TransferData(**vars(self.config.data))
        name_folder(self.config, _config_name(self.config))
        self.folder = RunFolder(Path(trainer.default_root_dir))
        if trainer.precision == "auto":
            trainer.precision = chosen_precision("auto", str(trainer.accelerator), self.folder.precision)
        set_folder(_as_list(trainer.logger), trainer.default_root_dir)
        meta = self.config.model.meta
        data.steps_type = steps_type_of(meta.algorithm, meta.other_language)
        if self.config.epochs is not None and self._build:
            trainer.max_steps = max_steps_of(self.config.epochs, trainer.max_steps, self.folder, data)
        if isinstance(trainer.val_check_interval, float):
            trainer.val_check_interval = max(1, int(trainer.val_check_interval * trainer.max_steps))
        self.report = RunReport(self.folder)

    def resolved(self) -> dict[str, Any]:
        """Return the whole config, nested, as its YAML file would be read."""
        return load_yaml(self._config_text(), "the config")

    def _config_text(self) -> str:
        """Return the whole config as YAML, without unused settings of meta-learning and LoRA."""
        config = self.config.clone()
        config.pop("config", None)
        if config.model.meta.algorithm == JOINT.algorithm:
            config.model.pop("meta")
        if config.model.lora.rank == NO_LORA.rank:
            config.model.pop("lora")
        return self.parser.dump(config, skip_none=False)

    def _describe_run(self, data: TransferData) -> None:
        """Write config, W&B id and data sources into the run's folder."""
        self.folder.describe(self._config_text(), run_id(self.folder, self.resolved()), data)

    def instantiate_classes(self) -> None:
        """Build Trainer, module and data, or the data alone if `build` is False."""
        if not self._build:
            self.datamodule = TransferData(**vars(self.config.data))
            return
        self.folder.compare(self.resolved())
        if self.folder.is_finished:
            return
        super().instantiate_classes()
        check_launch(self.trainer)
        has_projection = self.model.vision is not None
        check_kept_heads(self.datamodule.vision_settings, self.config.model.keep_heads, has_projection)
        self.folder.check(self.resolved())
        if isinstance(self.trainer.strategy, DDPStrategy):
            num_heads = len({task.head_key for task in self.datamodule.tasks.values()})
            num_heads += self.datamodule.vision_settings is not None  # no step uses all of the projection
            prepare_ddp(self.trainer.strategy, self.config.trainer.strategy, num_heads)
        world_size = self.trainer.num_devices * self.trainer.num_nodes
        check_world_size(self.datamodule.micro_batches_per_step, world_size)
        if self.model.meta.is_used:
            sizes = self.datamodule.micro_batches_per_step, world_size
            check_episodes(self.model.meta.other_language, self.datamodule.tasks, *sizes)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build a Trainer with xlt's record, checkpoints, progress bar and W&B logger."""
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        checkpoints = self._checkpoint_callback()
        config["callbacks"] = [
            RankMonitor(self._watcher),
            *_as_list(config.get("callbacks")),
            self.recorder,
            self.report,
            checkpoints,
        ]
        if config.get("enable_progress_bar") is not False:
            config["callbacks"].append(progress_callback(self.recorder))
        config["plugins"] = [*_as_list(config.get("plugins")), checkpoints.io]
        config["logger"] = self._loggers(config.get("logger"))
        config["enable_checkpointing"] = True
        check_accelerator(config.get("accelerator"))
        try:
            trainer = self._instantiate_trainer(config, [])
        except TypeError as error:
            raise ValueError(f"trainer.accelerator and trainer.devices: {error}") from error
        except RuntimeError as error:  # about SLURM's variables
            raise ValueError(f"the Trainer cannot be built: {error}") from error
        device = trainer.strategy.root_device.type
        # `auto` and `gpu` select any device of the machine.
        require(device in ("cpu", "cuda"), "trainer.accelerator", device, NAMES["accelerator"]["mps"])
        is_resumed = self.folder.precision is not None
        warn_of_slow_bf16(str(trainer.precision), device, "trainer.precision", is_resumed)
        keep_freed_memory(device)
        leave_signals_alone(trainer)
        return trainer

    def limit_rendezvous(self) -> None:
        """Start the time limit for the connection of all ranks."""
        RendezvousTimeout(self.trainer, self._watcher, self.config.preemption.start_limit)

    def _checkpoint_callback(self) -> CheckpointCallback:
        """Return the callback that saves checkpoints, and stops the run after a signal."""
        settings, preemption = self.config.checkpoints, self.config.preemption
        for key in ("grace_seconds", "start_limit"):
            require(preemption[key] > 0, f"preemption.{key}", preemption[key], "be above 0 seconds")
        self._watcher.grace_seconds = preemption.grace_seconds
        return CheckpointCallback(
            self.folder.checkpoints,
            settings.every_n_steps,
            settings.keep_last,
            settings.keep_every_n_steps,
            self.recorder.flush,
            self._watcher,
            preemption.check_every_n_steps,
        )

    def _loggers(self, given: Any) -> list[Any]:
        """Return metrics.jsonl, then W&B and the config's loggers unless trainer.logger is false."""
        loggers: list[Any] = [MetricsFile(self.folder.metrics)]
        if given is False:
            return loggers
        if wandb_mode() != "disabled":
            loggers.append(self._wandb_logger())
        return loggers + (_as_list(given) if given is not True else [])

    def _wandb_logger(self) -> RunWandbLogger:
        """Return the run's W&B logger."""
        settings = self.config.wandb
        labels = settings.project, settings.group, settings.job_type, settings.tags or ()
        return RunWandbLogger(self.folder, self.resolved(), *labels)


class ParsedCommandLine(CommandLine):
    """Parse a config, and do nothing else: what the config names, such as a data root, need not exist."""

    def before_instantiate_classes(self) -> None:
        """Check nothing."""

    def instantiate_classes(self) -> None:
        """Build nothing."""


def _seed(value: int | bool) -> int:
    """Return the run's seed.

    Raises:
        ValueError: The seed is a boolean, or outside 32 bits.
    """
    fits = not isinstance(value, bool) and 0 <= value < 2**32
    require(fits, "seed_everything", value, "be a whole number from 0 to 4294967295")
    return int(value)


def _config_name(config: Namespace) -> str:
    """Return the name of the last config file without its ending, or `run` if there is no file."""
    files = config.get("config") or []
    return Path(str(files[-1])).stem if files else "run"


def _as_list(value: Any) -> list[Any]:
    """Return a list of the values: empty for None, of length 1 for a single value."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
