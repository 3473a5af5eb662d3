"""What a study consists of: every run of phases 2 and 3 and every evaluation, each named by its content.

A node is one call of xlt.fit or xlt.evaluate. Its name ends with a hash of its settings, of what it begins
with and of the encoder's weights: studies that share nodes share their folders, and a finished one is not run
again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from xlt.evaluation.scores import hash_of
from xlt.kinds.task import name_of
from xlt.studies.design.configs import Settings, content, counted, in_steps, merged, read_config, shares
from xlt.studies.design.targets import NONE, check_head, check_targets, config_of
from xlt.system.checks import require
from xlt.system.folders import model_folder
from xlt.tasks import load

Phase = Literal["intermediate", "target", "evaluate"]

NAME = re.compile(r"\w[\w.+-]*")
"""What is fit for the name of a folder."""

SECTIONS = ("model", "data", "trainer", "checkpoints", "preemption", "wandb")
"""Keys of xlt.fit that hold others."""


class Replicate(NamedTuple):
    """An arm, its volume, the seed of phase 2 and that of phase 3."""

    arm: str
    volume: int | None
    seed: int
    target_seed: int


@dataclass(frozen=True)
class Node:
    """One run or evaluation.

    Args:
        phase: What it is.
        name: Name of its folder.
        settings: The keys of its config, nested.
        parents: Names of the nodes that it begins with.
        arm: Name of the intermediate training, or none.
        volume: Examples of intermediate training asked for, in all; None for all there are.
        seed: Of phase 2.
        target_seed: Of phase 3; of the replicate where nothing is fine-tuned.
        targets: Names of the targets that it trains or tests; empty in phase 2.
    """

    phase: Phase
    name: str
    settings: Settings
    parents: tuple[str, ...]
    arm: str
    volume: int | None
    seed: int
    target_seed: int
    targets: tuple[str, ...] = ()

    @property
    def checkpoint(self) -> int | None:
        """The step of the checkpoint that it tests; None for the best, and where nothing is tested."""
        return self.settings.get("checkpoint")

    @property
    def verb(self) -> str:
        """The module that runs it."""
        return "xlt.evaluate" if self.phase == "evaluate" else "xlt.fit"


@dataclass(frozen=True)
class Study:
    """Intermediate tasks × volumes × seeds → targets × seeds → evaluation in every language.

    Args:
        name: The study's name.
        encoder: What everything begins with: a name on the hub, or a folder.
        intermediate: Name of each arm to the config of xlt.fit that trains it; none is always there.
        volumes: Labelled examples of intermediate training, those of all of an arm's tasks together; null for
            all there are. A smaller volume is a subset of a larger one. Each language of a translated task
            has as many; text without labels is beside them, as much as its config says.
        seeds: Of the replicates; an arm's replicate is paired with that of none.
        targets: Name of each XTREME task to the config that fine-tunes it; to the name of another target
            whose run it is tested with; or to null where nothing is trained.
        steps: Optimizer steps of phase 2 by volume; those of the arm's config where a volume is not named.
            The warm-up and the validations keep their share of the steps.
        num_target_seeds: Fine-tunings of each run of phase 2.
        selection: Target to the number of its checkpoints, evenly spaced, that are tested on the
            development and the test rows of every language, for the selection gap. Each run keeps them all.
        folder: Where nodes and studies go; studies in one folder share their nodes, and their data: nodes are
            not named by data.root or root, so other data want another folder.
        fit: Keys of xlt.fit for both phases, nested, over those of the configs.
        fit_intermediate: The same for phase 2 alone.
        fit_target: The same for phase 3 alone.
        evaluate: Keys of xlt.evaluate.
        words: What the study can and cannot say, for its report.
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
        """Refuse what cannot be meant."""
        for key in ("intermediate", "volumes", "seeds", "targets"):
            require(bool(getattr(self, key)), key, getattr(self, key), "name at least one")
        for key in ("volumes", "seeds"):
            require(
                len(set(getattr(self, key))) == len(getattr(self, key)), key, getattr(self, key), "differ"
            )
        require(NONE not in self.intermediate, "intermediate", NONE, "leave out none, which is always there")
        require(
            all(v is None or v >= 1 for v in self.volumes), "volumes", self.volumes, "be 1 example or more"
        )
        unknown = sorted(set(self.steps) - set(self.volumes))
        require(not unknown, "steps", self.steps, f"name volumes of the study, which {unknown} are not")
        require(self.num_target_seeds >= 1, "num_target_seeds", self.num_target_seeds, "be at least 1")
        for target, count in self.selection.items():
            require(
                target in self.targets and self.targets[target] not in (None, *self.targets),
                "selection",
                target,
                "be a target of the study that is fine-tuned",
            )
            require(
                not load(target).only_test, "selection", target, "be a task with development and test rows"
            )
            require(count >= 2, f"selection {target}", count, "be at least 2 checkpoints")
        for key, names in (("name", [self.name]), ("intermediate", self.intermediate)):
            for name in names:
                fits = NAME.fullmatch(name) is not None
                require(fits, key, name, "be fit for the name of a folder: letters, digits, - _ and .")
        require(all(seed >= 0 for seed in self.seeds), "seeds", self.seeds, "be 0 or more")
        require(all(steps >= 1 for steps in self.steps.values()), "steps", self.steps, "be 1 or more")
        check_targets(self.targets)
        for key in ("fit", "fit_intermediate", "fit_target"):
            for section, keys in getattr(self, key).items():
                fits = section not in SECTIONS or isinstance(keys, Mapping)
                require(fits, f"{key}.{section}", keys, "hold keys of xlt.fit, not a value")

    @property
    def own_folder(self) -> Path:
        """Where the study's plan, scores and report go."""
        return self.folder / "studies" / self.name

    @cached_property
    def uses(self) -> list[Node]:
        """Every node as often as the study uses it: what all replicates share has each one's seed in turn."""
        return list(_nodes(self))

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every node by its name, parents first."""
        found: dict[str, Node] = {}
        for use in self.uses:
            found.setdefault(use.name, use)
        return found


def _nodes(study: Study) -> Iterator[Node]:
    """Every node, parents first."""
    make = _Maker(study)
    for seed in study.seeds:
        yield from make.replicate(NONE, None, seed, None)
        for arm in study.intermediate:
            for volume in study.volumes:
                start = make.intermediate(arm, volume, seed)
                yield start
                yield from make.replicate(arm, volume, seed, start)


class _Maker:
    """Makes nodes from a study's settings.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        model_folder(study.encoder)
        self._encoder = hash_of(study.encoder)
        self._configs = {path: read_config(path) for path in self._paths()}
        for target in study.targets:
            path = config_of(study.targets, target)
            if path is not None:
                check_head(target, path, self._configs[path]["data"]["tasks"])

    def _paths(self) -> set[str]:
        """The configs that the study names."""
        study = self._study
        runs = {run for run in study.targets.values() if run and run not in study.targets}
        return {*study.intermediate.values(), *runs}

    def intermediate(self, arm: str, volume: int | None, seed: int) -> Node:
        """A run of phase 2."""
        study = self._study
        config = merged(self._configs[study.intermediate[arm]], study.fit, study.fit_intermediate)
        tasks = counted(config["data"]["tasks"])
        if volume is not None:
            require(volume >= len(tasks), "volumes", volume, f"be at least 1 example for each task of {arm}")
        each = None if volume is None else dict(shares(tasks, volume))
        if volume in study.steps:
            config = in_steps(config, study.steps[volume])
        own = {"seed_everything": seed, "model": {"encoder": study.encoder}, "data": {"volume": each}}
        wandb = {"wandb": {"group": study.name, "job_type": "intermediate"}}
        label = f"{arm}-{'all' if volume is None else volume}-s{seed}"
        return self._node(
            "intermediate", label, merged(config, own, wandb), (), Replicate(arm, volume, seed, seed)
        )

    def replicate(self, arm: str, volume: int | None, seed: int, start: Node | None) -> Iterator[Node]:
        """The fine-tunings that begin with a run of phase 2, or with the encoder, and their evaluations."""
        study = self._study
        untrained = tuple(name for name, run in study.targets.items() if run is None)
        label = start.name.removeprefix("intermediate-").rpartition("-")[0] if start else f"{NONE}-s{seed}"
        shared = label if start else NONE
        parents = (start.name,) if start else ()
        if untrained:
            of = Replicate(arm, volume, seed, seed)
            tested = {"encoder": self._start(start), "tasks": list(untrained)}
            yield self._evaluation(f"{shared}-retrieval", tested, parents, of, untrained)
        for k in range(study.num_target_seeds):
            of = Replicate(arm, volume, seed, seed + 1000 * k)
            for target, run in study.targets.items():
                if run and run not in study.targets:
                    yield from self._target(target, f"{label}-{target}-t{of.target_seed}", start, of)

    def _target(self, target: str, label: str, start: Node | None, of: Replicate) -> Iterator[Node]:
        """A fine-tuning, and the evaluation of the targets that its run tests."""
        study = self._study
        config = merged(self._configs[str(study.targets[target])], study.fit, study.fit_target)
        own: dict[str, Any] = {"seed_everything": of.target_seed, "model": {"encoder": self._start(start)}}
        period = self._period(target, config)
        if period:
            own["checkpoints"] = {"keep_every_n_steps": period}
        wandb = {"wandb": {"group": study.name, "job_type": "target"}}
        parents = (start.name,) if start else ()
        node = self._node("target", label, merged(config, own, wandb), parents, of, (target,))
        yield node
        tested = (target, *(name for name, run in study.targets.items() if run == target))
        runs = {"runs": [str(study.folder / node.name)], "tasks": list(tested)}
        yield self._evaluation(label, runs, (node.name,), of, tested)
        yield from self._selection(target, label, node, period, of)

    def _period(self, target: str, config: Settings) -> int | None:
        """Steps between the checkpoints that selection is measured over; None where it is not."""
        count, steps = self._study.selection.get(target), config["trainer"]["max_steps"]
        if count is None:
            return None
        require(count <= steps, f"selection {target}", count, f"be at most the {steps} steps of its config")
        return steps // count

    def _selection(
        self, target: str, label: str, node: Node, period: int | None, of: Replicate
    ) -> Iterator[Node]:
        """The evaluations of a run's checkpoints on both splits, the rows as they are."""
        for number in range(self._study.selection.get(target, 0)):
            step = (number + 1) * (period or 0)
            own = {"runs": [str(self._study.folder / node.name)], "tasks": [target], "checkpoint": step}
            for split in ("validation", "test"):
                tested = {**own, "split": split, "perturbations": []}
                yield self._evaluation(f"{label}-step{step}-{split}", tested, (node.name,), of, (target,))

    def _evaluation(
        self,
        label: str,
        own: Settings,
        parents: tuple[str, ...],
        of: Replicate,
        targets: tuple[str, ...],
    ) -> Node:
        """An evaluation, with what the study says of the tasks that are tested in it."""
        job = "selection" if "checkpoint" in own else "evaluate"
        wandb = {"wandb": {"group": self._study.name, "job_type": job}}
        settings = merged(self._study.evaluate, own, wandb)
        for key in ("split", "layer", "perturbations"):
            if isinstance(settings.get(key), Mapping):
                known = {name_of(target) for target in targets}
                settings[key] = {k: value for k, value in settings[key].items() if name_of(k) in known}
        return self._node("evaluate", label, settings, parents, of, targets)

    def _start(self, node: Node | None) -> str:
        """What the next phase begins with."""
        return str(self._study.folder / node.name) if node else self._study.encoder

    def _node(
        self,
        phase: Phase,
        label: str,
        settings: dict[str, Any],
        parents: tuple[str, ...],
        of: Replicate,
        targets: tuple[str, ...] = (),
    ) -> Node:
        """A node with its name and its folder."""
        digest = hashlib.sha256(
            json.dumps([content(phase, settings), parents, self._encoder], sort_keys=True).encode()
        )
        name = f"{phase}-{label}-{digest.hexdigest()[:10]}"
        folder = str(self._study.folder / name)
        if phase == "evaluate":
            settings["out"] = folder
            # All evaluations of a study mix the same phrases; the digest has the study's encoder already.
            settings.setdefault("aligner", self._study.encoder)
        else:
            settings["trainer"] = {**settings["trainer"], "default_root_dir": folder}
        return Node(phase, name, settings, parents, *of, targets=targets)
