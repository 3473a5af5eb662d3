"""The plan of a study: every run of phases 2 and 3 and every evaluation, each named by its content.

A node is one call of xlt fit or xlt evaluate. Its name ends with a hash of its settings, its parents and the
encoder's weights. Studies in one folder share the nodes that they have in common, and a finished node is
never run again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from xlt.config.folder_name import escaped
from xlt.kinds.task import name_of
from xlt.studies.design.configs import (
    Settings,
    counted_tasks,
    defining_settings,
    merge,
    read_config,
    scale_steps,
    split_volume,
)
from xlt.studies.design.nodes import NONE, Node, Phase, Replicate
from xlt.studies.design.targets import check_head, check_selection, check_targets, config_for
from xlt.system.checks import require
from xlt.system.folders import model_folder
from xlt.system.hashing import hash_of

FOLDER_NAME = re.compile(r"\w[\w.+-]*")
"""Allowed names of folders."""

SECTIONS = ("model", "data", "trainer", "checkpoints", "preemption", "wandb")
"""Keys of xlt fit whose values are mappings of further keys."""


@dataclass(frozen=True)
class Study:
    """Intermediate tasks × volumes × seeds → targets × seeds → evaluation in every language.

    Args:
        name: Name of the study; a valid folder name. Example: mini.
        encoder: Encoder that every run starts from: a name on the Hugging Face hub, or a folder.
        intermediate: Maps the name of each arm to the config of xlt fit that trains it. The arm "none",
            without intermediate training, is always added. Example: {mnli: configs/intermediate/mnli.yaml}.
        volumes: Numbers of labelled training examples of phase 2, summed over an arm's tasks; null means all
            examples. A smaller volume is a subset of a larger one. Each language of a translated task has the
            same number. Text without labels is not counted: its config sets its amount. Example: [1000,
            10000, null].
        seeds: Seeds of the replicates, 0 or more. Each replicate of an arm is compared with the replicate of
            "none" that has the same seed. Example: [0, 1, 2].
        targets: Maps each XTREME task to the config that fine-tunes it, to another target whose run tests it,
            or to null if the task needs no training. Example: {xquad: configs/target/xquad.yaml, mlqa: xquad,
            tatoeba: null}.
        steps: Optimizer steps of phase 2 for each volume. A volume that is not named uses the steps of the
            arm's config. Warm-up and validation interval scale with the steps. Example: {1000: 300, 10000:
            1500}.
        num_target_seeds: Number of fine-tuning runs after each run of phase 2. Must be at least 1.
        selection: Maps a target to its number of evenly spaced checkpoints, at least 2, that are tested on
            the development and test rows of every language for the selection gap. Each run of the target
            keeps these checkpoints. Example: {xnli: 4}.
        folder: Folder for the nodes and the studies. Studies in one folder share their nodes and must use the
            same data: data.root and root do not enter the names of nodes.
        fit: Nested keys of xlt fit for phases 2 and 3. They override the configs.
        fit_intermediate: Nested keys of xlt fit for phase 2. They override `fit`.
        fit_target: Nested keys of xlt fit for phase 3. They override `fit`.
        evaluate: Keys of xlt evaluate.
        words: Sentences for the report: what the study can and cannot show.
    """

    name: str
    encoder: str
    intermediate: dict[str, str]
    volumes: list[int | None]
    seeds: list[int]
    targets: dict[str, str | None]
    steps: dict[int, int] = field(default_factory=dict)
    num_target_seeds: int = 1
    selection: dict[str, int] = field(default_factory=dict)
    folder: Path = Path("runs/study")
    fit: dict[str, Any] = field(default_factory=dict)
    fit_intermediate: dict[str, Any] = field(default_factory=dict)
    fit_target: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    words: str = ""

    def __post_init__(self) -> None:
        """Check the settings against each other."""
        for key in ("intermediate", "volumes", "seeds", "targets"):
            require(bool(getattr(self, key)), key, getattr(self, key), "name at least one")
        for key in ("volumes", "seeds"):
            require(
                len(set(getattr(self, key))) == len(getattr(self, key)),
                key,
                getattr(self, key),
                "not repeat a value",
            )
        require(NONE not in self.intermediate, "intermediate", NONE, "not name none, which every study has")
        require(
            all(v is None or v >= 1 for v in self.volumes), "volumes", self.volumes, "be 1 example or more"
        )
        unknown = sorted(set(self.steps) - set(self.volumes))
        require(not unknown, "steps", self.steps, f"name only volumes of the study, which has no {unknown}")
        require(self.num_target_seeds >= 1, "num_target_seeds", self.num_target_seeds, "be at least 1")
        check_selection(self.selection, self.targets)
        for key, names in (("name", [self.name]), ("intermediate", self.intermediate)):
            for name in names:
                fits = FOLDER_NAME.fullmatch(name) is not None
                require(fits, key, name, "be a valid folder name: letters, digits, - _ and .")
        require(all(seed >= 0 for seed in self.seeds), "seeds", self.seeds, "be 0 or more")
        require(all(steps >= 1 for steps in self.steps.values()), "steps", self.steps, "be 1 or more")
        check_targets(self.targets)
        for key in ("fit", "fit_intermediate", "fit_target"):
            for section, keys in getattr(self, key).items():
                fits = section not in SECTIONS or isinstance(keys, Mapping)
                require(fits, f"{key}.{section}", keys, "be a mapping of keys of xlt fit")

    @property
    def own_folder(self) -> Path:
        """Folder of the study's plan, scores and report."""
        return self.folder / "studies" / self.name

    @cached_property
    def node_uses(self) -> list[Node]:
        """Every use of a node: a node that all replicates share is listed once for each seed."""
        return list(_build_nodes(self))

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every node by its name, parents first."""
        found: dict[str, Node] = {}
        for node in self.node_uses:
            found.setdefault(node.name, node)
        return found


def _build_nodes(study: Study) -> Iterator[Node]:
    """Yield every use of a node, parents first."""
    builder = _NodeBuilder(study)
    for seed in study.seeds:
        yield from builder.replicate(NONE, None, seed, None)
        for arm in study.intermediate:
            for volume in study.volumes:
                start = builder.intermediate(arm, volume, seed)
                yield start
                yield from builder.replicate(arm, volume, seed, start)


class _NodeBuilder:
    """Builds the nodes of a study.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        model_folder(study.encoder)
        self._encoder_hash = hash_of(study.encoder)
        self._configs = {path: read_config(path) for path in self._config_paths()}
        for target in study.targets:
            path = config_for(study.targets, target)
            if path is not None:
                check_head(target, path, self._configs[path]["data"]["tasks"])

    def _config_paths(self) -> set[str]:
        """Return the paths of the configs that the study names."""
        study = self._study
        runs = {run for run in study.targets.values() if run and run not in study.targets}
        return {*study.intermediate.values(), *runs}

    def intermediate(self, arm: str, volume: int | None, seed: int) -> Node:
        """Return a run of phase 2."""
        study = self._study
        config = merge(self._configs[study.intermediate[arm]], study.fit, study.fit_intermediate)
        tasks = counted_tasks(config["data"]["tasks"])
        if volume is not None:
            require(volume >= len(tasks), "volumes", volume, f"be at least 1 example for each task of {arm}")
        volumes = None if volume is None else dict(split_volume(tasks, volume))
        if volume in study.steps:
            config = scale_steps(config, study.steps[volume])
        own = {"seed_everything": seed, "model": {"encoder": study.encoder}, "data": {"volume": volumes}}
        wandb = {"wandb": {"group": study.name, "job_type": "intermediate"}}
        label = f"{arm}-{'all' if volume is None else volume}-s{seed}"
        return self._node(
            "intermediate", label, merge(config, own, wandb), (), Replicate(arm, volume, seed, seed)
        )

    def replicate(self, arm: str, volume: int | None, seed: int, start: Node | None) -> Iterator[Node]:
        """Yield the fine-tuning runs of a replicate, and the evaluations of all its targets."""
        study = self._study
        untrained = tuple(name for name, run in study.targets.items() if run is None)
        label = start.name.removeprefix("intermediate-").rpartition("-")[0] if start else f"{NONE}-s{seed}"
        shared = label if start else NONE
        parents = (start.name,) if start else ()
        if untrained:
            replicate = Replicate(arm, volume, seed, seed)
            tested = {"encoder": self._encoder_after(start), "tasks": list(untrained)}
            yield self._evaluation(f"{shared}-retrieval", tested, parents, replicate, untrained)
        for number in range(study.num_target_seeds):
            replicate = Replicate(arm, volume, seed, seed + 1000 * number)
            for target, run in study.targets.items():
                if run and run not in study.targets:
                    name = f"{label}-{target}-t{replicate.target_seed}"
                    yield from self._target(target, name, start, replicate)

    def _target(self, target: str, label: str, start: Node | None, replicate: Replicate) -> Iterator[Node]:
        """Yield a fine-tuning run and the evaluations of the targets that it tests."""
        study = self._study
        config = merge(self._configs[str(study.targets[target])], study.fit, study.fit_target)
        own: dict[str, Any] = {
            "seed_everything": replicate.target_seed,
            "model": {"encoder": self._encoder_after(start)},
        }
        period = self._checkpoint_period(target, config)
        if period:
            own["checkpoints"] = {"keep_every_n_steps": period}
        wandb = {"wandb": {"group": study.name, "job_type": "target"}}
        parents = (start.name,) if start else ()
        node = self._node("target", label, merge(config, own, wandb), parents, replicate, (target,))
        yield node
        tested = (target, *(name for name, run in study.targets.items() if run == target))
        runs = {"runs": [str(study.folder / node.name)], "tasks": list(tested)}
        yield self._evaluation(label, runs, (node.name,), replicate, tested)
        yield from self._selection(target, label, node, period, replicate)

    def _checkpoint_period(self, target: str, config: Settings) -> int | None:
        """Return the steps between the checkpoints that a target keeps for the selection gap, or None."""
        count, steps = self._study.selection.get(target), config["trainer"]["max_steps"]
        if count is None:
            return None
        require(count <= steps, f"selection {target}", count, f"be at most the {steps} steps of its config")
        return steps // count

    def _selection(
        self, target: str, label: str, node: Node, period: int | None, replicate: Replicate
    ) -> Iterator[Node]:
        """Yield the evaluations of a run's checkpoints on both splits, on unchanged rows."""
        for number in range(self._study.selection.get(target, 0)):
            step = (number + 1) * (period or 0)
            own = {"runs": [str(self._study.folder / node.name)], "tasks": [target], "checkpoint": step}
            for split in ("validation", "test"):
                tested = {**own, "split": split, "perturbations": []}
                yield self._evaluation(
                    f"{label}-step{step}-{split}", tested, (node.name,), replicate, (target,)
                )

    def _evaluation(
        self,
        label: str,
        own: Settings,
        parents: tuple[str, ...],
        replicate: Replicate,
        targets: tuple[str, ...],
    ) -> Node:
        """Return an evaluation with the study's settings for the tasks that it tests."""
        job = "selection" if "checkpoint" in own else "evaluate"
        wandb = {"wandb": {"group": self._study.name, "job_type": job}}
        settings = merge(self._study.evaluate, own, wandb)
        for key in ("split", "layer", "perturbations"):
            if isinstance(settings.get(key), Mapping):
                known = {name_of(target) for target in targets}
                settings[key] = {k: value for k, value in settings[key].items() if name_of(k) in known}
        return self._node("evaluate", label, settings, parents, replicate, targets)

    def _encoder_after(self, node: Node | None) -> str:
        """Return the encoder that the next phase starts from: a run's folder or the study's encoder."""
        return str(self._study.folder / node.name) if node else self._study.encoder

    def _node(
        self,
        phase: Phase,
        label: str,
        settings: dict[str, Any],
        parents: tuple[str, ...],
        replicate: Replicate,
        targets: tuple[str, ...] = (),
    ) -> Node:
        """Return a node with its name and its folder."""
        digest = hashlib.sha256(
            json.dumps(
                [defining_settings(phase, settings), parents, self._encoder_hash], sort_keys=True
            ).encode()
        )
        name = f"{phase}-{label}-{digest.hexdigest()[:10]}"
        folder = str(self._study.folder / name)
        if phase == "evaluate":
            settings["out"] = folder
            # All evaluations of a study mix the same phrases; the digest has the study's encoder already.
            settings.setdefault("aligner", self._study.encoder)
        else:
            settings["trainer"] = {**settings["trainer"], "default_root_dir": escaped(folder)}
        return Node(phase, name, settings, parents, *replicate, targets=targets)
