"""Keys of xlt fit that LightningCLI adds, with the help, the defaults and the values that hold in xlt.

The command's own parser reads Lightning's signatures. A test compares the tables here with that parser.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

File = Path
"""Type of a key that names a config file."""

Flag = bool
"""Type of a key that takes no value."""


@dataclass
class GeneralKeys:
    """Keys of the whole run.

    Args:
        config: YAML file with keys of the run. Several --config are read in order, and a later file overrides
            an earlier one. Keys on the command line override all files.
        seed_everything: Seed of the run, from 0 to 4294967295. It sets order and choice of rows, dropout, and
            the initial weights of the heads.
        epochs: Length of the run in epochs, instead of trainer.max_steps. An epoch draws as many examples as
            the training volumes of all tasks have in total. Must be above 0, such as 2 or 0.5. On the command
            line, epochs replaces a config file's max_steps. Defaults to trainer.max_steps.
        name: Name of the run, which replaces the last part of trainer.default_root_dir, or its field {name}.
            Fields in braces are filled, such as in {config}-{seed}.
        print_config: Print all keys with their values as YAML, and exit.
    """

    config: File | None = None
    seed_everything: int = 0
    epochs: float | None = None
    name: str | None = None
    print_config: Flag = False


@dataclass
class TrainerKeys:
    """Length, devices and precision of training: keys of Lightning's Trainer.

    Args:
        max_steps: Number of optimizer steps of the run. Must be above 0. Required unless epochs is set. On
            the command line, max_steps replaces a config file's epochs.
        val_check_interval: Optimizer steps between two validations: a whole number of at least 1, or a share
            of all steps above 0.0 and up to 1.0, such as 0.25. If null, one validation at the end.
        default_root_dir: Folder of the run, such as runs/{config}-{seed}. Fields in braces: config (the last
            --config file without its ending), seed, name, and dotted keys such as {model.learning_rate}.
            Defaults to runs/{config}.
        accelerator: Device to train on. cuda is another name of gpu.
        devices: Number of devices, and so of processes, on each node, a list of device numbers such as [0,
            2], or auto for all devices.
        num_nodes: Number of machines. Must be at least 1.
        precision: Precision of the computation. auto is bf16-mixed on devices with bf16 instructions, and
            32-true on others. With auto, a resumed run keeps the precision that it started with. The weights
            are stored in 32 bits unless the value is 64-true. Defaults to 32-true.
        gradient_clip_val: Maximum norm of the gradient, 0 or more. Defaults to no clipping.
        deterministic: Use deterministic algorithms only; warn uses them where torch has one. Defaults to
            false.
        logger: Loggers beside metrics.jsonl and W&B, such as {class_path:
            lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs}}. false turns W&B off too. If
            null, metrics.jsonl and W&B.
        callbacks: Callbacks, such as [{class_path: lightning.pytorch.callbacks.LearningRateMonitor}], or
            classes of your own. Defaults to none.
        enable_progress_bar: Show a progress bar. Defaults to true.
    """

    max_steps: int
    val_check_interval: int | float | None = None
    default_root_dir: Path | None = None
    accelerator: Literal["auto", "cpu", "gpu", "cuda"] = "auto"
    devices: int | str | list[int] = "auto"
    num_nodes: int = 1
    precision: Literal["auto", "32-true", "64-true", "bf16-mixed"] | None = None
    gradient_clip_val: float | None = None
    deterministic: Literal["true", "false", "warn"] | None = None
    logger: Any = None
    callbacks: list[Any] | None = None
    enable_progress_bar: bool | None = None


@dataclass
class FurtherTrainerKeys:
    """Further keys of Lightning's Trainer.

    Args:
        strategy: Distribution over processes. auto uses DDP if there are several.
        plugins: Lightning's plugins for the cluster's environment, such as {class_path:
            lightning.pytorch.plugins.environments.SLURMEnvironment}. Defaults to none.
        num_sanity_val_steps: Validation batches of each task to try before training, or -1 for all.
        log_every_n_steps: Optimizer steps between two writes to metrics.jsonl, which holds every step. Must
            be at least 1.
        enable_model_summary: Print a summary of the layers before training.
        gradient_clip_algorithm: Clip the norm of the gradient, or each value. Defaults to norm.
        benchmark: Let cuDNN try several algorithms and use the fastest. Defaults to false.
        inference_mode: Validate under torch.inference_mode instead of torch.no_grad.
        profiler: Profile the run by Lightning's profiler of this name, or by a class such as {class_path:
            lightning.pytorch.profilers.SimpleProfiler}. Defaults to none.
        detect_anomaly: Stop at the first NaN in a gradient, and name the operation. Slow.
        enable_autolog_hparams: Give the keys of the run to loggers at the start.
    """

    strategy: Literal[
        "auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"
    ] = "auto"
    plugins: list[Any] | None = None
    num_sanity_val_steps: int = 0
    log_every_n_steps: int = 10
    enable_model_summary: bool = False
    gradient_clip_algorithm: Literal["norm", "value"] | None = None
    benchmark: bool | None = None
    inference_mode: bool = True
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    detect_anomaly: bool = False
    enable_autolog_hparams: bool = True


UNSUPPORTED_TRAINER_KEYS = {
    "accumulate_grad_batches": "data.micro_batches_per_step is the number of micro-batches per step, over "
    "all ranks",
    "limit_train_batches": "trainer.max_steps ends a run, data.volume limits the rows",
    "limit_val_batches": "data.validation_volume limits the validation rows",
    "limit_test_batches": "xlt fit runs no test, xlt evaluate does",
    "limit_predict_batches": "xlt fit makes no predictions; xlt predict and xlt evaluate do",
    "overfit_batches": "data.volume limits the rows",
    "fast_dev_run": "set trainer.max_steps to a few steps",
    "barebones": "every run has a record and checkpoints",
    "enable_checkpointing": "every run saves checkpoints, and checkpoints.keep_last is their number",
    "max_epochs": "epochs is the number of epochs, trainer.max_steps the number of steps",
    "min_epochs": "trainer.max_steps is the number of steps",
    "min_steps": "trainer.max_steps is the number of steps",
    "max_time": "stop the run at any time by a signal, and resume it with the same command",
    "check_val_every_n_epoch": "trainer.val_check_interval is the number of steps between validations",
    "reload_dataloaders_every_n_epochs": "the whole run is one epoch",
    "use_distributed_sampler": "the rows of a step are divided among the ranks already",
    "sync_batchnorm": "batch norms keep their statistics",
    "model_registry": "the model is exported into the run's folder",
}
"""Trainer key that must keep its default → what to use instead."""
