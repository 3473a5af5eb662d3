"""The plan of a study: every run of phases 2 and 3 and every evaluation, each named by its content.

A node is one call of xlt fit or xlt evaluate. Its name ends with a hash of its settings, its parents and the
encoder's weights. Studies in one folder share nodes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from xlt.config.folder_name import escaped
from xlt.studies.design import limits
from xlt.studies.design.command_keys import check_evaluation, check_sections
from xlt.studies.design.configs import (
    Settings,
    counted_tasks,
    merge,
    node_name,
    read_config,
    scale_steps,
    settings_for,
    split_volume,
)
from xlt.studies.design.images import (
    BLIND,
    blind_config,
    check_blind,
    perturbations_of,
    run_config,
    vision_hash,
)
from xlt.studies.design.nodes import NONE, Node, Phase, Replicate
from xlt.studies.design.recipes import DEFAULT, check_recipes, overridden
from xlt.studies.design.targets import (
    check_head,
    check_selection,
    check_targets,
    checkpoint_period,
    config_for,
)
from xlt.system.checks import require
from xlt.system.folders import model_folder
from xlt.system.hashing import hash_of


@dataclass(frozen=True)
class Study:
    """Runs of each intermediate task, volume and seed; fine-tuning on each target; scores in every language.

    Args:
        name: Name of the study; a valid folder name. Example: mini.
        encoder: Encoder that every run starts from: a name on the Hugging Face hub, or a folder.
        intermediate: Maps the name of each arm to the config of xlt fit that trains it. An arm is one kind of
            intermediate training. The arm "none", without intermediate training, is always added. Example:
            {mnli: configs/intermediate/mnli.yaml}.
        volumes: Numbers of labelled examples of intermediate training, summed over an arm's tasks; null means
            all. A smaller volume is a subset of a larger one. Each language of a translated task has the
            same number. Text without labels is not counted. Example: [1000, 10000, null].
        arm_volumes: Volumes of single arms, instead of `volumes`. Example: {mlm: [8000]}.
        seeds: Seeds, 0 or more. Each arm is trained at each volume with each seed, and compared with the runs
            of "none" that have the same seed. Example: [0, 1, 2].
        targets: Maps each task of XTREME or IGLUE to the config that fine-tunes it, to another target whose
            run tests it, or to null if the task needs no training. Example: {xquad:
            configs/target/xquad.yaml, mlqa: xquad, tatoeba: null}.
        steps: Optimizer steps of intermediate training by volume. Other volumes use the steps of the arm's
            config. Warm-up and validation interval scale with the steps. Example: {1000: 300}.
        num_target_seeds: Number of fine-tuning runs after each run of intermediate training, at least 1.
        selection: Maps a target to its number of evenly spaced checkpoints, at least 2, that are tested on
            the development and test rows of every language for the selection gap. Each run of the target
            keeps these checkpoints. Example: {xnli: 4}.
        blind: Targets with images that are also trained and tested without images, for the image gain: the
            score minus the score without images. Example: [xvnli].
        folder: Folder for the nodes and the studies. Studies in one folder share their nodes and must use the
            same data: data.root and root do not enter the names of nodes.
        fit: Nested keys of xlt fit for all training runs. They override the configs.
        fit_intermediate: Nested keys of xlt fit for intermediate training. They override `fit`.
        fit_target: Nested keys of xlt fit for fine-tuning on the targets. They override `fit`.
        evaluate: Keys of xlt evaluate.
        recipes: Further recipes, to see if effects depend on the encoder or on how it is trained. Maps a name
            to keys that override those of the study: encoder, fit, fit_intermediate, fit_target. Each recipe
            is run with every arm, volume and seed, and tested on unperturbed rows. Example: {slow:
            {fit_target: {model: {learning_rate: 1.0e-5}}}}.
        words: Sentences for the report: what the study can show, and what a reader must not conclude.
        margin: Margin of equivalence in points of the score, above 0: the largest effect that counts as none.
    """

    name: str
    encoder: str
    intermediate: dict[str, str]
    volumes: list[int | None]
    seeds: list[int]
    targets: dict[str, str | None]
    arm_volumes: dict[str, list[int | None]] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    num_target_seeds: int = 1
    selection: dict[str, int] = field(default_factory=dict)
    blind: list[str] = field(default_factory=list)
    folder: Path = Path("runs/study")
    fit: dict[str, Any] = field(default_factory=dict)
    fit_intermediate: dict[str, Any] = field(default_factory=dict)
    fit_target: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: str = ""
    margin: float = 2.0

    def __post_init__(self) -> None:
        """Check the settings against each other."""
        for key in ("intermediate", "volumes", "seeds", "targets"):
            require(bool(getattr(self, key)), key, getattr(self, key), "name at least one")
        limits.check_names(self.name, self.intermediate)
        limits.check_replicates(self.volumes, self.seeds)
        limits.check_arm_volumes(self.arm_volumes, self.intermediate)
        limits.check_steps(self.steps, chain(self.volumes, *self.arm_volumes.values()))
        require(self.num_target_seeds >= 1, "num_target_seeds", self.num_target_seeds, "be at least 1")
        require(self.margin > 0, "margin", self.margin, "be above 0 points")
        check_selection(self.selection, self.targets)
        check_targets(self.targets)
        check_blind(self.blind, self.targets)
        check_recipes(self.recipes, self.targets)
        for key in ("fit", "fit_intermediate", "fit_target"):
            check_sections(key, getattr(self, key))
        check_evaluation(self.evaluate)

    @property
    def own_folder(self) -> Path:
        """Folder of the study's plan, scores and report."""
        return self.folder / "studies" / self.name

    @cached_property
    def variants(self) -> Mapping[str, "Study"]:
        """A study for each recipe; this study is that of the default recipe."""
        trained = {name: run for name, run in self.targets.items() if run}
        clean = {key: value for key, value in self.evaluate.items() if key != "perturbations"}
        own = {"recipes": {}, "selection": {}, "blind": [], "targets": trained, "evaluate": clean}
        made = {name: overridden(vars(self), keys) for name, keys in self.recipes.items()}
        return {DEFAULT: self} | {name: replace(self, **own, **keys) for name, keys in made.items()}

    @cached_property
    def node_uses(self) -> list[Node]:
        """Every use of a node with the default recipe; all replicates may share a node."""
        return list(_build_nodes(self))

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Every node of all recipes by its name, parents first."""
        found: dict[str, Node] = {}
        for node in chain.from_iterable(variant.node_uses for variant in self.variants.values()):
            found.setdefault(node.name, node)
        return found


def _build_nodes(study: Study) -> Iterator[Node]:
    """Yield every use of a node, parents first."""
    builder = _NodeBuilder(study)
    for seed in study.seeds:
        yield from builder.replicate(NONE, None, seed, None)
        for arm in study.intermediate:
            for volume in study.arm_volumes.get(arm, study.volumes):
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
        arms, runs = study.intermediate, {name: config_for(study.targets, name) for name in study.targets}
        self._arms = {arm: self._read(arms[arm], study.fit_intermediate) for arm in arms}
        self._runs = {name: self._read(path, study.fit_target) for name, path in runs.items() if path}
        for target, config in self._runs.items():
            check_head(target, str(runs[target]), config["data"]["tasks"])
        self._blind = {name: blind_config(str(runs[name]), self._runs[name]) for name in study.blind}
        self._evaluate = dict(study.evaluate)
        if study.evaluate.get("perturbations"):
            self._evaluate["perturbations"] = perturbations_of(study.evaluate["perturbations"], study.targets)

    def _read(self, path: str, own: Settings) -> dict[str, Any]:
        """Return the config of a run of phase 2 or 3 with the study's keys."""
        return run_config(path, read_config(path), self._study.fit, own)

    def intermediate(self, arm: str, volume: int | None, seed: int) -> Node:
        """Return a run of phase 2."""
        study, config = self._study, self._arms[arm]
        tasks = counted_tasks(config["data"]["tasks"])
        if volume is not None:
            require(volume >= len(tasks), "volumes", volume, f"be at least 1 example for each task of {arm}")
        volumes = None if volume is None else dict(split_volume(tasks, volume))
        if volume in study.steps:
            config = scale_steps(config, study.steps[volume])
        own = {"seed_everything": seed, "model": {"encoder": study.encoder}, "data": {"volume": volumes}}
        label = f"{arm}-{'all' if volume is None else volume}-s{seed}"
        return self._node("intermediate", label, merge(config, own), (), Replicate(arm, volume, seed, seed))

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
                if target in study.blind:
                    name = f"{label}-{target}-{BLIND}-t{replicate.target_seed}"
                    yield from self._blind_target(target, name, start, replicate)

    def _target(self, target: str, label: str, start: Node | None, replicate: Replicate) -> Iterator[Node]:
        """Yield a fine-tuning run and the evaluations of the targets that it tests."""
        study, config = self._study, self._runs[target]
        period = checkpoint_period(study.selection, target, config["trainer"]["max_steps"])
        kept = {"checkpoints": {"keep_every_n_steps": period}} if period else {}
        node = self._fine_tuned(target, label, merge(config, kept), start, replicate)
        yield node
        tested = (target, *(name for name, run in study.targets.items() if run == target))
        runs = {"runs": [str(study.folder / node.name)], "tasks": list(tested)}
        yield self._evaluation(label, runs, (node.name,), replicate, tested)
        yield from self._selection(target, label, node, period, replicate)

    def _blind_target(
        self, target: str, label: str, start: Node | None, replicate: Replicate
    ) -> Iterator[Node]:
        """Yield a fine-tuning run without images, and its evaluation on unchanged rows without images."""
        node = self._fine_tuned(target, label, self._blind[target], start, replicate, is_blind=True)
        yield node
        runs = {"runs": [str(self._study.folder / node.name)], "tasks": [target], "perturbations": []}
        yield self._evaluation(label, runs, (node.name,), replicate, (target,), is_blind=True)

    def _fine_tuned(
        self, target: str, label: str, config: Settings, start: Node | None, replicate: Replicate,
        is_blind: bool = False,
    ) -> Node:  # fmt: skip
        """Return a fine-tuning run."""
        model = {"encoder": self._encoder_after(start)}
        own = {"seed_everything": replicate.target_seed, "model": model}
        parents = (start.name,) if start else ()
        return self._node("target", label, merge(config, own), parents, replicate, (target,), is_blind)

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
        self, label: str, own: Settings, parents: tuple[str, ...], replicate: Replicate,
        targets: tuple[str, ...], is_blind: bool = False,
    ) -> Node:  # fmt: skip
        """Return an evaluation with the study's settings for the tasks that it tests."""
        # A list in `own` replaces the perturbations of all targets.
        settings = settings_for(targets, merge(self._evaluate, own))
        return self._node("evaluate", label, settings, parents, replicate, targets, is_blind)

    def _encoder_after(self, node: Node | None) -> str:
        """Return the encoder that the next phase starts from: a run's folder or the study's encoder."""
        return str(self._study.folder / node.name) if node else self._study.encoder

    def _node(
        self, phase: Phase, label: str, settings: dict[str, Any], parents: tuple[str, ...],
        replicate: Replicate, targets: tuple[str, ...] = (), is_blind: bool = False,
    ) -> Node:  # fmt: skip
        """Return a node with its name and its folder."""
        job = "selection" if "checkpoint" in settings else phase
        settings = merge(settings, {"wandb": {"group": self._study.name, "job_type": job}})
        hashes = [self._encoder_hash, *vision_hash(settings)]
        name = node_name(phase, label, settings, parents, hashes)
        folder = str(self._study.folder / name)
        if phase == "evaluate":
            settings["out"] = folder
            # All evaluations of a study mix the same phrases; the digest has the study's encoder already.
            settings.setdefault("aligner", self._study.encoder)
        else:
            settings["trainer"] = {**settings["trainer"], "default_root_dir": escaped(folder)}
        return Node(phase, name, settings, parents, *replicate, targets=targets, is_blind=is_blind)
