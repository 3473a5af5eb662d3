"""Which of the Trainer's keys a config may set: none that would take other steps than the schedule's."""

from inspect import signature
from typing import Any

from jsonargparse import Namespace
from lightning import Trainer

from xlt.checks import require

WHOLE = {
    "limit_train_batches": "trainer.max_steps ends a run, data.volume limits the rows",
    "limit_val_batches": "data.validation_volume limits the validation rows",
    "overfit_batches": "data.volume limits the rows",
    "fast_dev_run": "set trainer.max_steps to a few steps",
    "barebones": "a run has its record and its checkpoints",
    "max_epochs": "trainer.max_steps is the number of steps",
    "min_steps": "trainer.max_steps is the number of steps",
    "max_time": "stop the run as you like, the same command continues it",
}
"""Trainer keys that would take other steps than the schedule's, and what to use in their place."""


def check_trainer_keys(config: Namespace) -> None:
    """Raise ValueError for Trainer keys that contradict how steps are counted here."""
    trainer = config.trainer
    require(
        trainer.max_steps > 0,
        "trainer.max_steps",
        trainer.max_steps,
        "be a number of optimizer steps, for the learning rate and the schedule depend on it",
    )
    require(
        trainer.accumulate_grad_batches == 1,
        "trainer.accumulate_grad_batches",
        trainer.accumulate_grad_batches,
        "stay 1: data.batches_per_step is the number of micro-batches in a step, on however many processes",
    )
    clip = trainer.gradient_clip_val
    require(clip is None or clip >= 0, "trainer.gradient_clip_val", clip, "be 0 or more")
    interval, every = trainer.val_check_interval, trainer.log_every_n_steps
    is_share = isinstance(interval, float) and 0 < interval <= 1
    fits = interval is None or is_share or (isinstance(interval, int) and interval > 0)
    rule = "be a whole number of steps, or a share of all of them above 0 and up to 1.0"
    require(fits, "trainer.val_check_interval", interval, rule)
    require(every > 0, "trainer.log_every_n_steps", every, "be at least 1 step")
    for key, instead in WHOLE.items():
        value = trainer[key]
        unset = value == _default(key) or (value == 1.0 and isinstance(value, float))
        require(unset, f"trainer.{key}", value, f"stay unset: {instead}")


def _default(key: str) -> Any:
    """What Lightning's Trainer has where the key is not given."""
    return signature(Trainer.__init__).parameters[key].default
