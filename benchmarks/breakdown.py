"""Where the time of a training step goes, by torch's profiler in a run of xlt's own command."""

from typing import Any

from lightning import Callback
from torch.profiler import ProfilerActivity, profile

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

FIRST, LAST = 2, 5
"""Steps that are profiled."""


class _Profile(Callback):
    """Profiles some steps."""

    def __init__(self, device: str) -> None:
        kinds = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CPU, ProfilerActivity.CUDA]
        self.profile = profile(activities=kinds)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begin."""
        if batch_idx == FIRST:
            self.profile.start()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End."""
        if batch_idx == LAST:
            self.profile.stop()


def shares(setting: Setting) -> dict[str, float]:
    """Share of the profiled time by part, largest first; they add up to 1."""
    callback = _Profile(setting.device)
    xlt_run(setting, callbacks=[callback])
    on_cpu = setting.device == "cpu"
    events = callback.profile.key_averages()
    times = {e.key: e.self_cpu_time_total if on_cpu else e.self_device_time_total for e in events}
    total = sum(times.values())
    found = {part: sum(times.get(name, 0) for name in names) / total for part, names in PARTS.items()}
    found["the rest"] = 1 - sum(found.values())
    return dict(sorted(found.items(), key=lambda item: -item[1]))
