"""Settings of meta-learning: the keys under `model.meta`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from xlt.system.checks import require


@dataclass(frozen=True)
class MetaLearning:
    """Meta-learning over auxiliary languages.

    Args:
        algorithm: Algorithm of a step. joint adds up the gradients of all micro-batches. fomaml and anil
            adapt the weights to the first half, the support, and train the original weights by the gradient
            of the second half, the query, at the adapted weights. fomaml (first-order MAML) adapts all
            weights, anil the head alone.
        inner_steps: Number of adaptation steps by plain SGD, each on all support rows of the step. Must be at
            least 1.
        inner_learning_rate: Learning rate of the adaptation steps. Must be above 0.
        other_language: Take the support rows from another language of the same task than the query rows.
        second_order: Differentiate through the adaptation. Must be false, because the lookup of word
            embeddings has no second derivative.

    Source: Finn et al. 2017 (arXiv 1703.03400), section 5.2: first-order MAML. ANIL: Raghu et al. 2020 (arXiv
    1909.09157). Auxiliary languages, and the inner learning rate: Nooralahzadeh et al. 2020 (arXiv
    2003.02739). Support and query in two languages: XLA-MAML (arXiv 2111.05805).
    """

    algorithm: Literal["joint", "fomaml", "anil"] = "joint"
    inner_steps: int = 1
    inner_learning_rate: float = 1e-4
    other_language: bool = False
    second_order: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: A value is not allowed.
        """
        known = self.algorithm in ("joint", "fomaml", "anil")
        require(known, "model.meta.algorithm", self.algorithm, "be joint, fomaml or anil")
        require(self.inner_steps >= 1, "model.meta.inner_steps", self.inner_steps, "be at least 1 step")
        rate = self.inner_learning_rate
        require(0 < rate < math.inf, "model.meta.inner_learning_rate", rate, "be above 0, and finite")
        other, rule = self.other_language, "be false with model.meta.algorithm joint, which has no support"
        require(self.is_used or not other, "model.meta.other_language", other, rule)
        rule = (
            "be false, because the lookup of word embeddings has no second derivative. Both algorithms use "
            "the first-order gradient"
        )
        require(not self.second_order, "model.meta.second_order", self.second_order, rule)

    @property
    def is_used(self) -> bool:
        """True if a step adapts weights."""
        return self.algorithm != "joint"

    def check_heads(self, heads: Mapping[str, nn.Module]) -> None:
        """Check that ANIL has weights to adapt.

        Args:
            heads: The heads by name.

        Raises:
            ValueError: A head has no weights.
        """
        for name, head in heads.items():
            if self.algorithm == "anil" and not any(True for _ in head.parameters()):
                raise ValueError(
                    f"model.meta.algorithm is anil, but the head of {name} has no weights to adapt: set "
                    "model.meta.algorithm to fomaml"
                )

    def adapted(self, model: nn.Module, head: nn.Module) -> list[nn.Parameter]:
        """Return the parameters that a step adapts.

        Args:
            model: Encoder and heads.
            head: Head of the step's task.
        """
        part = head if self.algorithm == "anil" else model
        return [parameter for parameter in part.parameters() if parameter.requires_grad]


JOINT = MetaLearning()
"""Joint learning: no step adapts weights."""
