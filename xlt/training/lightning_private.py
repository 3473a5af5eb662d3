"""Private parts of Lightning, read in version 2.6.6: the only module of xlt that touches them."""

from typing import Any, NamedTuple

from lightning import Trainer
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy


def cluster_environment(trainer: Trainer) -> ClusterEnvironment:
    """Return the environment that the processes were started in; strategies on one device do not have it."""
    return trainer._accelerator_connector.cluster_environment


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep the Trainer from installing signal handlers: Lightning's wait for the other ranks, which hangs."""
    trainer._signal_connector.register_signal_handlers = lambda: None


class DDPSettings(NamedTuple):
    """A DDP strategy's settings."""

    arguments: dict[str, Any]
    """Keyword arguments of torch's DistributedDataParallel; the strategy uses changes to this dictionary."""
    start_method: str
    """`popen`, or a method of multiprocessing."""
    model_averaging_period: int | None
    """Steps between averages of the ranks' weights; None if gradients are averaged."""


def ddp_settings(strategy: DDPStrategy) -> DDPSettings:
    """Return the strategy's settings."""
    return DDPSettings(strategy._ddp_kwargs, strategy._start_method, strategy._model_averaging_period)
