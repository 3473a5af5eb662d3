"""Checks how a run was launched, and bounds the wait until all of its processes are there."""

import os
import socket
import threading
import time
from datetime import timedelta

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from xlt.system.signals import Watch, launcher_of
from xlt.training.lightning_private import cluster_environment

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")

RANKS: dict[type[ClusterEnvironment], tuple[str, ...]] = {
    TorchElasticEnvironment: ("RANK", "LOCAL_RANK"),
    SLURMEnvironment: ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
}
"""Variables in which a launcher says which process this one is."""


def check_launch(trainer: Trainer) -> None:
    """Refuse a launch whose processes could not train together.

    Raises:
        ValueError: The launcher has started another number of processes than the config asks for, or a
            variable by which the processes find each other is missing or wrong.
    """
    # The connector has the environment for every strategy; the strategies have it where they are parallel.
    environment = cluster_environment(trainer)
    devices, nodes = trainer.num_devices, trainer.num_nodes
    name = "SLURM_NTASKS" if isinstance(environment, SLURMEnvironment) else "WORLD_SIZE"
    started = _started(environment, name)
    if started is not None and started != devices * nodes:
        raise ValueError(
            f"{name} is {started}: the launcher has started {started} processes, but trainer.devices is "
            f"{devices} and trainer.num_nodes is {nodes}, which makes {devices * nodes}. Set the two keys to "
            "the processes of a node and the number of nodes, or let the launcher start as many processes"
        )
    if devices * nodes > 1:
        _check_variables(environment, nodes)
        _check_rank(environment, devices, nodes)


def _started(environment: ClusterEnvironment, name: str) -> int | None:
    """Processes that the launcher has started; None where Lightning itself starts them."""
    if isinstance(environment, LightningEnvironment):
        return _number(name) if name in os.environ else None
    try:
        return environment.world_size()
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"the launcher ({type(environment).__name__}) does not say how many processes it has started: "
            f"{name} is {os.environ.get(name)!r} ({error}). Set it, or start the run without a launcher"
        ) from error


def _number(name: str) -> int:
    """The variable's whole number."""
    value = os.environ[name]
    if not value.strip().isdigit():
        raise ValueError(f"{name} is {value!r}: it must be a whole number, or be left out")
    return int(value)


def _check_variables(environment: ClusterEnvironment, nodes: int) -> None:
    """Raise ValueError for variables without which a process would wait for ever."""
    needed: list[str] = []
    if isinstance(environment, LightningEnvironment):
        if nodes > 1 or environment.creates_processes_externally:
            needed += ADDRESS
        if nodes > 1 and "GROUP_RANK" not in os.environ:
            needed.append("NODE_RANK")
    elif isinstance(environment, TorchElasticEnvironment):
        needed += (*RANKS[TorchElasticEnvironment], *ADDRESS)
    else:
        needed += RANKS.get(type(environment), ())
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: the processes cannot find "
            "each other. Give every node MASTER_ADDR and MASTER_PORT, an address and a free port of the "
            "first node, and NODE_RANK, its number from 0 on, or start them with torchrun or srun"
        )


def _check_rank(environment: ClusterEnvironment, devices: int, nodes: int) -> None:
    """Raise ValueError where this process would take another one's place."""
    if not isinstance(environment, LightningEnvironment):
        return
    name = "NODE_RANK" if "NODE_RANK" in os.environ else "GROUP_RANK"
    node = _number(name) if name in os.environ else 0
    if node >= nodes:
        raise ValueError(
            f"{name} is {node}: it must lie in 0 to {nodes - 1}, for trainer.num_nodes is {nodes}"
        )
    rank = node * devices + environment.local_rank()
    # Lightning's own processes inherit the variable of the one that starts them.
    if "RANK" in os.environ and not launcher_of() and _number("RANK") != rank:
        raise ValueError(
            f"RANK is {os.environ['RANK']}, but by NODE_RANK ({node}) and LOCAL_RANK "
            f"({environment.local_rank()}) this is process {rank}: set those two, or start the processes "
            "with torchrun"
        )


class Gathering:
    """Ends this process where the others of the run do not come.

    Every process writes its number into the store of the first one, so that each knows who is missing.

    Args:
        trainer: Of the run, before it starts.
        watch: Ends this process.
        limit: Longest wait in seconds.
    """

    def __init__(self, trainer: Trainer, watch: Watch, limit: float) -> None:
        self._watch, self._limit = watch, limit
        self._rank, self._devices = trainer.global_rank, trainer.num_devices
        self._world_size = trainer.world_size
        if trainer.world_size > 1 and hasattr(trainer.strategy.launcher, "procs"):
            environment = cluster_environment(trainer)
            self._address = environment.main_address, environment.main_port
            threading.Thread(target=self._run, name="gathering", daemon=True).start()

    def _run(self) -> None:
        """Wait until torch has connected the processes, or the time is over."""
        until, store = time.monotonic() + self._limit, None
        while not torch.distributed.is_initialized():
            try:
                store = store or self._register()
                missing = [n for n in range(self._world_size) if not (store and store.check([_key(n)]))]
            except RuntimeError:
                store, missing = None, []
            if time.monotonic() > until and not torch.distributed.is_initialized():
                self._watch.leave(2, self._reason(missing if store else [0]))
            time.sleep(0.2)

    def _register(self) -> TCPStore | None:
        """Write down that this process is there; None where the first process does not answer yet."""
        try:
            socket.create_connection(self._address, 1.0).close()
        except OSError:
            return None
        host, port = self._address
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
        store.add(_key(self._rank), 1)
        return store

    def _reason(self, missing: list[int]) -> str:
        """Say which processes are missing, and how to bring them."""
        where = "{}:{}".format(*self._address)
        if not missing:
            return (
                f"after {self._limit:g} s the processes are all there, but cannot connect to each other: set "
                "GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME to the network interface between them"
            )
        named = ", ".join(f"{number} (node {number // self._devices})" for number in missing)
        return (
            f"after {self._limit:g} s {len(missing)} of {self._world_size} processes are missing at {where}: "
            f"{named}. Start them with the same MASTER_ADDR and MASTER_PORT, see that the nodes reach that "
            "address, or raise preemption.start_limit"
        )


def _key(rank: int) -> str:
    """Return the store's key of a process that is there."""
    return f"xlt/here/{rank}"
