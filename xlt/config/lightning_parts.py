"""Tables of Lightning's classes and names that a config may use, and the reasons against the others.

Lightning's parts are written for runs that count epochs and leave checkpoints to Lightning. A run of xlt
does neither, so each part was tested. The others are refused.
"""

WORKING_CLASSES = frozenset(
    {
        "Callback",
        "DeviceStatsMonitor",
        "EMAWeightAveraging",
        "EarlyStopping",
        "LearningRateMonitor",
        "ModelSummary",
        "RichModelSummary",
        "Logger",
        "CSVLogger",
        "MLFlowLogger",
        "TensorBoardLogger",
        "DDPStrategy",
        "Profiler",
        "AdvancedProfiler",
        "PassThroughProfiler",
        "PyTorchProfiler",
        "SimpleProfiler",
        "WeightAveraging",
        "ClusterEnvironment",
        "LightningEnvironment",
        "SLURMEnvironment",
        "TorchElasticEnvironment",
    }
)
"""Classes of Lightning that a config may name, and that classes of the user may extend."""

NEEDED_PACKAGES = {
    "DeviceStatsMonitor": ("psutil",),
    "RichModelSummary": ("rich",),
    "MLFlowLogger": ("mlflow",),
    "TensorBoardLogger": ("tensorboardX", "tensorboard"),
}
"""Working class → packages, one of which the class needs."""

_OWN_SAVES = (
    "every run saves and restores checkpoints: set checkpoints.every_n_steps, checkpoints.keep_last or "
    "checkpoints.keep_every_n_steps"
)
_OWN_BAR = "every run has a progress bar: trainer.enable_progress_bar turns the bar on or off"
_ONE_EPOCH = (
    "it acts at epochs, and a run has a single epoch: write a Callback of your own that acts at steps"
)
_NEEDS_FUNCTIONS = "it needs functions, which a config cannot pass: write a Callback of your own"

REFUSED_CLASSES = {
    "BackboneFinetuning": _ONE_EPOCH,
    "BaseFinetuning": _ONE_EPOCH,
    "BasePredictionWriter": "xlt fit makes no predictions: use xlt evaluate",
    "BatchSizeFinder": "it changes the micro-batches: set data.tokens_per_micro_batch",
    "Checkpoint": _OWN_SAVES,
    "GradientAccumulationScheduler": "it changes the steps: set data.micro_batches_per_step",
    "LambdaCallback": _NEEDS_FUNCTIONS,
    "LearningRateFinder": "it trains extra steps: compare runs with different model.learning_rate",
    "ModelCheckpoint": _OWN_SAVES,
    "ModelPruning": "it chooses weights before the heads exist, and export would fail",
    "OnExceptionCheckpoint": _OWN_SAVES,
    "ProgressBar": _OWN_BAR,
    "RichProgressBar": _OWN_BAR,
    "SaveConfigCallback": "the run's folder holds the whole config: see config.yaml there",
    "ServableModuleValidator": "the model is served from its exported folder: use xlt export",
    "SpikeDetection": "it sees a part of the step's loss, and it skips batches, which a schedule cannot",
    "StochasticWeightAveraging": "it averages at epochs, and a run is one epoch: use EMAWeightAveraging",
    "TQDMProgressBar": _OWN_BAR,
    "ThroughputMonitor": f"{_NEEDS_FUNCTIONS}, or read train/tokens_per_second in metrics.jsonl",
    "Timer": "a run that it ends counts as finished: send SIGTERM, and resume the run with the same command",
    "_LRCallback": "it trains extra steps: compare runs with different model.learning_rate",
    "CometLogger": "it was never tested with xlt: use W&B, whose keys are wandb.*, or TensorBoardLogger",
    "DummyLogger": "it logs nothing: set trainer.logger to false",
    "LitLogger": "it was never tested with xlt: use W&B, whose keys are wandb.*, or TensorBoardLogger",
    "WandbLogger": "a run logs to W&B already: set wandb.project, wandb.group, wandb.job_type and wandb.tags",
    "XLAProfiler": "xlt trains on CPUs and CUDA devices: use SimpleProfiler or PyTorchProfiler",
}
"""Refused class of Lightning → the reason, and the alternative."""

