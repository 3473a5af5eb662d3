"""The run's folder: a path with fields such as `runs/{config}-{seed}`, which the config fills."""

import re
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

DEFAULT = "runs/{config}"
"""The run's folder if trainer.default_root_dir is unset."""


def fill(template: str, config: Namespace, fields: dict[str, Any], key: str) -> str:
    """Return a template with its fields filled.

    Args:
        template: Text with fields in braces. {{ and }} are braces.
        config: The whole config. Its dotted keys are fields.
        fields: Values of the other fields; None if a field is not set.
        key: Key of the template, for error messages.

    Raises:
        ValueError: A field is unknown or not set.
    """

    def value_of(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        field = found[1]
        value = fields[field] if field in fields else config.get(field)
        if field == "name" and value is None:
            raise ValueError(f"{key} is {template}, but name is not set: give --name NAME")
        if value is None or isinstance(value, Namespace):
            raise ValueError(
                f"{key} is {template}, but {field} has no value in the config: use {{config}}, {{seed}}, "
                "{name}, or a dotted key such as {model.learning_rate}"
            )
        words = value if isinstance(value, list) else [value]
        return "-".join(map(str, words)).replace("/", "-")

    return re.sub(r"\{\{|\}\}|\{([^{}]*)\}", value_of, template)


def escaped(path: str) -> str:
    """Return a template that is filled to the path itself."""
    return path.replace("{", "{{").replace("}", "}}")


def name_folder(config: Namespace, config_name: str) -> None:
    """Fill the fields of name and trainer.default_root_dir. A name replaces the folder's last part.

    Args:
        config: The whole config.
        config_name: Name of the last config file without its ending.

    Raises:
        ValueError: A field is unknown or not set, or the name is no name of a folder.
    """
    fields = {"config": config_name, "seed": config.seed_everything, "name": None}
    folder = config.trainer.default_root_dir or DEFAULT
    if config.name is not None:
        config.name = fields["name"] = fill(config.name, config, fields, "name")
        if not config.name.strip(". ") or "/" in config.name:
            raise ValueError(f"name is {config.name!r}: it must be a name of a folder, without /")
        if "{name}" not in folder:
            folder = str(Path(folder).with_name("{name}"))
    config.trainer.default_root_dir = fill(str(folder), config, fields, "trainer.default_root_dir")
