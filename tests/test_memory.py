"""Whether the memory of a large tensor is taken from the system again for the next one."""

import ctypes
import os
import platform
import subprocess
import sys
from unittest.mock import Mock

import pytest

from xlt.system.memory import NUM_PRIMITIVES, keep_freed_memory

PROGRAM = """
import resource, torch
from xlt.system.memory import keep_freed_memory
keep_freed_memory({device!r})
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def take():
    begin = faults()
    for _ in range(10):
        torch.ones(40 * 2**18)
    return faults() - begin
take()
print(take())
"""


def page_faults(device: str) -> int:
    """Of ten tensors of 40 MiB, one after the other, in a program of its own."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(device=device)], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
def test_a_cpu_keeps_the_memory_of_large_tensors():
    # Without, each has 10,240 pages, or 20 where the system takes large ones.
    assert page_faults("cpu") < page_faults("cuda") / 5


@pytest.mark.parametrize(
    ("device", "given", "found"), [("cpu", "", str(NUM_PRIMITIVES)), ("cpu", "7", "7"), ("cuda", "", "")]
)
def test_a_cpu_keeps_few_products_unless_the_user_says_otherwise(
    device: str, given: str, found: str, monkeypatch: pytest.MonkeyPatch
):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, given)
    if not given:
        monkeypatch.delenv(name)
    monkeypatch.setattr(ctypes, "CDLL", Mock())
    keep_freed_memory(device)
    assert os.environ.get(name, "") == found
    monkeypatch.delenv(name, raising=False)
