"""Execution of a command: logging, exit codes, and error messages without a traceback."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from lightning.fabric.utilities.exceptions import MisconfigurationException

from xlt.system.hub_private import fail_fast_without_hub
from xlt.system.signals import (
    ENDED_BY_CTRL_C,
    INTERRUPTED,
    interruptible,
    print_line,
    wait_for_launcher_exit,
)

IGNORED_WARNINGS = (
    ".*your dataloader is not resumable.*",  # the data module's state is the position
    ".*does not have many workers.*",  # a batch is a few gathers
    ".*treespec, LeafSpec.*",  # inside Lightning
    ".*`srun` command is available on your system but is not used.*",  # a single node needs no srun
    ".*is smaller than the logging interval.*",  # every step is logged, at the end at the latest
    ".*WeightAveraging doesn't support sharding.*",  # nothing is sharded
    ".*module.s. in eval mode at the start.*",  # a trained vision encoder keeps its BatchNorm statistics
    ".*args parameter is intended to run from within Python.*",  # a study parses the configs of its runs
)
"""Warnings of libraries that do not apply to xlt."""


CLOSED_PIPE = 128 + 13
"""Exit code of a command whose output was closed by its reader, as for a program that SIGPIPE ends."""


def run_command(command: Callable[[Sequence[str]], int | None], args: Sequence[str]) -> int:
    """Run a command, and turn an error that the user can fix into one message on stderr.

    Args:
        command: Function of the command. It may return an exit code.
        args: Command-line arguments.

    Returns:
        The exit code: 0 or the command's own, 2 after an error that the user can fix, 130 after Ctrl-C,
        141 after its output was closed.
    """
    _set_up_logging()
    fail_fast_without_hub()
    try:
        with interruptible():
            return command(args) or 0
    except KeyboardInterrupt:
        print_line(INTERRUPTED)
        return ENDED_BY_CTRL_C
    except BrokenPipeError:
        # The reader of the output, such as head, has read enough. Python would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except (ValueError, OSError, MisconfigurationException) as error:
        # Rank 0 prints the same message and ends the others; this rank prints if rank 0 does not.
        if not int(os.environ.get("LOCAL_RANK", "0")) or not wait_for_launcher_exit(10):
            print(f"error: {error}", file=sys.stderr)
        return 2


def _set_up_logging() -> None:
    """Show the messages of xlt, and silence those of libraries that do not apply."""
    logging.basicConfig(format="%(message)s")
    for name in ("xlt", "__main__"):  # python -m names the command's own module __main__
        logging.getLogger(name).setLevel(logging.INFO)
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for name in ("callbacks", "profilers"):  # these print what a config asks for, such as a profile
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
