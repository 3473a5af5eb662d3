"""Accuracy and F1, in percent, by torchmetrics."""

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score


def accuracy(predictions: Tensor, targets: Tensor) -> float:
    """Return the share of predictions that equal their target, in percent.

    A target outside the predicted classes (an unseen tag, -1) counts as an error. torchmetrics refuses such
    targets.
    """
    return 100 * (predictions == targets).double().mean().item()


def positive_f1(predictions: Tensor, targets: Tensor) -> float:
    """Return F1 of class 1, in percent, as GLUE scores QQP.

    Source: Wang et al. (2019), https://arxiv.org/abs/1804.07461.
    """
    return 100 * binary_f1_score(predictions.int(), targets.int()).item()


def majority(targets: Tensor) -> Tensor:
    """Return the most frequent known target as the prediction for every target, to measure chance."""
    known = targets[targets >= 0]
    return torch.full_like(targets, int(torch.mode(known).values) if len(known) else 0)
