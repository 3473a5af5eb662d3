"""Where the time of a training step goes, by torch's profiler in a run of xlt's own command."""

import os
from typing import Any

import torch
from lightning import Callback
from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import now
from benchmarks.systems import Setting, xlt_run

PARTS = {
    "linear layers": ("aten::mm", "aten::addmm", "aten::linear"),
    "attention's products": ("aten::bmm", "aten::baddbmm"),
    "GELU": ("aten::gelu", "aten::gelu_backward"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data", "aten::masked_fill_"),
    "layer norm": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "dropout": ("aten::ge", "aten::mul", "aten::mul_", "aten::random_"),
    "gathering": ("aten::index_select", "aten::index_copy_", "aten::index"),
    "copies, fills, casts": ("aten::copy_", "aten::fill_", "aten::clone"),
    "sums": ("aten::add", "aten::add_", "aten::sum"),
    "optimizer": ("aten::_fused_adamw_", "aten::_foreach_norm", "aten::linalg_vector_norm"),
}
"""Operations by part of the step; all others, Python and random numbers among them, are the rest."""

KERNELS = {
    "attention": "flash fmha",
    "linear layers": "nvjet gemm cutlass xmma cublas splitK",
    "fused by compilation": "triton_",
    "optimizer and norm": "Adam adam multi_tensor",
    "word table's gradient": "embedding radix sort Reduce_by_key segment",
    "layer norm": "layer_norm",
    "GELU": "gelu",
    "dropout": "dropout",
    "copies, fills, casts": "copy memcpy memset fill",
    "sums": "reduce add Add",
}
"""On CUDA, words in the names of the kernels of a part; the first part that has one counts."""

QUIET = "6"
"""Level of kineto's log that leaves out the beginning and end of each profile."""

FIRST, LAST = 2, 5
"""Steps that are profiled, after those of warming up."""


class _Profile(Callback):
    """Profiles some steps."""

    def __init__(self, device: str, first: int) -> None:
        self._steps = (first, first + LAST - FIRST)
        kinds = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CUDA]
        self.profile = profile(activities=kinds)
        self.seconds = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin."""
        if batch_idx == self._steps[0]:
            self._wait()
            self.profile.start()
            self.seconds = -now()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End."""
        if batch_idx == self._steps[1]:
            self._wait()
            self.seconds += now()
            self.profile.stop()

    @staticmethod
    def _wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def shares(setting: Setting) -> dict[str, float]:
    """Share of the profiled time by part, largest first; they add up to 1."""
    os.environ.setdefault("KINETO_LOG_LEVEL", QUIET)
    callback = _Profile(setting.device, max(FIRST, setting.warm_up))
    xlt_run(setting, callbacks=[callback])
    if setting.device == "cpu":
        found = _by_operation(callback.profile)
        name = "the rest"
    else:
        found = _by_kernel(callback.profile, callback.seconds)
        name = "idle"
    found[name] = 1 - sum(found.values())
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _by_operation(profiled: profile) -> dict[str, float]:
    """Shares of the CPU's time."""
    times = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    total = sum(times.values())
    return {part: sum(times.get(name, 0) for name in names) / total for part, names in PARTS.items()}


def _by_kernel(profiled: profile, seconds: float) -> dict[str, float]:
    """Shares of the GPU's time, in which it may be idle."""
    found = dict.fromkeys([*KERNELS, "other kernels"], 0.0)
    for event in profiled.key_averages():
        words = KERNELS.items()
        part = next((p for p, names in words if any(n in event.key for n in names.split())), "other kernels")
        found[part] += event.self_device_time_total / 1e6 / seconds
    return found


def slowest_kernels(profiled: profile, number: int = 30) -> list[tuple[str, int, float]]:
    """Names, calls and milliseconds of the kernels that took longest."""
    events = sorted(profiled.key_averages(), key=lambda event: -event.self_device_time_total)
    return [(e.key[:90], e.count, e.self_device_time_total / 1e3) for e in events[:number]]
