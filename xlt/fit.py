"""Train the tasks of a config: `python -m xlt.fit --config configs/quickstart.yaml`.

The same command again continues from the newest checkpoint, at the exact batch; a finished run says so. Exit
codes: 0 the run is done, 75 it was told to stop and can be continued, 2 an error that a user can mend.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":
    # The imports below take seconds, in which a signal may come.
    from xlt.training.watch import leave_at_signals

    leave_at_signals()

from xlt.cli import Cli, run_verb
from xlt.tables import as_json
from xlt.training.checkpoints import newest, step_of, write_whole
from xlt.training.exporting import export_run
from xlt.training.lock import locked
from xlt.training.results import results_of, table
from xlt.training.watch import Watch, bounded_end


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
    try:
        trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint else None)
    except ValueError as error:
        if cli.recorder.started:
            raise RuntimeError("training broke off; the same command continues it") from error
        raise
    if not module.scores:
        trainer.validate(module, data, verbose=False)
    if trainer.is_global_zero and trainer.state.finished:
        exported = export_run(cli.folder.path, cli.folder.model)
        results = results_of(cli.folder, module, data, cli.recorder.totals)
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


if __name__ == "__main__":
    with bounded_end():
        sys.exit(run_verb(fit, sys.argv[1:]))
