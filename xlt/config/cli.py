"""The command line of the verbs: LightningCLI on the two seams' signatures.

A key is a parameter of TransferModule (`model.`), TransferData (`data.`) or the Trainer (`trainer.`), its
help is their docstring, and `configs/*.yaml` hold nothing else but `seed_everything`, `checkpoints` and
`wandb`.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.strategies import DDPStrategy

from xlt.config.classes import check_classes, check_named, check_parts, given_keys
from xlt.config.lightning_parts import NAMES
from xlt.config.parser import Parser
from xlt.config.trainer_keys import DEFAULTS, check_trainer_keys, prepare_ddp
from xlt.datamodule import TransferData
from xlt.module import TransferModule
from xlt.system.checks import require
from xlt.system.memory import keep_memory
from xlt.system.signals import INTERRUPTED, STOPPED, Watch, interruptible, outlives_launcher, say
from xlt.system.yaml_files import load_yaml, read_yaml
from xlt.training.checkpoint_callback import Checkpoints
from xlt.training.launch import Gathering, check_launch
from xlt.training.lightning_private import leave_signals_alone
from xlt.training.metrics_file import MetricsFile
from xlt.training.precision import warn_of_slow_bf16
from xlt.training.processes import Processes
from xlt.training.progress import Progress
from xlt.training.recorder import Recorder
from xlt.training.run_folder import RunFolder
from xlt.training.wandb_logger import Dashboard, mode, run_id

IGNORED_WARNINGS = (
    ".*your dataloader is not resumable.*",  # the data module's state is the position
    ".*does not have many workers.*",  # a batch is a few gathers
    ".*treespec, LeafSpec.*",  # inside Lightning
    ".*`srun` command is available on your system but is not used.*",  # one node needs none
    ".*is smaller than the logging interval.*",  # every step is logged, at the end at the latest
    ".*args parameter is intended to run from within Python.*",  # a study parses the configs of its runs
)
"""Warnings that do not apply here."""


@dataclass
class CheckpointSettings:
    """When checkpoints are written.

    Args:
        every_n_steps: Optimizer steps between checkpoints.
        keep_last: How many of the newest to keep; the best is kept besides.
        keep_every_n_steps: Checkpoints of the multiples of so many steps are written and kept for good.
    """

    every_n_steps: int = 500
    keep_last: int = 2
    keep_every_n_steps: int | None = None


@dataclass
class PreemptionSettings:
    """How a run ends that is told to stop, by SIGTERM, SIGUSR1 or Ctrl-C to any of its processes.

    Args:
        check_every_n_steps: Optimizer steps between looks whether a process was told to.
        grace_seconds: Most seconds from the signal to the end of training, from there to the end of the
            process, and without a sign of life of another process; more than a validation and a save take.
        start_limit: Most seconds that a process waits at the start until all the others are there.
    """

    check_every_n_steps: int = 1
    grace_seconds: float = 120.0
    start_limit: float = 300.0


@dataclass
class WandbSettings:
    """Where the run stands on the dashboard; WANDB_MODE=disabled turns it off.

    Args:
        project: W&B project.
        group: What the run belongs to, such as a study; the run's own name where not given.
        job_type: The run's phase: pretrain, intermediate or target.
        tags: Further labels.
    """

    project: str = "xlt"
    group: str | None = None
    job_type: str = "intermediate"
    tags: list[str] | None = None


class Cli(LightningCLI):
    """Parses, checks, and builds; running is left to the verb.

    Args:
        args: Command-line arguments.
        build: Whether to build the Trainer, the modules and the run's folder.
        watch: Hears the signals of this process.
    """

    def __init__(self, args: Sequence[str], build: bool = True, watch: Watch | None = None) -> None:
        self._build, self._watch = build, watch or Watch()
        self.folder: RunFolder
        self.recorder = Recorder(self._keep)
        super().__init__(
            TransferModule,
            TransferData,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={"allow_abbrev": False},
            trainer_defaults=DEFAULTS,
            args=None if list(args) == sys.argv[1:] else list(args),
            run=False,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed and one encoder for both seams; checkpoints and dashboard."""
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.link_arguments("model.encoder", "data.encoder")
        parser.add_class_arguments(CheckpointSettings, "checkpoints")
        parser.add_class_arguments(PreemptionSettings, "preemption")
        parser.add_class_arguments(WandbSettings, "wandb")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, after a look at each config file, which the parser's own message would not name."""
        words = list(map(str, sys.argv[1:] if args is None else args))
        configs: list[Any] = [given_keys(words)]
        for name in _configs(words):
            found = read_yaml(Path(name), f"config {name}") if Path(name).is_file() else None
            check_named(found, f"config {name}")
            configs.append(found)
        try:
            super().parse_arguments(parser, args)
        except ValueError:
            # The arguments of a part that is refused, or whose package is missing, may not parse; the
            # parser names the functions that a LambdaCallback is given.
            for config in configs:
                check_parts(config, besides=["LambdaCallback"])
            raise

    def before_instantiate_classes(self) -> None:
        """Check what no signature can, and claim the run's folder."""
        trainer = self.config.trainer
        check_trainer_keys(self.config)
        check_classes(self.config.trainer)
        # Values that cannot be meant are named before the run's folder is looked at.
        TransferData(**vars(self.config.data))
        if isinstance(trainer.val_check_interval, float):
            trainer.val_check_interval = max(1, int(trainer.val_check_interval * trainer.max_steps))
        if trainer.default_root_dir is None:
            trainer.default_root_dir = str(Path("runs") / _config_name(self.config))
        self.folder = RunFolder(Path(trainer.default_root_dir))

    def resolved(self) -> dict[str, Any]:
        """The whole config, nested, as YAML would give it back."""
        return load_yaml(self._text(), "the config")

    def _text(self) -> str:
        config = self.config.clone()
        config.pop("config", None)
        return self.parser.dump(config, skip_none=False)

    def _keep(self, data: TransferData) -> None:
        """Fill the run's folder, once all checks have passed."""
        self.folder.keep(self._text(), run_id(self.folder, self.resolved()), data)

    def instantiate_classes(self) -> None:
        """Build everything; a verb that only prepares builds the data alone."""
        if self._build:
            self.folder.compare(self.resolved())
            if self.folder.is_finished:
                return
            super().instantiate_classes()
            check_launch(self.trainer)
            self.folder.check(self.resolved())
            if isinstance(self.trainer.strategy, DDPStrategy):
                num_heads = len({task.head_key for task in self.datamodule.tasks.values()})
                prepare_ddp(self.trainer.strategy, self.config.trainer.strategy, num_heads)
            self.datamodule.check_processes(self.trainer.num_devices * self.trainer.num_nodes)
        else:
            self.datamodule = TransferData(**vars(self.config.data))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A Trainer with the record, the checkpoints, the bar and the dashboard."""
        config = {**self._get(self.config_init, "trainer", default={}), **kwargs}
        checkpoints = self._checkpoints()
        config["callbacks"] = [
            Processes(self._watch),
            *_as_list(config.get("callbacks")),
            self.recorder,
            checkpoints,
        ]
        if config.get("enable_progress_bar") is not False:
            config["callbacks"].append(Progress(self.recorder))
        config["plugins"] = [*_as_list(config.get("plugins")), checkpoints.io]
        config["logger"] = self._loggers(config.get("logger"))
        config["enable_checkpointing"] = True
        try:
            trainer = self._instantiate_trainer(config, [])
        except TypeError as error:
            raise ValueError(f"trainer.accelerator and trainer.devices: {error}") from error
        except RuntimeError as error:  # of SLURM's variables
            raise ValueError(f"the Trainer cannot be built: {error}") from error
        device = trainer.strategy.root_device.type
        # `auto` and `gpu` choose what the machine has.
        require(device in ("cpu", "cuda"), "trainer.accelerator", device, NAMES["accelerator"]["mps"])
        warn_of_slow_bf16(str(trainer.precision), device, "trainer.precision")
        keep_memory(device)
        leave_signals_alone(trainer)
        return trainer

    def gather(self) -> None:
        """Bound the wait for the other processes, which begins now."""
        Gathering(self.trainer, self._watch, self.config.preemption.start_limit)

    def _checkpoints(self) -> Checkpoints:
        """When to save, what to keep, and when to stop."""
        settings, preemption = self.config.checkpoints, self.config.preemption
        limit = preemption.grace_seconds
        require(limit > 0, "preemption.grace_seconds", limit, "be above 0 seconds")
        start = preemption.start_limit
        require(start > 0, "preemption.start_limit", start, "be above 0 seconds")
        self._watch.grace_seconds = limit
        return Checkpoints(
            self.folder.checkpoints,
            settings.every_n_steps,
            settings.keep_last,
            settings.keep_every_n_steps,
            self.recorder.flush,
            self._watch,
            preemption.check_every_n_steps,
        )

    def _loggers(self, given: Any) -> list[Any]:
        """metrics.jsonl first; then the dashboard and what the config names, unless it says false."""
        loggers: list[Any] = [MetricsFile(self.folder.metrics)]
        if given is False:
            return loggers
        if mode() != "disabled":
            loggers.append(self._dashboard())
        return loggers + (_as_list(given) if given is not True else [])

    def _dashboard(self) -> Dashboard:
        """The dashboard of the run."""
        wandb = self.config.wandb
        tags = wandb.tags or ()
        return Dashboard(self.folder, self.resolved(), wandb.project, wandb.group, wandb.job_type, tags)


def _seed(value: int | bool) -> int:
    """The run's seed.

    Raises:
        ValueError: It is no number.
    """
    fits = not isinstance(value, bool) and 0 <= value < 2**32
    require(fits, "seed_everything", value, "be a whole number from 0 to 4294967295")
    return int(value)


def _configs(args: Sequence[str]) -> Iterator[str]:
    """Names of the config files among the arguments."""
    for argument, value in zip(args, [*args[1:], ""], strict=True):
        if argument in ("-c", "--config"):
            yield value
        elif argument.startswith(("-c=", "--config=")):
            yield argument.partition("=")[2]


def _config_name(config: Namespace) -> str:
    """Name of the last config file given."""
    files = config.get("config") or []
    return Path(str(files[-1])).stem if files else "run"


def _as_list(value: Any) -> list[Any]:
    """None as empty, one as a list of it."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


class ParsedCli(Cli):
    """A config that is parsed and no more: what it names, such as a data root, may not be there."""

    def before_instantiate_classes(self) -> None:
        """Check nothing."""

    def instantiate_classes(self) -> None:
        """Build nothing."""


def run_verb(verb: Callable[[Sequence[str]], int | None], args: Sequence[str]) -> int:
    """Run a verb; turn an error that a user can cause into one message on stderr.

    Returns:
        The exit code: the verb's own or 0, 2 after an error of the user's, or 75 after Ctrl-C.
    """
    logging.basicConfig(format="%(message)s")
    for name in ("xlt", "__main__"):  # python -m gives the verb's own module the second name
        logging.getLogger(name).setLevel(logging.INFO)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for name in ("callbacks", "profilers"):  # print what a config asks for, such as a profile
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    try:
        with interruptible():
            return verb(args) or 0
    except KeyboardInterrupt:
        say(INTERRUPTED)
        return STOPPED
    except (ValueError, OSError, MisconfigurationException) as error:
        # The first process says the same, and ends the others; if it does not, this one speaks.
        if not int(os.environ.get("LOCAL_RANK", "0")) or not outlives_launcher(10):
            print(f"error: {error}", file=sys.stderr)
        return 2