_WHOLE_WEIGHTS = (
    "checkpoints, exact resume, clipping and the gradient of the word embeddings need whole weights on every "
    "rank"
)
_LESS_MEMORY = (
    "If memory is short, set model.lora, set model.gradient_checkpointing to true, or lower "
    "data.tokens_per_micro_batch; of the word embeddings, only the rows in use take gradients and moments"
)

REFUSED_KINDS = {
    "Strategy": (
        f"xlt trains on one device or by DDP, because {_WHOLE_WEIGHTS}: set trainer.strategy to auto or ddp. "
        f"{_LESS_MEMORY}"
    ),
    "Accelerator": "set trainer.accelerator to auto, cpu or gpu",
    "Precision": "set trainer.precision instead",
    "CheckpointIO": _OWN_SAVES,
    "LayerSync": "XLM-R has no batch norm to synchronise: leave it out",
    "ClusterEnvironment": "start the processes by torchrun, srun or trainer.devices, which need no plugin",
}
"""Base class of which every other class is refused → the reason, and the alternative."""

_GPU_OR_CPU = "xlt trains on CPUs and CUDA devices: set trainer.accelerator to cpu or gpu"
_SPAWNED = "the scores of the processes that it starts would be lost: use ddp"
_SHARDED = (
    f"it splits weights or moments among the ranks, but {_WHOLE_WEIGHTS}. Use auto or ddp. {_LESS_MEMORY}"
)
_UNTESTED_XLA = "xlt trains on CPUs and CUDA devices: use auto or ddp"

NAMES: dict[str, dict[str, str]] = {
    "strategy": {
        "auto": "",
        "ddp": "",
        "ddp_find_unused_parameters_true": "",
        "ddp_find_unused_parameters_false": "",
        **{
            f"ddp_{start}{ending}": _SPAWNED
            for start in ("spawn", "fork", "notebook")
            for ending in ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
        },
        **{
            f"deepspeed{stage}": _SHARDED
            for stage in (
                "",
                "_stage_1",
                "_stage_2",
                "_stage_2_offload",
                "_stage_3",
                "_stage_3_offload",
                "_stage_3_offload_nvme",
            )
        },
        "fsdp": _SHARDED,
        "fsdp_cpu_offload": _SHARDED,
        "single_device": "it would ignore trainer.devices: use auto with trainer.devices 1",
        "single_tpu": _UNTESTED_XLA,
        "single_xla": _UNTESTED_XLA,
        "xla": _UNTESTED_XLA,
        "xla_debug": _UNTESTED_XLA,
    },
    "accelerator": {
        "auto": "",
        "cpu": "",
        "gpu": "",
        "cuda": "",
        "mps": "Apple's GPUs have no 64-bit floats, which xlt sums losses in: use cpu",
        "tpu": _GPU_OR_CPU,
    },
    "profiler": {
        "simple": "",
        "advanced": "",
        "pytorch": "",
        "xla": "xlt trains on CPUs and CUDA devices: use simple, advanced or pytorch",
    },
    "precision": {
        "auto": "",
        "32-true": "",
        "32": "",
        "64-true": "",
        "64": "",
        "bf16-mixed": "",
        "bf16": "",
        "16-mixed": "a step whose gradients overflow would count and train nothing: use bf16-mixed",
        "16": "it means 16-mixed, in which a step that overflows counts but trains nothing: use bf16-mixed",
        "16-true": "gradients below 6e-8 would become 0: use bf16-mixed",
        "bf16-true": "updates below a 256th of a weight would be rounded away: use bf16-mixed",
        "transformer-engine": "its layers were never tested with xlt: use bf16-mixed",
        "transformer-engine-float16": "its layers were never tested with xlt: use bf16-mixed",
    },
}
"""Trainer key → text that names a part → the reason against the part, empty if the part works."""
