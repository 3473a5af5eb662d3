"""Train the tasks of a config: `python -m xlt.fit --config configs/quickstart.yaml`.

The same command again continues from the newest checkpoint, at the exact batch; a finished run says so. Exit
codes: 0 the run is done, 75 it was told to stop and can be continued, 2 an error that a user can mend.
"""

import logging
import sys
from collections.abc import Sequence

if __name__ == "__main__":
    # The imports below take seconds, in which a signal may come.
    from xlt.system.signals import leave_at_signals

    leave_at_signals()

import torch

from xlt.config.cli import Cli, run_verb
from xlt.module import score_record
from xlt.system.checks import NotFiniteError
from xlt.system.lock import locked
from xlt.system.signals import Watch, bounded_end
from xlt.system.tables import as_json
from xlt.training.checkpoint_callback import Checkpoints
from xlt.training.checkpoint_files import best, newest, step_of, write_whole
from xlt.training.exporting import export_run
from xlt.training.metrics_file import MetricsFile, read_events
from xlt.training.results import results_of, table, validations_of

log = logging.getLogger("xlt.fit")


def fit(args: Sequence[str]) -> None:
    """Train, validate, and show what came out.

    Args:
        args: Command-line arguments.
    """
    with Watch() as watch:
        cli = Cli(args, watch=watch)
        if cli.folder.is_finished:
            _say_finished(cli)
        elif cli.trainer.is_global_zero:
            with locked(cli.folder.lock):
                # Another process may have been at work there until now.
                cli.folder.check(cli.resolved())
                if cli.folder.is_finished and cli.trainer.world_size == 1:  # several have to go in together
                    _say_finished(cli)
                else:
                    _train(cli)
        else:
            _train(cli)


def _say_finished(cli: Cli) -> None:
    """Nothing is to be done."""
    print(f"this run is finished: {cli.folder.results}. Nothing to do.")


def _train(cli: Cli) -> None:
    """Continue from the newest checkpoint to the end, and show what came out."""
    trainer, module, data = cli.trainer, cli.model, cli.datamodule
    checkpoint = newest(cli.folder.checkpoints)
    if checkpoint and trainer.is_global_zero:
        print(f"continuing from {checkpoint}")
    cli.gather()
    try:
        trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint else None)
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}. {_how_to_mend(cli)}") from error
    except torch.distributed.DistError as error:
        if torch.distributed.is_initialized():
            raise
        raise OSError(
            f"the processes cannot connect to each other ({error}): see MASTER_ADDR and MASTER_PORT"
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(("DataLoader worker", "Pin memory thread")):
            raise
        raise OSError(
            f"a process that makes batches was killed ({error}), as the system does when memory is short. "
            "Set data.num_workers to 0, or free memory; the same command continues from the newest checkpoint"
        ) from error
    except ValueError as error:
        if cli.recorder.started:
            raise RuntimeError("training broke off; the same command continues it") from error
        raise
    if not module.scores:
        trainer.validate(module, data, verbose=False)
    totals = cli.recorder.totals  # those of an earlier checkpoint once one is validated
    _complete_record(cli)
    if trainer.is_global_zero and trainer.state.finished:
        exported = export_run(cli.folder.path, cli.folder.model)
        results = results_of(cli.folder, module, data, totals)
        # Another than the best where that one no longer verifies.
        results["run"]["model_step"] = step_of(exported)
        write_whole(cli.folder.results, as_json(results))
        run = results["run"]
        print(f"\nbest of the validations, after step {run['best_step']:,} (scores in percent)\n")
        print(table(results, module))
        print(f"\n{run['step']:,} steps, {run['tokens']:,} tokens, {run['seconds']:.0f} s of training")
        if run["model_step"] != run["best_step"]:
            print(f"model/ is of step {run['model_step']:,}: the best checkpoint no longer verifies")
        print(f"the run's folder: {cli.folder.path}")


def _how_to_mend(cli: Cli) -> str:
    """Advice for a run that diverged."""
    good = newest(cli.folder.checkpoints)
    kept = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
    return (
        f"Nothing is exported; {kept}. Set trainer.default_root_dir to another folder and lower "
        "model.learning_rate, set trainer.gradient_clip_val or trainer.precision 32-true, or look at the rows"
    )


def _complete_record(cli: Cli) -> None:
    """Validate the best checkpoint again where the record, which results are read off, lacks its scores."""
    trainer, module = cli.trainer, cli.model
    chosen = None
    if trainer.is_global_zero:
        recorded = {event["step"] for event in validations_of(read_events(cli.folder.metrics), module)}
        (checkpoints,) = (found for found in trainer.checkpoint_callbacks if isinstance(found, Checkpoints))
        if not recorded or checkpoints.best_step not in recorded | {0}:
            chosen = best(cli.folder.checkpoints)
    chosen = trainer.strategy.broadcast(chosen)
    if chosen is not None:
        log.warning("%s lacks the validation of %s: it is made again", cli.folder.metrics, chosen)
        trainer.validate(module, cli.datamodule, ckpt_path=str(chosen), verbose=False)
        MetricsFile(cli.folder.metrics).log_metrics(score_record(module.scores), step_of(chosen))


if __name__ == "__main__":
    with bounded_end():
        sys.exit(run_verb(fit, sys.argv[1:]))
