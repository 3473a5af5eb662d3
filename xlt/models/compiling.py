"""Checks of the keys model.compile and model.gradient_checkpointing."""

from xlt.system.checks import require


def check_compiling(device: str, precision: str) -> None:
    """Check that the encoder's layers can be compiled.

    Args:
        device: Type of the device, such as cuda.
        precision: The key trainer.precision.

    Raises:
        ValueError: The device is not CUDA, or the precision is not half precision.
    """
    require(
        device == "cuda" and "16" in precision,
        "model.compile",
        True,
        f"be false on {device} in {precision}; compiled layers need CUDA and half precision, such as "
        "trainer.precision bf16-mixed",
    )


def check_checkpointing(is_checkpointing: bool, is_compiling: bool) -> None:
    """Check that the encoder's layers can compute their activations again in the backward pass.

    Args:
        is_checkpointing: The key model.gradient_checkpointing.
        is_compiling: The key model.compile.

    Raises:
        ValueError: Both are true.
    """
    require(
        not (is_checkpointing and is_compiling),
        "model.gradient_checkpointing",
        is_checkpointing,
        "be false with model.compile, because compiled layers choose for themselves what they compute again",
    )
