"""Fetch and encode everything that a config needs, for machines without a network.

xlt prepare --config configs/quickstart.yaml

The command fills the caches of rows, tokenizer and weights, and lists the rows of each task. It accepts all
keys of xlt fit, and uses data.* and the encoders that model.* names.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":
    from xlt.config.help import start

    start("prepare")

from xlt.config.cli import CommandLine
from xlt.config.run_command import run_command
from xlt.models.encoders.text import Encoder


def prepare(args: Sequence[str]) -> None:
    """Fill the caches of rows, tokenizer and weights, and list the rows.

    Args:
        args: Command-line arguments of `xlt.fit`.
    """
    cli = CommandLine(args, build=False)
    cli.datamodule.prepare_data()
    line = "{:<16} {:<11} {:>10} {:>10} {:>13} {:>9} {:>8}"
    print(line.format("task", "split", "examples", "rows", "tokens", "unlabelled", "cut"))
    for name, splits in cli.datamodule.encoded.items():
        for split, encoded in splits.items():
            meta = encoded.meta
            counts = (meta.examples, meta.rows, meta.tokens, meta.dropped, meta.truncated)
            print(line.format(name, split, *(f"{count:,}" for count in counts)))
    model = cli.config.model
    encoder = Encoder(model.encoder, model.from_scratch)
    print(f"encoder {model.encoder}: {sum(p.numel() for p in encoder.parameters()):,} parameters")


if __name__ == "__main__":
    sys.exit(run_command(prepare, sys.argv[1:]))
