"""The LightningModule: one shared encoder and a head for each task. A step trains one task."""

from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from xlt.batch.batch import Batch
from xlt.batch.host_copy import DeferredHostCopy
from xlt.data.sampling.episodes import steps_type_of
from xlt.data.sampling.order import seed_of
from xlt.datamodule import TransferData
from xlt.kinds.log_record import score_record
from xlt.kinds.shared_heads import by_head, fresh_head
from xlt.kinds.task import Scores
from xlt.learning.joint import joint_loss
from xlt.learning.maml import InnerLoop, halves, summed_gradients
from xlt.learning.meta import JOINT, MetaLearning
from xlt.models.compiling import check_compiling
from xlt.models.encoders.multimodal import project_images, start_vision
from xlt.models.encoders.text import Encoder
from xlt.models.heads.head import Head
from xlt.models.lean import Lean, check_keys
from xlt.models.lora import NO_LORA, Lora
from xlt.models.optim import adamw, check_rates, linear_schedule
from xlt.models.saving import load_heads, load_vision
from xlt.models.transfer_model import check_shape, logits_of, outputs_of, seeded
from xlt.system.checks import NotFiniteError, require
from xlt.system.ranks import from_all_ranks


class TransferModule(LightningModule):
    """A shared encoder and a head for each task.

    Args:
        encoder: Encoder to start from: a name on the hub, a folder with config, tokenizer and weights, or the
            folder of a finished run, whose best checkpoint is loaded. `xlt encoders` lists the families.
        learning_rate: Peak learning rate of AdamW, for the encoder's top layer.
        warmup_steps: Optimizer steps in which the learning rate rises linearly to its peak. It then falls
            linearly to 0 at trainer.max_steps.
        weight_decay: Weight decay of AdamW. Biases and norms have none.
        layer_decay: Learning rate of a layer divided by that of the layer above, such as 0.9. The embeddings
            are the lowest layer. Must be above 0 and at most 1. Defaults to one rate for all layers.
        head_learning_rate: Peak learning rate of the heads, and of the projection of images. Must be above
            0. Defaults to learning_rate.
        head_dropout: Dropout probability before and inside the heads.
        from_scratch: Start from random weights of the encoder's sizes instead of the encoder's own weights.
        dropout: Dropout probability inside the encoder, also on attention weights. Defaults to the value in
            the encoder's config.
        keep_heads: Start with the trained heads in the encoder's folder instead of new heads.
        vision_encoder: Vision encoder, for tasks with images: a model on the hub, such as
            openai/clip-vit-base-patch32, a folder, or efficientnet-lite0, which needs the extra vision.
            Defaults to none.
        vision_trainable: Train the vision encoder too. Its BatchNorm layers keep their statistics. If false,
            its features are computed once and kept in the cache.
        compile: Compile the encoder's layers with torch.compile. Needs CUDA and half precision. Takes 10 to
            30 seconds at the start. With XLM-R Large, training was 19 percent faster on the short rows of
            MNLI, but 6 percent slower on rows of mixed lengths.
        gradient_checkpointing: Compute each layer's activations again in the backward pass instead of keeping
            them. This saves memory and costs the time of a second forward pass. Gradients are the same.
        meta: Meta-learning over auxiliary languages, such as {algorithm: fomaml}. Defaults to joint learning.
        lora: LoRA to train instead of the encoder's weights, such as {rank: 8}. Defaults to none.
        language_lora: Run whose LoRA is added to the frozen encoder before training, such as a run of masked
            language modelling in English. xlt evaluate replaces it (language_loras). Defaults to none.
        frozen_layers: Freeze the embeddings and this many of the lowest layers. 0 freezes the embeddings
            alone. Defaults to no frozen weights.
        seed: Seed of the initial weights of heads and LoRA. Defaults to seed_everything.
    """

    def __init__(
        self,
        encoder: str,
        learning_rate: float = 1e-5,
        warmup_steps: int = 0,
        weight_decay: float = 0.01,
        layer_decay: float | None = None,
        head_learning_rate: float | None = None,
        head_dropout: float = 0.1,
        from_scratch: bool = False,
        dropout: float | None = None,
        keep_heads: bool = False,
        vision_encoder: str | None = None,
        vision_trainable: bool = False,
        compile: bool = False,
        gradient_checkpointing: bool = False,
        meta: MetaLearning = JOINT,
        lora: Lora = NO_LORA,
        language_lora: str | None = None,
        frozen_layers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_keys(lora, frozen_layers, language_lora, from_scratch, compile, gradient_checkpointing)
        check_rates(learning_rate, warmup_steps, weight_decay, layer_decay, head_learning_rate)
        for key, rate in (("dropout", dropout), ("head_dropout", head_dropout)):
            require(rate is None or 0 <= rate < 1, f"model.{key}", rate, "lie in 0 to 1, 1 excluded")
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps
        self.weight_decay, self.head_dropout, self.seed = weight_decay, head_dropout, seed
        self.layer_decay, self.head_learning_rate = layer_decay, head_learning_rate
        self.compile_layers, self.meta = compile, meta
        self.encoder = Encoder(encoder, from_scratch, dropout)
        if gradient_checkpointing:
            self.encoder.recompute_activations()
        self._lean = Lean(self.encoder, encoder, lora, frozen_layers, language_lora, seed_of("lora", seed))
        self._trained_heads = load_heads(encoder) if keep_heads else None
        self.vision = None if from_scratch else load_vision(encoder)
        self.heads = nn.ModuleDict()
        self._head_keys: dict[str, str] = {}
        self.step_loss = torch.zeros(())
        """This rank's part of the last step's loss."""
        self.gradient_norm = torch.zeros(())
        """Gradient norm of the last step before clipping."""
        self.support_loss = torch.zeros(())
        """This rank's part of the last step's support loss, mean over the adaptation steps."""
        self._inner = InnerLoop(meta.inner_steps, meta.inner_learning_rate)
        self.scores: dict[str, Scores] = {}
        """Scores of the last validation, by task."""
        self._outputs: dict[str, list[dict[str, np.ndarray]]] = {}
        self._has_nan: dict[str, Tensor] = {}
        self._copies = DeferredHostCopy(
            lambda task, outputs: self._outputs.setdefault(task, []).append(outputs)
        )

    @property
    def data(self) -> TransferData:
        """The data module that feeds this module."""
        return self.trainer.datamodule  # type: ignore[attr-defined, no-any-return]

    def setup(self, stage: str) -> None:
        """Compile the layers if the config asks for it, and create the heads.

        Raises:
            ValueError: Tasks with a common head have different classes, or the layers cannot be compiled.
        """
        if self.compile_layers:
            check_compiling(self.trainer.strategy.root_device.type, str(self.trainer.precision))
            self.encoder.compile_layers()
        # Lightning's own call comes later, in a context whose device and precision change the weights.
        self.configure_model()
        self.meta.check_heads(dict(self.heads.named_children()))
        self.data.steps_type = steps_type_of(self.meta.algorithm, self.meta.other_language)

    def configure_model(self) -> None:
        """Create the heads that are missing. Callbacks that copy the model call this before `setup`.

        Only the word embeddings of tokens that occur in the run's data become parameters. The heads' initial
        weights depend on the seed and the head's key only. Tasks with the same `head_key`, such as the
        languages of a task, share a head. Runs with images get a projection of image features.

        Raises:
            ValueError: Tasks with a common head have different classes, or the images do not fit the encoder.
        """
        if not self.heads:
            if self.encoder.words.weight.requires_grad and (ids := self.data.token_ids()) is not None:
                self.encoder.words.train_only(torch.from_numpy(ids))
            with seeded(seed_of("vision", self.seed)):
                is_kept = self._trained_heads is not None
                self.vision = start_vision(self.data.vision_settings, self.encoder, self.vision, is_kept)
        for key, task in by_head(self.data.tasks.values()).items():
            if key not in self.heads:
                about = self.encoder, self.head_dropout, self.seed, self._trained_heads
                self.heads[key] = fresh_head(task, *about)
        self._head_keys = {task.name: task.head_key for task in self.data.tasks.values()}

    def logits(self, batch: Batch) -> Tensor:
        """Return the task's logits for a micro-batch whose images are projected."""
        return logits_of(self.encoder, self._head(batch.task), batch)

    def _head(self, task: str) -> Head:
        head = self.heads[self._head_keys[task]]
        assert isinstance(head, Head)
        return head

    def training_step(self, batches: list[Batch], step: int) -> Tensor:
        """Return the loss of this rank's last micro-batch, after the backward passes of all others.

        A step's loss is the sum over its micro-batches on all ranks, divided by the sum of their weights.
        Lightning runs the last backward pass, in which DDP sums the gradients of the ranks. In meta-learning
        the step's loss is that of the query micro-batches.
        """
        self.step_loss = torch.zeros((), device=self.device)
        if self.meta.is_used:
            batches = self._adapt(batches)
        return joint_loss(batches, self._loss, self._backward, self.encoder.words.holding())

    def _adapt(self, batches: list[Batch]) -> list[Batch]:
        """Adapt the weights to the step's support micro-batches, and return its query micro-batches."""
        support, query = halves(batches)
        weights = self.meta.adapted(self, self._head(support[0].task))
        holding = self.encoder.words.holding
        self._inner.adapt(weights, lambda: summed_gradients(weights, support, self._loss, holding()))
        self.support_loss = self.step_loss / self.meta.inner_steps
        self.step_loss = torch.zeros_like(self.step_loss)
        return query

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Undo the adaptation of the weights. The optimizer applies the query's gradient to the original."""
        self._inner.restore()

    def _backward(self, loss: Tensor) -> None:
        """Run the backward pass of a loss."""
        with torch.autocast(self.device.type, enabled=False):
            self.trainer.strategy.backward(loss, None)

    def _loss(self, batch: Batch) -> Tensor:
        """Return the micro-batch's part of the step's loss, times the number of ranks, as DDP averages."""
        torch.manual_seed(batch.seed)
        batch = project_images(batch, self.vision)
        loss = self._head(batch.task).loss(self.logits(batch), batch.packing, batch.columns)
        loss = loss / batch.step_weight
        self.step_loss += loss.detach()
        return loss * self.trainer.world_size

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Keep the gradients. Lightning calls this after `training_step`, which has added some already."""

    def on_train_batch_start(self, batch: list[Batch], batch_idx: int) -> None:
        """Clear the gradients before the step."""
        self.zero_grad(set_to_none=True)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients by the Trainer's settings, and keep their norm for the log."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.gradient_norm = nn.utils.get_total_norm(gradients)
        if gradient_clip_algorithm in (None, "norm") and gradient_clip_val:
            nn.utils.clip_grads_with_norm_(self.parameters(), float(gradient_clip_val), self.gradient_norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with linear warm-up, and linear decay until trainer.max_steps."""
        rates = self.layer_decay or 1.0, self.head_learning_rate
        optimizer = adamw(self, self.learning_rate, self.weight_decay, *rates)
        schedule = linear_schedule(optimizer, self.warmup_steps, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Keep the head's outputs."""
        if len(batch.rows) == 0:
            return
        batch = project_images(batch, self.vision)
        outputs, has_nan = outputs_of(self.encoder, self._head(batch.task), batch)
        self._has_nan[batch.task] = has_nan | self._has_nan.get(batch.task, False)
        self._copies.add(batch.task, {**outputs, "rows": batch.rows})

    def on_validation_epoch_end(self) -> None:
        """Score every task on the predictions of all ranks.

        Raises:
            NotFiniteError: A logit is NaN or infinite.
        """
        self._copies.finish()
        parts = from_all_ranks(self._outputs)
        spoiled = set().union(*from_all_ranks({name for name, flag in self._has_nan.items() if flag}))
        self._outputs, self._has_nan = {}, {}
        if spoiled:
            raise NotFiniteError(
                f"the logits of {', '.join(sorted(spoiled))} are not finite in the validation after step "
                f"{self.global_step:,}"
            )
        scores = {
            name: self.data.score(name, outputs)
            for name in self.data.tasks
            if (outputs := [output for part in parts for output in part.get(name, [])])
        }
        if self.trainer.sanity_checking:
            return  # the sanity check scores only a part of the rows
        self.scores = scores
        for key, value in score_record(self.scores).items():
            self.log(key, value, logger=False, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the sizes of the encoder and the settings of images, and leave frozen weights out."""
        self._lean.leave_out(checkpoint, self.encoder)
        checkpoint["encoder_shape"] = self.encoder.shape
        settings = self.data.vision_settings or (self.vision and self.vision.settings)
        checkpoint["vision"] = settings and settings._asdict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare the encoder with that of the checkpoint, and drop moments that the run does not need.

        A checkpoint may hold the moments of all word embeddings, also of those that the run does not train.

        Raises:
            ValueError: A size differs, or frozen weights have changed.
        """
        check_shape(checkpoint.get("encoder_shape", {}), self.encoder.shape)
        self._lean.put_back(checkpoint, self.encoder)
        for optimizer in checkpoint["optimizer_states"]:
            states = optimizer["state"]
            states.update({i: self.encoder.words.moments_in_use(state) for i, state in states.items()})
