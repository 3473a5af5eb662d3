"""Head for distillation. N tokens, R rows, K negatives, D hidden width of the student, E of the teacher."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xlt.batch.packing import Packing
from xlt.models.encoders.text import sum_by_sequence
from xlt.models.heads.head import Columns, Form, Head

SAME = 1e-4
"""Tolerance of cosine 1. A negative within the tolerance of a row's own vector is the same sentence."""


class DistillationHead(Head):
    """Head that maps the student's sentence vectors into the teacher's space, and compares them there.

    The map is linear, without a bias. Its matrix has orthonormal columns (the Q of a trained matrix's QR
    decomposition), or orthonormal rows if the student is wider than the teacher. A student that is not wider
    keeps all its cosines in the teacher's space, so the map is not needed once the student is trained.

    Args:
        hidden_size: Width of the student.
        teacher_size: Width of the teacher.
        temperature: Divisor of the cosines in the contrast.
        contrast: Factor of the contrast.

    Source: the loss of a pair follows Reimers and Gurevych (2020), https://arxiv.org/abs/2004.09813,
        equation 1. For vectors of length 1 their squared distance is 2 (1 - cosine). The contrast is that of
        van den Oord et al. (2018), https://arxiv.org/abs/1807.03748, equation 4.
    """

    form: ClassVar[Form | None] = "sentence-similarity"

    def __init__(self, hidden_size: int, teacher_size: int, temperature: float, contrast: float) -> None:
        super().__init__()
        self.map = nn.Linear(hidden_size, teacher_size, bias=False)
        self.temperature, self.contrast = temperature, contrast

    def forward(
        self, states: Float[Tensor, "N D"], packing: Packing, columns: Columns
    ) -> Float[Tensor, "R sides E"]:
        """Return vectors of length 1 of each row's sentences, in the teacher's space."""
        with torch.autocast(states.device.type, enabled=False):
            # Normalising the sum gives the same vector as normalising the mean.
            mapped = sum_by_sequence(states, packing) @ self._orthonormal().T
        num_rows = columns["teacher"].numel() // mapped.shape[1]
        return F.normalize(mapped, dim=-1).view(num_rows, -1, mapped.shape[1])

    def _orthonormal(self) -> Float[Tensor, "E D"]:
        """Return the matrix of the map."""
        weight = self.map.weight.float()
        is_wider = weight.shape[1] > weight.shape[0]
        basis = torch.linalg.qr(weight.T if is_wider else weight).Q
        return basis.T if is_wider else basis

    def loss(self, logits: Tensor, packing: Packing, columns: Columns) -> Float[Tensor, ""]:
        """Return 1 - cosine plus `contrast` times the contrast in nats, mean over sides, summed over rows."""
        with torch.autocast(logits.device.type, enabled=False):
            teacher = _teacher_of(logits, columns)
            cosines = (logits * teacher[:, None]).sum(-1)
            return ((1 - cosines) + self.contrast * self._contrast(logits, cosines, columns)).mean(1).sum()

    def _contrast(
        self, logits: Float[Tensor, "R sides E"], cosines: Float[Tensor, "R sides"], columns: Columns
    ) -> Float[Tensor, "R sides"]:
        """Return the cross-entropy, in nats, of the row's own teacher vector among the step's negatives."""
        negatives = F.normalize(columns["negatives"], dim=-1)
        is_same = _teacher_of(logits, columns) @ negatives.T > 1 - SAME
        wrong = (logits @ negatives.T).masked_fill(is_same[:, None], -torch.inf)
        scores = torch.cat([cosines[..., None], wrong], -1) / self.temperature
        return scores.logsumexp(-1) - scores[..., 0]

    def predict(self, logits: Tensor, packing: Packing, columns: Columns) -> Columns:
        """Return the vectors in the teacher's space."""
        return {"vectors": logits.float()}


def _teacher_of(logits: Float[Tensor, "R sides E"], columns: Columns) -> Float[Tensor, "R E"]:
    """Return the teacher's vector of each row, of length 1 in single precision."""
    return F.normalize(columns["teacher"].view(len(logits), -1), dim=-1)
