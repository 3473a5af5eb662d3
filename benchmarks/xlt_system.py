"""xlt's command as a measured system, with packed or with padded batches."""

import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLayer

from benchmarks.measuring import Measured, Setting, Stopwatch, Turn, alone
from benchmarks.workload import MAX_LENGTH
from xlt.batch.packing import Packing
from xlt.config.cli import CommandLine

LEARNING_RATE = 1e-4


class _Watch(Callback):
    """Callback that records each training step and each evaluation batch."""

    def __init__(self, warm_up: int, turn: Turn) -> None:
        self._turn = turn
        self.train, self.evaluation = Stopwatch(warm_up=warm_up), Stopwatch.of_evaluation()
        self.losses: list[Tensor] = []
        self.slots = 0
        self.first_step_seconds = 0.0
        self._begun = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Store the time at which an optimizer step begins."""
        self._begun = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record an optimizer step, and stop training if the turn says so."""
        self.first_step_seconds = self.first_step_seconds or time.perf_counter() - self._begun
        tokens = sum(part.num_tokens for part in batch)
        self.train.step(tokens)
        self.losses.append(pl_module.step_loss)
        self.slots += sum(part.packing.num_slots for part in batch)
        if not self._turn("train", tokens):
            trainer.should_stop = True

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Record the start of an evaluation."""
        self.evaluation.step(0)
        self._turn("evaluation", 0)

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record an evaluated batch."""
        self.evaluation.step(batch.num_tokens)
        self._turn("evaluation", batch.num_tokens)


def xlt_run(
    setting: Setting,
    padded: bool = False,
    options: Sequence[str] = (),
    *,
    turn: Turn = alone,
) -> Measured:
    """Train and evaluate with xlt's own command, and return the measurements.

    Args:
        setting: Settings that all systems share.
        padded: True to replace the packed encoder with a padded encoder.
        options: Further options of the command, such as `--model.head_dropout=0`.
        turn: Function to call after each step. By default, the system does not share the machine.
    """
    watch = _Watch(setting.warm_up, turn)
    with TemporaryDirectory(dir=setting.root) as folder, redirect_stdout(StringIO()):
        cli = CommandLine(
            [
                f"--model.encoder={setting.encoder}",
                f"--model.from_scratch={not setting.has_weights}",
                f"--model.compile={setting.compile}",
                f"--model.learning_rate={LEARNING_RATE}",
                "--data.tasks=[benchmarks.mixed]",
                f"--data.root={setting.root / 'rows'}",
                f"--data.cache={setting.root / 'cache'}",
                f"--data.max_length={MAX_LENGTH}",
                f"--data.validation_volume={setting.validation_rows}",
                f"--data.tokens_per_micro_batch={setting.tokens_per_micro_batch}",
                f"--data.micro_batches_per_step={setting.micro_batches_per_step}",
                f"--trainer.accelerator={setting.device}",
                "--trainer.devices=1",
                f"--trainer.max_steps={setting.steps}",
                f"--trainer.precision={setting.precision}",
                "--trainer.gradient_clip_val=1.0",
                f"--trainer.default_root_dir={folder}/run",
                "--trainer.logger=false",
                "--trainer.enable_progress_bar=false",
                "--checkpoints.every_n_steps=1000000",
                *options,
            ]
        )
        if padded:
            pad(cli.model.encoder)
        # Saving is not measured.
        kept = [part for part in cli.trainer.callbacks if not isinstance(part, Checkpoint)]  # type: ignore[attr-defined]
        cli.trainer.callbacks = [*kept, watch]  # type: ignore[attr-defined]
        cli.trainer.fit(cli.model, cli.datamodule)
    losses = [float(loss) for loss in watch.losses]
    return Measured(watch.train, watch.evaluation, losses, watch.slots, watch.first_step_seconds)


class _Padded(nn.Module):
    """Padded encoder of `transformers`, with SDPA attention and the interface of xlt's packed encoder."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        packing: Packing,
        token_indices: Tensor | None = None,
        images: None = None,
        segment_ids: None = None,
    ) -> Tensor:
        """Return the last layer's state of each token in `token_indices`. If None, of each real token."""
        column = torch.arange(packing.longest, device=input_ids.device)
        is_token = column < packing.lengths[:, None].to(input_ids.device)
        # Padding has the first token's id, because only ids of the data have a trained word embedding.
        padded = torch.full_like(is_token, int(input_ids[0, 0]), dtype=torch.long)
        padded[is_token] = input_ids[0]
        positions = torch.zeros_like(padded)
        positions[is_token] = position_ids[0]
        output = self.transformer(padded, is_token.long(), position_ids=positions)
        states = output.last_hidden_state[is_token]
        return states if token_indices is None else states[token_indices]


def pad(encoder: Any) -> None:
    """Change an xlt encoder: it pads every micro-batch to the longest sequence of the micro-batch."""
    encoder.transformer.set_attn_implementation("sdpa")
    encoder.transformer.encoder.layer[-1].__class__ = XLMRobertaLayer
    encoder.forward = _Padded(encoder.transformer).forward
