"""The recipes of a study: further ways to train its runs, to see if an effect depends on such choices."""

from collections.abc import Mapping
from typing import Any

from xlt.studies.design.configs import merge
from xlt.studies.design.limits import FOLDER_NAME
from xlt.studies.design.targets import Targets
from xlt.system.checks import require

DEFAULT = "default"
"""Name of the recipe that the study's own keys are."""

RECIPE_KEYS = ("encoder", "fit", "fit_intermediate", "fit_target")
"""Keys of a study that a recipe can override."""


def check_recipes(recipes: Mapping[str, Any], targets: Targets) -> None:
    """Refuse recipes with invalid names, without keys, or with keys that no recipe has.

    Args:
        recipes: Keys of the study by recipe.
        targets: The study's targets.

    Raises:
        ValueError: A name or a key is not allowed, or no target is fine-tuned.
    """
    rule = "be left out, because no target of the study is fine-tuned"
    require(not recipes or any(targets.values()), "recipes", list(recipes), rule)
    for name, keys in recipes.items():
        fits = FOLDER_NAME.fullmatch(name) is not None and name != DEFAULT
        rule = f"be a valid folder name other than {DEFAULT}, which the study's own keys are"
        require(fits, "recipes", name, rule)
        known = isinstance(keys, Mapping) and bool(keys) and set(keys) <= set(RECIPE_KEYS)
        require(known, f"recipes.{name}", keys, f"be a mapping of some of the keys {', '.join(RECIPE_KEYS)}")


def overridden(own: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe's keys, merged into the study's own values.

    Args:
        own: Values of the study's keys.
        recipe: Values of the recipe's keys.
    """
    return {key: merge(own[key], value) if key != "encoder" else value for key, value in recipe.items()}
