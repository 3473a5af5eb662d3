"""Settings sections of a config. A field is a key, and its documentation is the help of the command line."""

from dataclasses import dataclass


@dataclass
class CheckpointSettings:
    """Checkpoints: when a run saves them, and which ones it keeps.

    Args:
        every_n_steps: Optimizer steps between two checkpoints. Must be at least 1. Defaults to 500.
        keep_last: Number of newest checkpoints to keep; the best checkpoint is always kept too. Must be at
            least 1. Defaults to 2.
        keep_every_n_steps: Save a checkpoint every this many optimizer steps, and never delete it. Must be at
            least 1. Defaults to no such checkpoints.
    """

    every_n_steps: int = 500
    keep_last: int = 2
    keep_every_n_steps: int | None = None


@dataclass
class PreemptionSettings:
    """Stop of a run after SIGTERM, SIGUSR1 or Ctrl-C, and timeouts between ranks.

    Args:
        check_every_n_steps: Optimizer steps between two checks for a signal on any rank. A larger value saves
            communication and delays the stop. Must be at least 1. Defaults to 1.
        grace_seconds: Grace period in seconds. It applies separately to the time from a signal to the end of
            training, to the rest of the shutdown, and to a missing heartbeat of another rank. Must be above 0
            and longer than a validation and a save take. Defaults to 120.
        start_limit: Maximum number of seconds that a rank waits at the start until all other ranks are
            connected. Must be above 0. Defaults to 300.
    """

    check_every_n_steps: int = 1
    grace_seconds: float = 120.0
    start_limit: float = 300.0


@dataclass
class WandbSettings:
    """Labels of the run at Weights & Biases. The variable WANDB_MODE=disabled turns Weights & Biases off.

    Args:
        project: Name of the W&B project. Defaults to xlt.
        group: Name of the W&B group, such as the name of a study. Defaults to the name of the run's folder.
        job_type: W&B job type, the phase of the run: pretrain, intermediate, target, or another word.
        tags: W&B tags, such as [baseline, ablation]. Defaults to no tags.
    """

    project: str = "xlt"
    group: str | None = None
    job_type: str = "intermediate"
    tags: list[str] | None = None
