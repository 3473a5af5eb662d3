"""Suggestions for unknown keys: renamed keys, Hugging Face's names, and similar keys of the group."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

RENAMED_KEYS = {
    "data.tokens_per_batch": "data.tokens_per_micro_batch",
    "data.batches_per_step": "data.micro_batches_per_step",
    "checkpoints.keep": "checkpoints.keep_last",
    "checkpoints.keep_period": "checkpoints.keep_every_n_steps",
    "preemption.look_every_n_steps": "preemption.check_every_n_steps",
    "preemption.time_limit": "preemption.grace_seconds",
    "tokens_per_batch": "tokens_per_micro_batch",
    "mixes": "num_mixes",
    "target_seeds": "num_target_seeds",
}
"""New names of renamed keys: first those of xlt.fit, then those of xlt.evaluate and xlt.study."""

HUGGING_FACE_NAMES = {
    "adam_learning_rate": "model.learning_rate",
    "auto_find_batch_size": "data.tokens_per_micro_batch",
    "batch_size": "data.tokens_per_micro_batch",
    "bf16": "trainer.precision",
    "data_seed": "seed_everything",
    "dataloader_num_workers": "data.num_workers",
    "dataset_name": "data.tasks",
    "doc_stride": "data.stride",
    "eval_steps": "trainer.val_check_interval",
    "eval_strategy": "trainer.val_check_interval",
    "evaluation_strategy": "trainer.val_check_interval",
    "fp16": "trainer.precision",
    "gradient_accumulation_steps": "data.micro_batches_per_step",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "hidden_dropout_prob": "model.dropout",
    "learning_rate": "model.learning_rate",
    "logging_steps": "trainer.log_every_n_steps",
    "lr": "model.learning_rate",
    "max_epochs": "epochs",
    "max_eval_samples": "data.validation_volume",
    "max_grad_norm": "trainer.gradient_clip_val",
    "max_length": "data.max_length",
    "max_seq_length": "data.max_length",
    "max_steps": "trainer.max_steps",
    "max_train_samples": "data.volume",
    "model_max_length": "data.max_length",
    "model_name": "model.encoder",
    "model_name_or_path": "model.encoder",
    "n_gpu": "trainer.devices",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "output_dir": "trainer.default_root_dir",
    "overwrite_output_dir": "trainer.default_root_dir",
    "per_device_eval_batch_size": "data.tokens_per_micro_batch",
    "per_device_train_batch_size": "data.tokens_per_micro_batch",
    "per_gpu_train_batch_size": "data.tokens_per_micro_batch",
    "pretrained_model_name_or_path": "model.encoder",
    "report_to": "wandb.project",
    "run_name": "name",
    "save_steps": "checkpoints.every_n_steps",
    "save_total_limit": "checkpoints.keep_last",
    "seed": "seed_everything",
    "task_name": "data.tasks",
    "torch_compile": "model.compile",
    "train_batch_size": "data.tokens_per_micro_batch",
    "warmup_ratio": "model.warmup_steps",
    "warmup_steps": "model.warmup_steps",
    "weight_decay": "model.weight_decay",
}
"""Name of a setting in transformers' TrainingArguments and example scripts → xlt's key."""


UNITS = {
    "data.tokens_per_micro_batch": "It counts tokens, not examples",
    "tokens_per_micro_batch": "It counts tokens, not examples",
    "model.warmup_steps": "It counts optimizer steps",
}
"""Key of xlt → its unit, which the setting of Hugging Face may not have."""

FOLLOWING_KEYS = ("data.encoder", "data.vision_encoder", "data.vision_trainable", "data.seed", "model.seed")
"""Keys that follow another key, and that no user sets."""


def unknown_in(config: Mapping[str, Any], known: Sequence[str], group: str = "") -> Iterator[str]:
    """Yield the dotted names of the keys of a config that a command does not have.

    Args:
        config: The config, nested or with dotted keys.
        known: The command's keys and groups of keys.
        group: Dotted name of the group that the config belongs to. Defaults to the whole config.
    """
    groups = {name.rpartition(".")[0] for name in known} - {""}
    for name, value in config.items():
        key = f"{group}.{name}" if group else str(name)
        plain = key.rstrip("+")
        if plain in groups:
            if isinstance(value, Mapping):
                yield from unknown_in(value, known, plain)
        # Keys below a key are the arguments of a class, or the names of a mapping.
        elif not any(plain == one or (plain.startswith(f"{one}.") and one not in groups) for one in known):
            yield key


def unknown_keys_message(places: Sequence[tuple[str, str]], known: Sequence[str]) -> str:
    """Return the error message for unknown keys, with a suggestion for each that has one.

    Args:
        places: Unknown keys, each with the name of its file, which is empty for the command line.
        known: The command's keys.
    """
    hints = {key: _hint(key, known) for key, _ in places}
    if len(places) > 1:
        told = [
            f"{key} ({'; '.join(filter(None, (file and f'in {file}', hints[key])))})".removesuffix(" ()")
            for key, file in places
        ]
        return f"unknown keys {', '.join(told)}. --help lists all keys"
    ((key, file),) = places
    hint = f"; {hints[key]}" if hints[key] else "."
    return f"unknown key {key}{hint}{f' The key is in {file}.' if file else ''} --help lists all keys"


def _hint(key: str, known: Sequence[str]) -> str:
    """Return the question that names the key that the user probably meant, or an empty text."""
    meant = suggested_key(key, known)
    unit = UNITS.get(meant or "") if key.rpartition(".")[2] in HUGGING_FACE_NAMES else None
    return f"did you mean {meant}?{f' {unit}.' if unit else ''}" if meant else ""


def suggested_key(key: str, known: Sequence[str]) -> str | None:
    """Return the key that the user probably meant, or None.

    Args:
        key: The unknown key, such as `model.lr`.
        known: The command's keys. `data.tasks` is a key, and `data` is its group.
    """
    keys = [name for name in known if not any(other.startswith(f"{name}.") for other in known)]
    keys = [name for name in keys if name not in FOLLOWING_KEYS]
    group, _, name = key.rpartition(".")
    alias = HUGGING_FACE_NAMES.get(name, "")
    for candidate in (RENAMED_KEYS.get(key), alias, alias.rpartition(".")[2], name):
        if candidate in keys:
            return candidate
    members = {member.rpartition(".")[2]: member for member in keys if member.rpartition(".")[0] == group}
    # Outside a group the whole name counts, and a name without its group matches in any group.
    everywhere = {member.rpartition(".")[2]: member for member in keys}
    for names in (members, everywhere):
        close = get_close_matches(name, names, 1)
        if close:
            return names[close[0]]
    close = get_close_matches(key, keys, 1)
    return close[0] if close else None
