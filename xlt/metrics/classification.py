"""Accuracy and F1, in percent, by torchmetrics."""

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score


def accuracy(predictions: Tensor, targets: Tensor) -> float:
    """Share of predictions that equal their target, in percent.

    A target outside the predicted classes (an unseen tag, -1) is an error; torchmetrics would refuse it.
    """
    return 100 * (predictions == targets).double().mean().item()


def positive_f1(predictions: Tensor, targets: Tensor) -> float:
    """F1 of class 1, in percent, as GLUE scores QQP (Wang et al. 2019)."""
    return 100 * binary_f1_score(predictions.int(), targets.int()).item()


def majority(targets: Tensor) -> Tensor:
    """The most frequent known target, predicted everywhere: the score of knowing nothing."""
    known = targets[targets >= 0]
    return torch.full_like(targets, int(torch.mode(known).values) if len(known) else 0)
