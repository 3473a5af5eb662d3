"""AdamW and the schedule of the learning rate, in optimizer steps."""

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> AdamW:
    """Return a fused AdamW without weight decay on biases and norms.

    Args:
        model: The model. Parameters that need no gradient are left out.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay of all other parameters.

    Source: Loshchilov and Hutter (2019). No decay on biases and norms: Devlin et al. (2019). Epsilon and
        betas:
    RoBERTa's fine-tuning (Liu et al. 2019, appendix C).
    """
    decayed, kept = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)


def linear_schedule(optimizer: AdamW, warmup_steps: int, max_steps: int) -> LambdaLR:
    """Return a schedule that rises linearly for `warmup_steps` + 1 steps, then falls linearly to 0.

    Args:
        optimizer: The optimizer.
        warmup_steps: Number of optimizer steps before the peak learning rate.
        max_steps: Number of optimizer steps after which the learning rate is 0.
    """

    def factor(step: int) -> float:
        """Return the learning rate as a share of its peak after `step` steps."""
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))

    return LambdaLR(optimizer, factor)
