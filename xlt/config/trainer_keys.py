"""Checks of the Trainer's keys. A key that would change the steps of the schedule must keep its default."""

import math
from inspect import signature
from typing import Any

import torch
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from xlt.config.documented_keys import UNSUPPORTED_TRAINER_KEYS
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
"""Defaults of the Trainer in xlt. One pass over the schedule is the only epoch."""


def check_trainer_keys(config: Namespace) -> None:
    """Refuse Trainer keys that contradict the steps of the schedule, or are out of range.

    Args:
        config: The whole config, parsed.

    Raises:
        ValueError: A key has a value that is not allowed.
    """
    trainer = config.trainer
    epochs, rule = config.get("epochs"), "be a number of epochs above 0"
    require(epochs is None or 0 < epochs < math.inf, "epochs", epochs, rule)
    require(
        trainer.max_steps > 0 or (epochs is not None and trainer.max_steps == -1),
        "trainer.max_steps",
        trainer.max_steps,
        "be a number of optimizer steps above 0, because learning rate and schedule depend on it. Or leave "
        "it out and set epochs",
    )
    clip = trainer.gradient_clip_val
    require(clip is None or clip >= 0, "trainer.gradient_clip_val", clip, "be 0 or more")
    interval, every = trainer.val_check_interval, trainer.log_every_n_steps
    is_share = isinstance(interval, float) and 0 < interval <= 1
    fits = interval is None or is_share or (isinstance(interval, int) and interval > 0)
    rule = "be a whole number of steps of at least 1, or a share of all steps above 0.0 and up to 1.0"
    require(fits, "trainer.val_check_interval", interval, rule)
    require(every is not None and every > 0, "trainer.log_every_n_steps", every, "be at least 1 step")
    sanity = trainer.num_sanity_val_steps
    rule = "be a number of batches per task, or -1 for all"
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
    """Raise ValueError if a key's text names no part of Lightning, or a part that does not work with xlt."""
    if value is None or not isinstance(value, (str, int)):
        return  # unset, or a class
    known = NAMES[key]
    working = ", ".join(name for name, reason in known.items() if not reason)
    require(str(value) in known, f"trainer.{key}", value, f"be one of {working}")
    reason = known[str(value)]
    if reason:
        raise ValueError(f"trainer.{key} is {value}, which xlt does not support: {reason}")


def check_accelerator(name: Any) -> None:
    """Raise ValueError if trainer.accelerator asks for a GPU and torch finds none.

    Args:
        name: Value of trainer.accelerator.
    """
    if name not in ("gpu", "cuda") or torch.cuda.is_available():
        return
    reason = "this torch is built for CPUs" if torch.version.cuda is None else "nvidia-smi shows the driver"
    raise ValueError(
        f"trainer.accelerator is {name}, but torch finds no GPU here ({reason}): set it to auto or cpu, "
        "or install torch for CUDA and check the driver"
    )


DDP_ARGUMENTS = ("find_unused_parameters", "gradient_as_bucket_view", "bucket_cap_mb", "broadcast_buffers")
"""Arguments of torch's DistributedDataParallel (DDP) that a config may set."""


def prepare_ddp(strategy: DDPStrategy, given: Any, num_heads: int) -> None:
    """Make DDP find the heads that a step does not train, and refuse arguments that do not work with xlt.

    Args:
        strategy: The strategy, built and not yet launched.
        given: Value of trainer.strategy.
        num_heads: Number of heads of the run's tasks.

    Raises:
        ValueError: An argument does not work with xlt.
    """
    key, (arguments, method, period) = "trainer.strategy", ddp_settings(strategy)
    require(
        method == "popen",
        f"{key}.start_method",
        method,
        "be popen, because scores of other start methods are lost",
    )
    require(
        period is None, f"{key}.model_averaging_period", period, "stay unset, because DDP averages gradients"
    )
    defaults = signature(DistributedDataParallel.__init__).parameters
    for name, value in arguments.items():
        fits = name in DDP_ARGUMENTS or (name in defaults and value == defaults[name].default)
        require(fits, f"{key}.{name}", value, f"stay unset; a config may set {', '.join(DDP_ARGUMENTS)}")
    if num_heads > 1 and given == "ddp_find_unused_parameters_false":
        raise ValueError(
            f"{key} is {given}, but data.tasks have {num_heads} heads, and a step trains one of them: set "
            f"{key} to ddp"
        )
    # The parser passes torch's default, false, to a DDPStrategy that is named as a class.
    if given != "ddp_find_unused_parameters_false":
        arguments["find_unused_parameters"] = True


def _default(key: str) -> Any:
    """Return the Trainer's default of a key."""
    return DEFAULTS.get(key, signature(Trainer.__init__).parameters[key].default)
