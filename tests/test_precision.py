"""Which CPUs are said to multiply bf16 numbers."""

import platform
from pathlib import Path

import pytest
import torch

from xlt.system.precision import chosen_precision, has_bf16

CPUINFO = Path("/proc/cpuinfo")
ON_X86 = platform.machine() == "x86_64" and CPUINFO.exists()


@pytest.mark.skipif(not ON_X86, reason="reads what Linux says of an x86 CPU")
def test_instructions_are_those_that_the_kernel_lists():
    flags = next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split()
    assert has_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags)


@pytest.mark.parametrize(
    ("machine", "avx512_bf16", "amx", "onednn", "expected"),
    [
        ("x86_64", False, False, False, False),  # AVX2 alone
        ("x86_64", False, False, True, False),  # AVX512 without bf16: oneDNN converts
        ("x86_64", True, False, True, True),
        ("x86_64", False, True, True, True),
        ("aarch64", False, False, True, True),
        ("aarch64", False, False, False, False),
    ],
)
def test_bf16_needs_instructions_not_only_a_library(
    machine: str, avx512_bf16: bool, amx: bool, onednn: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert has_bf16() == expected


@pytest.mark.parametrize(
    ("accelerator", "cuda", "mps", "cpu_has_bf16", "gpu_has_bf16", "expected"),
    [
        ("cpu", False, False, True, False, "bf16-mixed"),
        ("cpu", False, False, False, False, "32-true"),
        ("auto", True, False, False, True, "bf16-mixed"),
        ("gpu", True, False, True, False, "32-true"),  # a GPU that only emulates bf16
        ("cpu", True, False, False, True, "32-true"),  # the GPU is not used
        ("auto", False, True, True, False, "32-true"),  # Apple's GPU
        ("cpu", False, True, True, False, "bf16-mixed"),
    ],
)
def test_the_fast_precision_is_that_of_the_device_in_use(
    accelerator: str, cuda: bool, mps: bool, cpu_has_bf16: bool, gpu_has_bf16: bool, expected: str,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr("xlt.system.precision.has_bf16", lambda: cpu_has_bf16)
    assert chosen_precision("auto", accelerator) == expected
    assert chosen_precision("32-true", accelerator) == "32-true"
