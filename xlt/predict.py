"""Predict the rows of a file or a pipe with a run's model, in any language.

xlt predict --run runs/mnli --input rows.csv --out predictions.csv

Rows have the columns that the task reads (xlt tasks NAME), or those that --columns names. They need no
label. Your columns are kept, and the prediction and its probability are added.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":
    from xlt.config.help import start

    start("predict")

from xlt.config.parser import CommandParser
from xlt.config.run_command import run_command
from xlt.evaluation.own_rows.predictor import predict_file


def make_parser() -> CommandParser:
    """Return the command's parser, with a key for each parameter of predict_file."""
    parser = CommandParser(prog="xlt predict")
    parser.add_function_arguments(predict_file, as_positional=False)
    return parser


def predict(args: Sequence[str]) -> None:
    """Run the command.

    Args:
        args: Command-line arguments.
    """
    predict_file(**vars(make_parser().parse_args(list(args))))


if __name__ == "__main__":
    sys.exit(run_command(predict, sys.argv[1:]))
