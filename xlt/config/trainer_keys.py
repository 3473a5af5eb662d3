"""The Trainer's keys that a config may set: none that would take other steps than the schedule's."""

from inspect import signature
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from xlt.config.lightning_parts import NAMES
from xlt.system.checks import require
from xlt.training.lightning_private import ddp_settings

DEFAULTS = {
    "check_val_every_n_epoch": None,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
}
"""Defaults of the Trainer in xlt; one pass over the schedule is its only epoch."""

ALLOWED_TRAINER_KEYS = frozenset(
    {
        "logger",
        "callbacks",
        "plugins",
        "devices",
        "num_nodes",
        "max_steps",
        "val_check_interval",
        "num_sanity_val_steps",
        "log_every_n_steps",
        "enable_progress_bar",
        "enable_model_summary",
        "gradient_clip_val",
        "gradient_clip_algorithm",
        "deterministic",
        "benchmark",
        "inference_mode",
        "detect_anomaly",
        "default_root_dir",
        "enable_autolog_hparams",
        *NAMES,
    }
)
"""Trainer keys that a config may set; some have a range, and some name parts."""

UNSUPPORTED_TRAINER_KEYS = {
    "accumulate_grad_batches": "data.micro_batches_per_step is the number of micro-batches in a step, on "
    "however many processes",
    "limit_train_batches": "trainer.max_steps ends a run, data.volume limits the rows",
    "limit_val_batches": "data.validation_volume limits the validation rows",
    "limit_test_batches": "xlt.fit runs no test, xlt.evaluate does",
    "limit_predict_batches": "xlt.fit makes no predictions, xlt.evaluate does",
    "overfit_batches": "data.volume limits the rows",
    "fast_dev_run": "set trainer.max_steps to a few steps",
    "barebones": "a run has its record and its checkpoints",
    "enable_checkpointing": "a run has its checkpoints, and checkpoints.keep_last limits how many",
    "max_epochs": "trainer.max_steps is the number of steps",
    "min_epochs": "trainer.max_steps is the number of steps",
    "min_steps": "trainer.max_steps is the number of steps",
    "max_time": "stop the run as you like, the same command continues it",
    "check_val_every_n_epoch": "trainer.val_check_interval is the number of steps between validations",
    "reload_dataloaders_every_n_epochs": "the whole run is one epoch",
    "use_distributed_sampler": "a step's rows are shared out among the processes already",
    "sync_batchnorm": "XLM-R has no batch norm",
    "model_registry": "the model is exported to the run's folder",
}
"""Trainer keys that must keep their default, and what to use in their place."""


def check_trainer_keys(config: Namespace) -> None:
    """Raise ValueError for Trainer keys that contradict how steps are counted here."""
    trainer = config.trainer
    require(
        trainer.max_steps > 0,
        "trainer.max_steps",
        trainer.max_steps,
        "be a number of optimizer steps, for the learning rate and the schedule depend on it",
    )
    clip = trainer.gradient_clip_val
    require(clip is None or clip >= 0, "trainer.gradient_clip_val", clip, "be 0 or more")
    interval, every = trainer.val_check_interval, trainer.log_every_n_steps
    is_share = isinstance(interval, float) and 0 < interval <= 1
    fits = interval is None or is_share or (isinstance(interval, int) and interval > 0)
    rule = "be a whole number of steps, or a share of all of them above 0 and up to 1.0"
    require(fits, "trainer.val_check_interval", interval, rule)
    require(every is not None and every > 0, "trainer.log_every_n_steps", every, "be at least 1 step")
    sanity = trainer.num_sanity_val_steps
    rule = "be a number of batches of each task, or -1 for all"
    require(sanity is not None and sanity >= -1, "trainer.num_sanity_val_steps", sanity, rule)
    algorithm = trainer.gradient_clip_algorithm
    require(
        algorithm in (None, "norm", "value"), "trainer.gradient_clip_algorithm", algorithm, "be norm or value"
    )
    for key, instead in UNSUPPORTED_TRAINER_KEYS.items():
        value = trainer[key]
        is_unset = value == _default(key) or (value == 1.0 and isinstance(value, float))
        is_unset |= key == "enable_checkpointing" and value is True
        require(is_unset, f"trainer.{key}", value, f"stay unset: {instead}")
    for key in NAMES:
        _check_name(key, trainer[key])


def _check_name(key: str, value: Any) -> None:
    """Raise ValueError for a text that names no part of Lightning, or one that does not work here."""
    if value is None or not isinstance(value, (str, int)):
        return  # unset, or a class
    known = NAMES[key]
    working = ", ".join(name for name, reason in known.items() if not reason)
    require(str(value) in known, f"trainer.{key}", value, f"be one of {working}")
    reason = known[str(value)]
    if reason:
        raise ValueError(f"trainer.{key} is {value}, which xlt does not support: {reason}")


DDP_ARGUMENTS = ("find_unused_parameters", "gradient_as_bucket_view", "bucket_cap_mb", "broadcast_buffers")
"""Arguments of torch's DDP that a config may set."""


def prepare_ddp(strategy: DDPStrategy, given: Any, num_heads: int) -> None:
    """Make DDP look for the heads that a step does not train, and refuse arguments that do not work here.

    Args:
        strategy: Built, not launched.
        given: Value of trainer.strategy.
        num_heads: Heads of the run's tasks.

    Raises:
        ValueError: An argument does not work here.
    """
    key, (arguments, method, period) = "trainer.strategy", ddp_settings(strategy)
    require(method == "popen", f"{key}.start_method", method, "be popen: scores stay in other processes")
    require(period is None, f"{key}.model_averaging_period", period, "stay unset: gradients are averaged")
    defaults = signature(DistributedDataParallel.__init__).parameters
    for name, value in arguments.items():
        fits = name in DDP_ARGUMENTS or (name in defaults and value == defaults[name].default)
        require(fits, f"{key}.{name}", value, f"stay unset: DDP may be given {', '.join(DDP_ARGUMENTS)}")
    if num_heads > 1 and given == "ddp_find_unused_parameters_false":
        raise ValueError(
            f"{key} is {given}, but data.tasks have {num_heads} heads, of which a step trains one: set {key} "
            "to ddp"
        )
    # To a DDPStrategy that is named as a class, the parser gives torch's default, false.
    if given != "ddp_find_unused_parameters_false":
        arguments["find_unused_parameters"] = True


def _default(key: str) -> Any:
    """Return the Trainer's value of a key that is not given."""
    return DEFAULTS.get(key, signature(Trainer.__init__).parameters[key].default)
