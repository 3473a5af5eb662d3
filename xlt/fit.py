"""Train the tasks of a config, and print their scores.

xlt fit --config configs/quickstart.yaml

The same command resumes an unfinished run from its newest checkpoint, at the exact batch. A finished run is
not trained again.

Exit codes: 0 the run is finished, 75 a signal stopped the run and the same command resumes it, 2 there is an
error that the user can fix, 130 Ctrl-C ended the run at once.
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # The imports below take seconds, in which a signal may come.
    from xlt.config.help import start

    start("fit")

import torch

from xlt.config.cli import CommandLine
from xlt.config.run_command import run_command
from xlt.kinds.log_record import score_record
from xlt.system.checks import NotFiniteError
from xlt.system.command_words import command_words
from xlt.system.files import write_atomically
from xlt.system.lock import locked
from xlt.system.signals import SignalWatcher, limit_shutdown
from xlt.system.tables import as_json, counted
from xlt.system.wandb_mode import wandb_mode
from xlt.training.checkpoint_callback import CheckpointCallback
from xlt.training.checkpoint_files import best, newest, step_of
from xlt.training.console_log import ConsoleLog
from xlt.training.exporting import export_run
from xlt.training.launch import places_restored
from xlt.training.metrics_file import MetricsFile, read_events
from xlt.training.recorder import Totals
from xlt.training.results import results_of, table, validations_of
from xlt.training.wandb_logger import RunWandbLogger

log = logging.getLogger("xlt.fit")


def fit(args: Sequence[str]) -> None:
    """Train and validate the tasks of a config, and print the scores.

    Args:
        args: Command-line arguments.
    """
    with SignalWatcher() as watcher, places_restored():
        cli = CommandLine(args, watcher=watcher)
        if cli.folder.is_finished:
            _print_finished(cli)
        elif cli.trainer.is_global_zero:
            with locked(cli.folder.lock):
                # Another process may have written to the folder until now.
                cli.folder.check(cli.resolved())
                if (
                    cli.folder.is_finished and cli.trainer.world_size == 1
                ):  # all ranks must take the same path
                    _print_finished(cli)
                else:
                    with ConsoleLog(cli.folder.log, command_words()) as cli.report.console:
                        _train(cli)
        else:
            _train(cli)


def _print_finished(cli: CommandLine) -> None:
    """Print that the run is finished."""
    print(f"this run is finished: {cli.folder.results}. Nothing to do.")


def _train(cli: CommandLine) -> None:
    """Train to the last step, write and print the results, and close the run at W&B."""
    try:
        _train_and_export(cli)
    finally:
        for logger in cli.trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.close()


def _train_and_export(cli: CommandLine) -> None:
    """Train from the newest checkpoint to the last step, and write and print the results."""
    trainer, module = cli.trainer, cli.model
    checkpoint = newest(cli.folder.checkpoints)
    if checkpoint and trainer.is_global_zero:
        print(f"continuing from {checkpoint}")
    elif cli.folder.starts.is_file() and trainer.is_global_zero:
        damaged = any(cli.folder.checkpoints.glob("*.ckpt"))
        lacks = "only damaged checkpoints" if damaged else "no checkpoint yet"
        print(f"{cli.folder.checkpoints} has {lacks}: the run starts again from step 0")
    cli.limit_rendezvous()
    _fit(cli, checkpoint)
    if not module.scores:
        trainer.validate(module, cli.datamodule, verbose=False)
    totals = cli.recorder.totals  # validating another checkpoint replaces them
    _complete_record(cli)
    if trainer.is_global_zero and trainer.state.finished:
        _write_results(cli, totals)


def _fit(cli: CommandLine, checkpoint: Path | None) -> None:
    """Train from a checkpoint to the last step, and explain the errors that the user can fix."""
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=str(checkpoint) if checkpoint else None)
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}. {_divergence_fix(cli)}") from error
    except torch.distributed.DistError as error:
        if torch.distributed.is_initialized():
            raise
        raise OSError(
            f"the processes cannot connect to each other ({error}): check MASTER_ADDR and MASTER_PORT"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(("DataLoader worker", "Pin memory thread")):
            raise
        raise OSError(
            f"a data worker was killed ({error}), which the system does when memory is short. Set "
            "data.num_workers to 0, or free memory; the same command resumes from the newest checkpoint"
        ) from error
    except ValueError as error:
        if cli.recorder.has_started:
            raise RuntimeError("training failed; the same command resumes the run") from error
        raise


def _write_results(cli: CommandLine, totals: Totals) -> None:
    """Export the best checkpoint, write results.json, and print the scores."""
    cli.report.write(cli.trainer)
    # The export reads the checkpoint. Memory holds the encoder once, not twice, and no optimizer.
    cli.trainer.strategy.optimizers, cli.trainer.strategy.lr_scheduler_configs = [], []
    del cli.model.encoder, cli.model.heads
    exported = export_run(cli.folder.path, cli.folder.model)
    results = results_of(cli.folder, cli.model, cli.datamodule, totals)
    run = results["run"]
    # The step differs from the best step if the best checkpoint is damaged.
    run["model_step"] = step_of(exported)
    write_atomically(cli.folder.results, as_json(results))
    print(f"\nbest validation, after step {run['best_step']:,} (scores in percent)\n")
    print(table(results, cli.model))
    print(f"\n{counted(run['step'], 'step')}, {run['tokens']:,} tokens, {run['seconds']:.0f} s of training")
    if run["model_step"] != run["best_step"]:
        print(f"model/ is from step {run['model_step']:,}: the best checkpoint is damaged")
    print(f"the run's folder: {cli.folder.path}")
    if (
        any(isinstance(logger, RunWandbLogger) for logger in cli.trainer.loggers)
        and wandb_mode() == "offline"
    ):
        print(f"W&B is offline. To send the run: `wandb login`, then `xlt wandb_sync {cli.folder.path}`")


def _divergence_fix(cli: CommandLine) -> str:
    """Return advice for a run whose loss or weights are not finite."""
    good = newest(cli.folder.checkpoints)
    kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
    return (
        f"Nothing is exported; {kept}. Give the run another --name (or trainer.default_root_dir) and "
        "lower model.learning_rate, set trainer.gradient_clip_val or trainer.precision 32-true, or check "
        "the rows"
    )


def _complete_record(cli: CommandLine) -> None:
    """Validate the best checkpoint again if the record, the source of the results, lacks its scores."""
    trainer, module = cli.trainer, cli.model
    chosen = None
    if trainer.is_global_zero:
        recorded = {event["step"] for event in validations_of(read_events(cli.folder.metrics), module)}
        (checkpoints,) = (
            found for found in trainer.checkpoint_callbacks if isinstance(found, CheckpointCallback)
        )
        if not recorded or checkpoints.best_step not in recorded | {0}:
            chosen = best(cli.folder.checkpoints)
    chosen = trainer.strategy.broadcast(chosen)
    if chosen is not None:
        log.warning(
            "%s lacks the validation of %s: the checkpoint is validated again", cli.folder.metrics, chosen
        )
        trainer.validate(module, cli.datamodule, ckpt_path=str(chosen), verbose=False)
        MetricsFile(cli.folder.metrics).log_metrics(score_record(module.scores), step_of(chosen))


if __name__ == "__main__":
    with limit_shutdown():
        sys.exit(run_command(fit, sys.argv[1:]))
