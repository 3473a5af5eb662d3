"""AdamW and the learning rate's course, both counted in optimizer steps."""

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> AdamW:
    """AdamW without decay on biases and norms, fused.

    Source: Loshchilov and Hutter (2019); what is left out of the decay as in Devlin et al. (2019); epsilon
    and betas as RoBERTa's fine-tuning (Liu et al. 2019, appendix C).
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
    """Up in equal parts over `warmup_steps` and one step more, then down to 0 after `max_steps`."""

    def factor(step: int) -> float:
        """Share of the peak learning rate; `step` is the number of steps taken."""
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))

    return LambdaLR(optimizer, factor)
