"""The commands of `xlt`: their modules, and the classes and functions whose parameters are their keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """Keys of a command that the help lists together.

    Args:
        title: Title in the help. Sections with the same title are one group.
        module: Module that holds the keys.
        owner: Class or function whose parameters are the keys. If empty, the module's `add_argument` calls.
        prefix: Prefix of the keys, such as `model.`.
        skipped: Parameters that are no keys, because another key sets them.
        defaults: Defaults that differ from those of the class.
        is_further: True if only `--help=all` lists the section.
    """

    title: str
    module: str
    owner: str = ""
    prefix: str = ""
    skipped: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)
    is_further: bool = False


_KEYS = "xlt.config.documented_keys"
_SETTINGS = "xlt.config.settings"
_FOLLOWING = ("seed", "encoder", "vision_encoder", "vision_trainable")
"""Keys of the data that follow a key of the model or of the run."""

_RUN = (
    Section("run", _KEYS, "GeneralKeys"),
    Section("model", "xlt.module", "TransferModule", "model.", ("seed", "meta", "lora")),
    Section("meta", "xlt.learning.meta", "MetaLearning", "model.meta.", is_further=True),
    Section("lora", "xlt.models.lora", "Lora", "model.lora.", is_further=True),
    Section("data", "xlt.datamodule", "TransferData", "data.", _FOLLOWING),
    Section("checkpoints", _SETTINGS, "CheckpointSettings", "checkpoints."),
    Section("preemption", _SETTINGS, "PreemptionSettings", "preemption."),
    Section("wandb", _SETTINGS, "WandbSettings", "wandb."),
    Section("trainer", _KEYS, "TrainerKeys", "trainer."),
    Section("trainer, further keys", _KEYS, "FurtherTrainerKeys", "trainer.", is_further=True),
)

COMMANDS: dict[str, tuple[Section, ...]] = {
    "fit": _RUN,
    "prepare": _RUN,
    "evaluate": (
        Section("keys", "xlt.evaluate"),
        Section("keys", "xlt.evaluation.evaluation", "Evaluation", skipped=("wandb",)),
        Section("wandb", _SETTINGS, "WandbSettings", "wandb.", defaults={"job_type": "evaluate"}),
    ),
    "predict": (Section("keys", "xlt.evaluation.own_rows.predictor", "predict_file"),),
    "export": (Section("keys", "xlt.training.exporting", "export_run"),),
    "study": (
        Section("call", "xlt.study"),
        Section("study", "xlt.studies.design.plan", "Study"),
    ),
    "study_dashboard": (Section("keys", "xlt.study_dashboard"),),
    "study_overview": (Section("keys", "xlt.study_overview"),),
    "wandb_sync": (Section("keys", "xlt.wandb_sync"),),
    "tasks": (Section("keys", "xlt.list_tasks"),),
    "encoders": (Section("keys", "xlt.list_encoders"),),
}
"""Sections of each command's keys, in the order of the help."""

_LISTS = ("tasks", "encoders")

MODULES = {name: f"xlt.list_{name}" if name in _LISTS else f"xlt.{name}" for name in COMMANDS}
"""Module of each command."""
