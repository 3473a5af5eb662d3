"""Check of the key model.compile."""

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
