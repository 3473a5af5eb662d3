"""Which CPUs are said to multiply bf16 numbers."""

import platform
from pathlib import Path

import pytest
import torch

from xlt.system.precision import has_bf16

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
