"""Check of how a run was launched, and time limit for the connection of its ranks."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from xlt.system.signals import SignalWatcher, launcher_pid
from xlt.training.lightning_private import cluster_environment

ADDRESS = ("MASTER_ADDR", "MASTER_PORT")
"""Variables with the address of rank 0."""

PLACES = (*ADDRESS, "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Variables that Lightning sets in the process that starts the others."""

RANKS: dict[type[ClusterEnvironment], tuple[str, ...]] = {
    TorchElasticEnvironment: ("RANK", "LOCAL_RANK"),
    SLURMEnvironment: ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
}
"""Launcher → variables in which the launcher tells a process its rank."""


@contextmanager
def places_restored() -> Iterator[None]:
    """Give the variables that Lightning sets their former values when the block ends.

    Another run of the same process would take them for a launcher's, and wait for ranks that nobody starts.
    """
    before = {name: os.environ[name] for name in PLACES if name in os.environ}
    try:
        yield
    finally:
        for name in PLACES:
            os.environ.pop(name, None)
        os.environ.update(before)


def check_launch(trainer: Trainer) -> None:
    """Refuse a launch whose ranks cannot train together.

    Args:
        trainer: The run's Trainer.

    Raises:
        ValueError: The launcher has started another number of processes than the config asks for, or a
            variable by which the ranks find each other is missing or wrong.
    """
    environment = cluster_environment(trainer)
    devices, nodes = trainer.num_devices, trainer.num_nodes
    name = "SLURM_NTASKS" if isinstance(environment, SLURMEnvironment) else "WORLD_SIZE"
    started = _started(environment, name)
    if started is not None and started != devices * nodes:
        raise ValueError(
            f"{name} is {started}: the launcher has started {started} processes, but trainer.devices is "
            f"{devices} and trainer.num_nodes is {nodes}, which makes {devices * nodes}. Set the two keys to "
            f"the processes per node and the number of nodes, or start {devices * nodes} processes"
        )
    if devices * nodes > 1:
        _check_variables(environment, nodes)
        _check_rank(environment, devices, nodes)


def _started(environment: ClusterEnvironment, name: str) -> int | None:
    """Return the number of processes that the launcher has started, or None if Lightning starts them."""
    if isinstance(environment, LightningEnvironment):
        return _number(name) if name in os.environ else None
    try:
        return environment.world_size()
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"the launcher ({type(environment).__name__}) does not say how many processes it has started: "
            f"{name} is {os.environ.get(name)!r} ({error}). Set {name}, or start the run without a launcher"
        ) from error


def _number(name: str) -> int:
    """Return the value of a variable, a whole number."""
    value = os.environ[name]
    if not value.strip().isdigit():
        raise ValueError(f"{name} is {value!r}: it must be a whole number, or be unset")
    return int(value)


def _check_variables(environment: ClusterEnvironment, nodes: int) -> None:
    """Raise ValueError if a variable is missing without which a rank would wait forever."""
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
            "each other. On every node set MASTER_ADDR and MASTER_PORT to an address and a free port of the "
            "first node, and NODE_RANK to the node's number from 0 on, or use torchrun or srun"
        )


def _check_rank(environment: ClusterEnvironment, devices: int, nodes: int) -> None:
    """Raise ValueError if the variables give this process a wrong rank."""
    if not isinstance(environment, LightningEnvironment):
        return
    name = "NODE_RANK" if "NODE_RANK" in os.environ else "GROUP_RANK"
    node = _number(name) if name in os.environ else 0
    if node >= nodes:
        raise ValueError(
            f"{name} is {node}: it must be 0 to {nodes - 1}, because trainer.num_nodes is {nodes}"
        )
    rank = node * devices + environment.local_rank()
    # Processes that Lightning starts inherit the variable of their launcher.
    if "RANK" in os.environ and not launcher_pid() and _number("RANK") != rank:
        raise ValueError(
            f"RANK is {os.environ['RANK']}, but by NODE_RANK ({node}) and LOCAL_RANK "
            f"({environment.local_rank()}) this is rank {rank}: correct NODE_RANK and LOCAL_RANK, or start "
            "the processes with torchrun"
        )


class RendezvousTimeout:
    """Thread that ends this process if the other ranks of the run do not connect in time.

    Every rank writes its number into the store of rank 0, so that each rank knows which ones are missing.

    Args:
        trainer: The run's Trainer, before training starts.
        watcher: Ends this process.
        limit: Maximum number of seconds to wait.
    """

    def __init__(self, trainer: Trainer, watcher: SignalWatcher, limit: float) -> None:
        self._watcher, self._limit = watcher, limit
        self._rank, self._devices = trainer.global_rank, trainer.num_devices
        self._world_size = trainer.world_size
        if trainer.world_size > 1 and hasattr(trainer.strategy.launcher, "procs"):
            environment = cluster_environment(trainer)
            self._address = environment.main_address, environment.main_port
            threading.Thread(target=self._run, name="rendezvous", daemon=True).start()

    def _run(self) -> None:
        """Wait until torch has connected the ranks, or the time is over."""
        until, store = time.monotonic() + self._limit, None
        while not torch.distributed.is_initialized():
            try:
                store = store or self._register()
                missing = [n for n in range(self._world_size) if not (store and store.check([_key(n)]))]
            except RuntimeError:
                store, missing = None, []
            if time.monotonic() > until and not torch.distributed.is_initialized():
                self._watcher.exit_process(2, self._reason(missing if store else [0]))
            time.sleep(0.2)

    def _register(self) -> TCPStore | None:
        """Write this rank into the store. Return None if rank 0 does not answer yet."""
        try:
            socket.create_connection(self._address, 1.0).close()
        except OSError:
            return None
        host, port = self._address
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5))
        store.add(_key(self._rank), 1)
        return store

    def _reason(self, missing: list[int]) -> str:
        """Return an error message that names the missing ranks."""
        where = "{}:{}".format(*self._address)
        if not missing:
            return (
                f"after {self._limit:g} s all processes have started, but they cannot connect to each other: "
                "set GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME to the network interface between the nodes"
            )
        named = ", ".join(f"{number} (node {number // self._devices})" for number in missing)
        return (
            f"after {self._limit:g} s {len(missing)} of {self._world_size} processes are missing at {where}: "
            f"{named}. Start them with the same MASTER_ADDR and MASTER_PORT, check that every node reaches "
            "this address, or raise preemption.start_limit"
        )


def _key(rank: int) -> str:
    """Return the store's key of a rank that has started."""
    return f"xlt/here/{rank}"
